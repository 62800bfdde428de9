"""Outputs of a model and the pullback of its Jacobian, on each backend."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Arrays = list[np.ndarray]
Cotangents = Callable[[Arrays], Arrays]


def pullback(
    model: keras.layers.Layer, inputs: Arrays, cotangents: Cotangents
) -> tuple[Arrays, Arrays]:
    """Outputs at `inputs`, and `J^T u` for each sample.

    Args:
        model: Keras model or layer; called with `training=False`.
        inputs: List of NumPy arrays, one per input, batch axis first.
        cotangents: Function of the list of outputs that returns the list of
            `u`; NumPy arrays in the shapes of the outputs.

    Returns:
        `(outputs, gradients)`: lists of NumPy arrays.
    """
    backends = {
        "tensorflow": _tensorflow,
        "jax": _jax,
        "torch": _torch,
    }
    backend = keras.backend.backend()
    if backend not in backends:
        raise RuntimeError(
            f"Gradients are available on {sorted(backends)}. Received: "
            f"backend {backend!r}. Pass `lower=False` for the upper bound."
        )
    return backends[backend](model, inputs, cotangents)


def without_gradients() -> contextlib.AbstractContextManager:
    """Context in which PyTorch keeps nothing for a backward pass."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def evaluate(model: keras.layers.Layer, inputs: Arrays) -> Arrays:
    """Outputs of the model, a list of NumPy arrays."""
    with without_gradients():
        return [_to_numpy(output) for output in _outputs(model, inputs)]


def _outputs(model: keras.layers.Layer, inputs: list) -> list:
    """Outputs at inference, of inputs in the order of `model.inputs`."""
    outputs = model(_packed(model, inputs), training=False)
    return keras.tree.flatten(outputs)


def _to_numpy(tensor: Any) -> np.ndarray:
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = keras.ops.cast(tensor, "float32")
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def _packed(model: keras.layers.Layer, inputs: list) -> Any:
    """Inputs in the structure that the model was made of."""
    if getattr(model, "inputs", None) and isinstance(model, keras.Function):
        return keras.tree.pack_sequence_as(model.input, inputs)
    return inputs[0] if len(inputs) == 1 else inputs


def _tensorflow(
    model: keras.layers.Layer, inputs: Arrays, cotangents: Cotangents
) -> tuple[Arrays, Arrays]:
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(array) for array in inputs]
    with tf.GradientTape() as tape:
        for tensor in tensors:
            tape.watch(tensor)
        outputs = keras.tree.flatten(
            model(_packed(model, tensors), training=False)
        )
    arrays = [_to_numpy(output) for output in outputs]
    seeds = [
        tf.cast(u, output.dtype)
        for u, output in zip(cotangents(arrays), outputs, strict=True)
    ]
    gradients = tape.gradient(
        outputs,
        tensors,
        output_gradients=seeds,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return arrays, [_to_numpy(gradient) for gradient in gradients]


def _jax(
    model: keras.layers.Layer, inputs: Arrays, cotangents: Cotangents
) -> tuple[Arrays, Arrays]:
    import jax
    import jax.numpy as jnp

    def call(tensors):
        return keras.tree.flatten(
            model(_packed(model, tensors), training=False)
        )

    outputs, pull = jax.vjp(call, [jnp.asarray(array) for array in inputs])
    arrays = [_to_numpy(output) for output in outputs]
    seeds = [
        jnp.asarray(u, output.dtype)
        for u, output in zip(cotangents(arrays), outputs, strict=True)
    ]
    (gradients,) = pull(seeds)
    return arrays, [_to_numpy(gradient) for gradient in gradients]


def _torch(
    model: keras.layers.Layer, inputs: Arrays, cotangents: Cotangents
) -> tuple[Arrays, Arrays]:
    import torch

    tensors = [
        keras.ops.convert_to_tensor(array).detach().requires_grad_()
        for array in inputs
    ]
    with torch.enable_grad():
        outputs = keras.tree.flatten(
            model(_packed(model, tensors), training=False)
        )
    arrays = [_to_numpy(output) for output in outputs]
    seeds = [
        torch.as_tensor(u, dtype=output.dtype, device=output.device)
        for u, output in zip(cotangents(arrays), outputs, strict=True)
    ]
    connected = [
        (output, seed)
        for output, seed in zip(outputs, seeds, strict=True)
        if output.requires_grad
    ]
    gradients: list[Any] = [None] * len(tensors)
    if connected:
        found = torch.autograd.grad(
            [output for output, _ in connected],
            tensors,
            [seed for _, seed in connected],
            allow_unused=True,
        )
        gradients = list(found)
    return arrays, [
        np.zeros(array.shape) if gradient is None else _to_numpy(gradient)
        for array, gradient in zip(inputs, gradients, strict=True)
    ]
