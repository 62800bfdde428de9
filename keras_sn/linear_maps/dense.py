"""Linear maps of Dense, EinsumDense and Embedding."""

import keras

from keras_sn.keras_access import known_layers
from keras_sn.linear_maps.base import size
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight


@register_linear_map(keras.layers.Dense)
def dense(layer, norm):
    """The kernel, `(inputs, units)`; both norms agree."""
    del norm
    return [MatrixMap(AppliedWeight(layer, "kernel"), channel_axis=-1)]


@register_linear_map(keras.layers.Embedding)
def embedding(layer, norm):
    """The table, which maps a one-hot vector to its row; both norms agree."""
    del norm
    return [MatrixMap(AppliedWeight(layer, "embeddings"))]


def reversible_embedding(layer, norm):
    """The table, and the one of the reverse projection where it is another."""
    tables = embedding(layer, norm)
    if not layer.tie_weights:
        tables.append(MatrixMap(AppliedWeight(layer, "reverse_embeddings")))
    return tables


for _kind in known_layers("ReversibleEmbedding"):
    register_linear_map(_kind)(reversible_embedding)


@register_linear_map(keras.layers.EinsumDense)
def einsum_dense(layer, norm):
    """One matrix per batch index of the equation; both norms agree.

    The axes of the kernel are sorted into batch axes (in the input and in
    the output), contracted axes (input only) and output axes.
    """
    weight = AppliedWeight(layer, "kernel")
    inputs, kernel, output = einsum_labels(layer.equation)
    if norm == "operator":
        _check_equation(layer)
    batch, contracted, created = einsum_axes(layer.equation)
    ends = [kernel[axis] for axis in (*contracted, *created)]
    last = not batch and ends == [inputs[-1], output[-1]]
    return [
        MatrixMap(
            weight,
            blocks=_extent(weight, batch),
            columns=_extent(weight, created),
            permutation=(*batch, *contracted, *created),
            channel_axis=-1 if last else None,
        )
    ]


def _check_equation(layer):
    """Raises `ValueError` unless the kernel's blocks are the whole map."""
    operands = einsum_labels(layer.equation)
    inputs, kernel, output = operands
    labels = [operand.replace("...", "") for operand in operands]
    if any(len(set(operand)) < len(operand) for operand in labels):
        fault = "repeats an axis within an operand"
    elif "." in kernel or ("." in inputs) != ("." in output):
        fault = "has an ellipsis that is not in both input and output"
    elif set(labels[0]) - set(labels[1]) - set(labels[2]):
        fault = "sums the input over an axis that the kernel does not have"
    elif set(labels[1]) - set(labels[0]) - set(labels[2]):
        fault = "sums the kernel over an axis that the input does not have"
    else:
        return
    raise ValueError(
        f"No norm is known of EinsumDense layer '{layer.name}': its equation "
        f"'{layer.equation}' {fault}. Write it with a label for each axis, "
        "once in each operand, such that each is in two of input, kernel and "
        "output at least (for example 'abc,cd->abd'), and sum before or after."
    )


def einsum_labels(equation: str) -> tuple[str, str, str]:
    """The labels of input, kernel and output of an equation."""
    operands, output = equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return inputs, kernel, output


def einsum_axes(equation: str) -> tuple[list[int], list[int], list[int]]:
    """Positions of the kernel's batch, contracted and output axes.

    >>> from keras_sn.linear_maps.dense import einsum_axes
    >>> einsum_axes("abc,cde->abde")
    ([], [0], [1, 2])
    >>> einsum_axes("abc,bcd->abd")
    ([0], [1], [2])
    """
    inputs, kernel, output = einsum_labels(equation)
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
    return size([weight.shape[axis] for axis in axes])
