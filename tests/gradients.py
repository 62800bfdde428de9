"""Gradients by each backend's own automatic differentiation."""

import keras


def gradients(loss, variables):
    """Gradients of `loss()` with respect to Keras variables, as tensors.

    Args:
        loss: Function without arguments that returns a scalar.
        variables: List of `keras.Variable`.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, [v.value for v in variables])
    if backend == "jax":
        import jax

        def stateless(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(mapping):
                return loss()

        return jax.jit(jax.grad(stateless))([v.value for v in variables])
    import torch

    return torch.autograd.grad(loss(), [v.value for v in variables])


def inner(outputs, array):
    """The inner product of a layer's outputs with an array."""
    return keras.ops.sum(keras.ops.multiply(outputs, array))
