"""Linear maps of Dense, EinsumDense and Embedding."""

import keras

from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight


@register_linear_map(keras.layers.Dense)
def dense(layer, norm):
    """The kernel, `(inputs, units)`; both norms agree."""
    del norm
    return [MatrixMap(AppliedWeight(layer, "kernel"))]


@register_linear_map(keras.layers.Embedding)
def embedding(layer, norm):
    """The table, which maps a one-hot vector to its row; both norms agree."""
    del norm
    return [MatrixMap(AppliedWeight(layer, "embeddings"))]


@register_linear_map(keras.layers.EinsumDense)
def einsum_dense(layer, norm):
    """One matrix per batch index of the equation; both norms agree.

    The axes of the kernel are sorted into batch axes (in the input and in
    the output), contracted axes (input only) and output axes.
    """
    del norm
    weight = AppliedWeight(layer, "kernel")
    batch, contracted, created = einsum_axes(layer.equation)
    return [
        MatrixMap(
            weight,
            blocks=_extent(weight, batch),
            columns=_extent(weight, created),
            permutation=(*batch, *contracted, *created),
        )
    ]


def einsum_axes(equation):
    """Positions of the kernel's batch, contracted and output axes.

    >>> from keras_sn.linear_maps.dense import einsum_axes
    >>> einsum_axes("abc,cde->abde")
    ([], [0], [1, 2])
    >>> einsum_axes("abc,bcd->abd")
    ([0], [1], [2])
    """
    operands, output = equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    batch, contracted, created = [], [], []
    for position, label in enumerate(kernel):
        if label in inputs and label in output:
            batch.append(position)
        elif label in output:
            created.append(position)
        else:
            contracted.append(position)
    return batch, contracted, created


def _extent(weight, axes):
    extent = 1
    for axis in axes:
        extent *= weight.shape[axis]
    return extent
