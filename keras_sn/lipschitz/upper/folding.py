"""Folding of chains: BatchNormalization into weights, linear into linear."""

import math

import numpy as np

from keras_sn.lipschitz.pieces.base import Flatten
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import LinearPiece
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import TINY
from keras_sn.norms.proofs import frobenius_upper
from keras_sn.norms.proofs import product_upper

# Share of a product that rounding may take, beyond which it stays apart.
_LOSS = 1e-6


class Link:
    """A piece of a chain with the names of the layers it stems from."""

    def __init__(self, piece, names):
        self.piece = piece
        self.names = names

    @property
    def name(self):
        return " + ".join(self.names)


def fold(links):
    """A shorter chain that computes the same, up to shifts.

    Args:
        links: List of `Link`, in the order they are applied.

    Returns:
        List of `Link`. Biases and shifts play no part in a Lipschitz
        constant, so none are kept.
    """
    folded: list[Link] = []
    for link in links:
        if isinstance(link.piece, Identity):
            continue
        while folded:
            composition = composed(folded[-1].piece, link.piece)
            if composition is None:
                break
            names = list(dict.fromkeys([*folded.pop().names, *link.names]))
            link = Link(composition, names)
        folded.append(link)
    return folded


def composed(first, second):
    """One piece for `second` after `first`, or `None`."""
    if isinstance(first, Slope) and isinstance(second, Slope):
        return second.after(first)
    if isinstance(first, LinearPiece) and _is_factor(second):
        return _scale_all(first, second.low, out=True)
    if _is_factor(first) and isinstance(second, LinearPiece):
        return _scale_all(second, first.low, out=False)
    if isinstance(first, Flatten) and isinstance(second, Matrix):
        return _behind_flatten(first, second)
    both = isinstance(first, LinearPiece) and isinstance(second, LinearPiece)
    if not both or first.outputs != second.inputs:
        return None
    if first.output_axis != second.axis:
        return None
    return _composed_linear(first, second)


def _is_factor(piece):
    return isinstance(piece, Slope) and piece.low == piece.high


def _scale_all(piece, factor, out):
    size = piece.outputs if out else piece.inputs
    scale = np.full(size, factor)
    return piece.scaled(scale, None) if out else piece.scaled(None, scale)


def _behind_flatten(flatten, matrix):
    fits = (
        flatten.channel_of is not None
        and matrix.channel_of is None
        and len(flatten.channel_of) == matrix.inputs
    )
    if not fits:
        return None
    return Matrix(
        matrix.array,
        flatten.axis,
        matrix.source,
        matrix.error,
        flatten.channel_of,
    )


def _composed_linear(first, second):
    if isinstance(first, Diagonal):
        return _with_diagonal(second, first, before=True)
    if isinstance(second, Diagonal):
        return _with_diagonal(first, second, before=False)
    if getattr(second, "channel_of", None) is not None:
        return None
    if isinstance(first, Matrix) and isinstance(second, Matrix):
        with np.errstate(over="ignore", invalid="ignore"):
            array = second.array @ first.array
        error = _product_error(first, second, first.outputs, array.size)
        return _sharp(
            Matrix(
                array, first.axis, "|W2 W1|", error, channel_of=first.channel_of
            )
        )
    if isinstance(first, Matrix) and first.channel_of is not None:
        return None
    if isinstance(first, Matrix) and isinstance(second, Kernel):
        return _with_matrix(second, first, before=True)
    if isinstance(first, Kernel) and isinstance(second, Matrix):
        return _with_matrix(first, second, before=False)
    # Between two convolutions, padding cuts off what leaves the image, so
    # the product of their symbols is not the symbol of what they do.
    return None


def _with_diagonal(piece, diagonal, before):
    if before:
        composition = piece.scaled(None, diagonal.vector)
    else:
        composition = piece.scaled(diagonal.vector, None)
    composition.error += _carried(diagonal.error, _size(piece) + piece.error)
    composition.source = _folded_source(piece)
    return _sharp(composition)


def _folded_source(piece):
    if isinstance(piece, Kernel):
        return "sup_w |diag(a) K^(w)|"
    return "max|a b|" if isinstance(piece, Diagonal) else "|diag(a) W|"


def _with_matrix(kernel, matrix, before):
    """A convolution with a matrix at each position, as one convolution."""
    if kernel.array.shape[2] != 1:
        return None
    # Kernels of a transposed convolution are those of its adjoint.
    side = "tigo,oj->tigj"
    if before != kernel.transposed:
        side = "tigo,ij->tjgo"
    weight = matrix.array if before else matrix.array.T
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.einsum(side, kernel.array, weight, optimize=True)
    error = _product_error(kernel, matrix, max(weight.shape), array.size)
    composition = Kernel(
        array,
        kernel.kernel_size,
        kernel.strides,
        kernel.axis,
        kernel.transposed,
        "sup_w |W K^(w)|",
        error,
    )
    return _sharp(composition)


def _product_error(first, second, terms, entries):
    """What rounding of a product can change, and errors carried over."""
    sizes = _size(first), _size(second)
    return (
        product_upper([(terms + 2) * EPS, *sizes])
        + product_upper([terms * entries, TINY])
        + _carried(first.error, sizes[1])
        + _carried(second.error, sizes[0])
        + _carried(first.error, second.error)
    )


def _carried(error, size):
    return product_upper([error, size]) if error else 0.0


def _sharp(composition):
    """The piece, or `None` where little of it is left within float64."""
    limit = _LOSS * _size(composition)
    return composition if composition.error <= limit < math.inf else None


def _size(piece):
    """A cheap upper bound of the norm."""
    if isinstance(piece, Diagonal):
        return float(np.abs(piece.vector).max(initial=0.0))
    factor = 1.0
    if isinstance(piece, Kernel):
        factor = math.sqrt(len(piece.array))
    return factor * frobenius_upper(piece.array)
