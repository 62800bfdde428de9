"""Products with a weight that cost an eager backend little."""

from keras import ops


def product_by_outputs(vectors, matrix):
    """`vectors @ matrix`, transposed, for the kernel of a convolution.

    Written this way the gradient of the kernel is laid out output by output,
    as is the one that PyTorch computes of the convolution, and the two add
    ten times faster.

    Args:
        vectors: Tensor `(n, rows)`.
        matrix: Tensor `(rows, columns)`.

    Returns:
        Tensor `(1, columns, n)`.
    """
    return ops.transpose(matrix)[None] @ ops.transpose(vectors)[None]


def reshaped(tensor, shape):
    """`keras.ops.reshape` of a tensor to a tuple of sizes.

    By the tensor's own method where it has one: the checks of Keras cost an
    eager backend ten times as much as the reshape.
    """
    method = getattr(tensor, "reshape", None)
    return ops.reshape(tensor, shape) if method is None else method(shape)
