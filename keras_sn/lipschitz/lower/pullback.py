"""Outputs of a model and the pullback of its Jacobian, on each backend."""

import keras
import numpy as np


def pullback(model, inputs, cotangents):
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


def evaluate(model, inputs):
    """Outputs of the model, a list of NumPy arrays."""
    outputs = model(_pack(inputs), training=False)
    return [_to_numpy(output) for output in keras.tree.flatten(outputs)]


def _to_numpy(tensor):
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = keras.ops.cast(tensor, "float32")
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def _pack(inputs):
    return inputs[0] if len(inputs) == 1 else inputs


def _tensorflow(model, inputs, cotangents):
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(array) for array in inputs]
    with tf.GradientTape() as tape:
        for tensor in tensors:
            tape.watch(tensor)
        outputs = keras.tree.flatten(model(_pack(tensors), training=False))
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


def _jax(model, inputs, cotangents):
    import jax
    import jax.numpy as jnp

    def call(tensors):
        return keras.tree.flatten(model(_pack(tensors), training=False))

    outputs, pull = jax.vjp(call, [jnp.asarray(array) for array in inputs])
    arrays = [_to_numpy(output) for output in outputs]
    seeds = [
        jnp.asarray(u, output.dtype)
        for u, output in zip(cotangents(arrays), outputs, strict=True)
    ]
    (gradients,) = pull(seeds)
    return arrays, [_to_numpy(gradient) for gradient in gradients]


def _torch(model, inputs, cotangents):
    import torch

    tensors = [
        keras.ops.convert_to_tensor(array).detach().requires_grad_()
        for array in inputs
    ]
    with torch.enable_grad():
        outputs = keras.tree.flatten(model(_pack(tensors), training=False))
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
    gradients = [None] * len(tensors)
    if connected:
        gradients = torch.autograd.grad(
            [output for output, _ in connected],
            tensors,
            [seed for _, seed in connected],
            allow_unused=True,
        )
    return arrays, [
        np.zeros(array.shape) if gradient is None else _to_numpy(gradient)
        for array, gradient in zip(inputs, gradients, strict=True)
    ]
