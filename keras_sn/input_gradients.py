"""Gradients of a layer's outputs in its inputs, differentiable once more."""

from typing import Any

import keras
from keras import ops


def input_gradients(
    layer: keras.layers.Layer, inputs: Any, **arguments: Any
) -> list:
    """Gradients of the sum of the outputs in the inputs.

    Args:
        layer: A built layer or model.
        inputs: One input, or the structure of inputs that it takes.
        **arguments: For its call.

    Returns:
        List of tensors, one for each input of real numbers, differentiable
        in the weights of the layer.

    Raises:
        ValueError: If no input has real numbers.
        RuntimeError: If the backend has no gradients.
    """
    tensors = [
        ops.convert_to_tensor(array) for array in keras.tree.flatten(inputs)
    ]
    real = [
        i
        for i, tensor in enumerate(tensors)
        if "float" in keras.backend.standardize_dtype(tensor.dtype)
    ]
    if not real:
        raise ValueError(
            "A gradient needs an input of real numbers. Received inputs of "
            f"the dtypes {[str(tensor.dtype) for tensor in tensors]}."
        )

    def packed(variables: list) -> Any:
        replaced = dict(zip(real, variables, strict=True))
        everything = [replaced.get(i, t) for i, t in enumerate(tensors)]
        return keras.tree.pack_sequence_as(inputs, everything)

    backends = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    backend = keras.backend.backend()
    if backend not in backends:
        raise RuntimeError(
            f"Gradients are available on {sorted(backends)}. Received: "
            f"backend {backend!r}."
        )
    found = backends[backend](
        layer, packed, [tensors[i] for i in real], arguments
    )
    return list(found)


def _total(outputs: Any) -> Any:
    """The sum over all outputs, in single precision at least."""
    sums = [
        ops.sum(ops.cast(output, "float32"))
        for output in keras.tree.flatten(outputs)
    ]
    return sum(sums[1:], sums[0])


def _tensorflow(layer, packed, variables: list, arguments: dict) -> list:
    import tensorflow as tf

    # Persistent or not, an outer tape sees what this one does.
    with tf.GradientTape() as tape:
        tape.watch(variables)
        total = _total(layer(packed(variables), **arguments))
    return tape.gradient(
        total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def _torch(layer, packed, variables: list, arguments: dict) -> list:
    import torch

    variables = [tensor.detach().requires_grad_() for tensor in variables]
    with torch.enable_grad():
        total = _total(layer(packed(variables), **arguments))
    found = torch.autograd.grad(
        total, variables, create_graph=True, allow_unused=True
    )
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(variables, found, strict=True)
    ]


def _jax(layer, packed, variables: list, arguments: dict) -> list:
    import jax

    # State that is assigned inside would leave the inner trace: it is taken
    # out as a value instead.
    state = layer.non_trainable_variables

    def total(variables):
        outputs, new = layer.stateless_call(
            [v.value for v in layer.trainable_variables],
            [v.value for v in state],
            packed(variables),
            **arguments,
        )
        return _total(outputs), new

    variables = [jax.lax.stop_gradient(tensor) for tensor in variables]
    gradients, new = jax.grad(total, has_aux=True)(variables)
    for variable, value in zip(state, new, strict=True):
        variable.assign(value)
    return gradients
