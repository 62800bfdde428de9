"""Rules of the operations that move, pick, repeat or reduce along axes."""

import math

import numpy as np

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement
from keras_sn.lipschitz.rules.activations import log_softmax_piece
from keras_sn.lipschitz.rules.activations import softmax_piece
from keras_sn.lipschitz.rules.operation import OperationRule
from keras_sn.lipschitz.rules.operation import Use
from keras_sn.lipschitz.rules.operation import as_array
from keras_sn.lipschitz.rules.operation import unknown
from keras_sn.lipschitz.rules.shaping import repetition_piece

_ISOMETRIES = (
    "ArraySplit",
    "ExpandDims",
    "Flip",
    "Moveaxis",
    "Ravel",
    "Reshape",
    "Roll",
    "Sort",
    "Split",
    "Squeeze",
    "Swapaxes",
    "Transpose",
)


def _moved(use: Use) -> Piece:
    return Rearrangement()


def _softmax(use: Use) -> Piece:
    return softmax_piece(use.operation.axis, use.call)


def _log_softmax(use: Use) -> Piece:
    return log_softmax_piece(use.operation.axis, use.call)


def _reduced(use: Use) -> int | None:
    """How many numbers a reduction takes; `None` if it is not known."""
    axis, shape = use.operation.axis, use.shape
    axes = range(len(shape)) if axis is None else np.atleast_1d(axis)
    sizes = [shape[int(axis)] for axis in axes]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or 0 in [int(a) % len(shape) for a in axes]:
        # The batch axis mixes samples.
        return None
    return math.prod(known)


def _mean(use: Use) -> Piece:
    size = _reduced(use)
    if size is None:
        return unknown("Mean over the batch or an open axis")
    return _total(1 / math.sqrt(size), "1/sqrt(n)", size)


def _sum(use: Use) -> Piece:
    size = _reduced(use)
    if size is None:
        return unknown("Sum over the batch or an open axis")
    return _total(math.sqrt(size), "sqrt(n)", size)


def _total(constant: float, source: str, size: int) -> Piece:
    piece = Piece(constant * (1 + 1e-15), source)
    piece.terms, piece.cancels = size, False
    return piece


def _extremum(use: Use) -> Piece:
    if _reduced(use) is None:
        return unknown("an extremum over the batch or an open axis")
    return Piece(1.0, "one of its inputs")


def _norm(use: Use) -> Piece:
    if use.operation.ord not in (None, "fro", 2):
        return unknown("Norm of this order")
    return Piece(1.0, "the norm of an input", UPPER)


def _get_item(use: Use) -> Piece:
    key = use.args[1] if len(use.args) > 1 else use.kwargs.get("key")
    parts = key if isinstance(key, tuple) else (key,)
    if all(
        isinstance(part, (slice, int)) or part in (None, Ellipsis)
        for part in parts
    ):
        return Rearrangement("a part of its input")
    return unknown("indexing by an array")


def _pad(use: Use) -> Piece:
    if use.operation.mode == "constant":
        return Rearrangement("padding")
    return unknown("Pad with repeated entries")


def _repeat(use: Use) -> Piece:
    times = as_array(use.operation.repeats)
    if times is None or times.size == 0:
        return unknown("Repeat by a tensor")
    return repetition_piece(int(times.max()))


def _tile(use: Use) -> Piece:
    times = as_array(list(np.atleast_1d(use.operation.repeats)))
    if times is None:
        return unknown("Tile by a tensor")
    return repetition_piece(int(times.prod()))


def _take(use: Use) -> Piece:
    indices, axis = use.constant, use.operation.axis
    if indices is None or not use.starts_with_tensor or axis is None:
        return unknown("Take by a tensor, or without an axis")
    size = use.shape[axis]
    if indices.size and indices.min() < 0:
        if size is None:
            return unknown("Take from the end of an open axis")
        indices = indices % size
    counts = np.unique(indices, return_counts=True)[1]
    return repetition_piece(int(counts.max(initial=1)))


ON_AXES: dict[str, OperationRule] = {
    **dict.fromkeys(_ISOMETRIES, _moved),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Mean": _mean,
    "Sum": _sum,
    "Max": _extremum,
    "Amax": _extremum,
    "Min": _extremum,
    "Amin": _extremum,
    "Norm": _norm,
    "GetItem": _get_item,
    "Pad": _pad,
    "Repeat": _repeat,
    "Tile": _tile,
    "Take": _take,
}
