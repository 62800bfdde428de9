"""Rules of the pooling layers."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.keras_access import known_layers
from keras_sn.linear_maps.window import Window
from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.spatial import Averaging
from keras_sn.lipschitz.pieces.spatial import GlobalAveraging
from keras_sn.lipschitz.pieces.spatial import Margins
from keras_sn.lipschitz.pieces.spatial import Placement
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import norm_upper
from keras_sn.norms.proofs import product_upper


def spatial_sizes(layer: Any, call: Call) -> tuple[int | None, ...] | None:
    """Sizes of the spatial axes of the input, `None` where unknown."""
    if call.shape is None:
        return None
    if _channels_last(layer):
        return call.shape[1:-1]
    return call.shape[2:]


def fixed_sizes(layer: Any, call: Call) -> tuple[int, ...] | None:
    """Sizes of the spatial axes, `None` if one of them is not known."""
    sizes = spatial_sizes(layer, call) or (None,)
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def _channels_last(layer: Any) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def channelwise(
    layer: Any, constant: float, source: str, guarantee: str = EXACT
) -> Piece:
    """The piece of what acts on each channel alone."""
    axis = -1 if _channels_last(layer) else 1
    piece = Piece(
        constant, source, guarantee, channelwise=True, axes=(axis, axis)
    )
    piece.cancels = False
    return piece


def moved(layer: Any, source: str) -> Piece:
    """The piece of what moves or drops positions."""
    axis = -1 if _channels_last(layer) else 1
    return Rearrangement(source, channelwise=True, axes=(axis, axis))


def framed(layer: Any, source: str, sign: int) -> Margins:
    """The piece of what pads with zeros (`sign` 1) or crops (-1)."""
    axis = -1 if _channels_last(layer) else 1
    amounts = layer.padding if sign > 0 else layer.cropping
    # Of one axis Keras keeps the pair itself.
    pairs = [amounts] if np.ndim(amounts) == 1 else amounts
    margins = tuple((sign * before, sign * after) for before, after in pairs)
    return Margins(source, axis, margins)


@register_rule(
    keras.layers.MaxPooling1D, "prod sqrt(ceil(k/s))", "inputs in few windows"
)
@register_rule(
    keras.layers.MaxPooling2D, "prod sqrt(ceil(k/s))", "inputs in few windows"
)
@register_rule(
    keras.layers.MaxPooling3D, "prod sqrt(ceil(k/s))", "inputs in few windows"
)
def max_pooling(layer: Any, call: Call) -> Piece:
    windows = math.prod(
        -(-k // s) for k, s in zip(layer.pool_size, layer.strides, strict=True)
    )
    # Small inputs may fit into fewer windows than that.
    guarantee = EXACT if windows == 1 else UPPER
    piece = channelwise(
        layer, _root(windows), "prod sqrt(ceil(k/s))", guarantee
    )
    return _picking(piece)


def _root(number: float) -> float:
    """A square root, rounded up."""
    root = math.sqrt(number)
    return root if root == int(root) else root * (1 + 1e-15)


def _picking(piece: Piece) -> Piece:
    """The piece of what picks numbers and computes none."""
    piece.roundings, piece.terms = 0.0, 1
    return piece


@register_rule(
    keras.layers.AveragePooling1D, "prod |A_i|", "1-D matrices, with edges"
)
@register_rule(
    keras.layers.AveragePooling2D, "prod |A_i|", "1-D matrices, with edges"
)
@register_rule(
    keras.layers.AveragePooling3D, "prod |A_i|", "1-D matrices, with edges"
)
def average_pooling(layer: Any, call: Call) -> Piece:
    windows = list(zip(layer.pool_size, layer.strides, strict=True))
    sizes = spatial_sizes(layer, call) or (None,) * len(windows)
    repeats = layer.padding == "same" and _repeats_edges(sizes, windows)
    bound, exact = 1.0, True
    for size, (k, s) in zip(sizes, windows, strict=True):
        if size is not None and size <= 4096:
            matrix = averaging(size, k, s, layer.padding, repeats)
            bound *= norm_upper(matrix)
        elif layer.padding == "valid":
            # Rows sum to one, columns to at most ceil(k/s)/k.
            bound *= math.sqrt(-(-k // s) / k) * (1 + 1e-15)
            exact = exact and k <= s
        else:
            bound *= math.sqrt(-(-k // s)) if s < k else 1.0
            exact = False
    guarantee = EXACT if exact else UPPER
    placement, known = None, fixed_sizes(layer, call)
    if known is not None:
        ones = (1,) * len(windows)
        window = Window(
            tuple(layer.pool_size), tuple(layer.strides), ones, layer.padding
        )
        placement = Placement(window, known)
    axis = -1 if _channels_last(layer) else 1
    piece = Averaging(bound, guarantee, axis, placement, repeats)
    piece.terms = math.prod(k for k, _ in windows)
    return piece


def _repeats_edges(
    sizes: tuple[int | None, ...], windows: list[tuple[int, int]]
) -> bool:
    """Whether padding="same" repeats the edges instead of leaving them out.

    Keras on PyTorch does, on every axis, if one of them is padded unevenly.
    """
    uneven = any(
        size is not None and sum(_padding(size, k, s)) % 2
        for size, (k, s) in zip(sizes, windows, strict=True)
    )
    return uneven and _uneven_padding_repeats_edges()


@functools.cache
def _uneven_padding_repeats_edges() -> bool:
    """What this backend does, seen at the mean of 0, 1 and what follows."""
    probe = np.array([[[0.0], [1.0]]], "float32")
    mean = ops.average_pool(probe, 3, 2, "same", "channels_last")
    return float(ops.convert_to_numpy(mean)[0, 0, 0]) > 0.6


def _padding(size: int, pool: int, stride: int) -> tuple[int, int]:
    """Positions before and after the input with padding="same"."""
    total = max(pool - 1 - (size - 1) % stride, 0)
    return total // 2, total - total // 2


def averaging(
    size: int,
    pool: int,
    stride: int,
    padding: str,
    repeats_edges: bool = False,
) -> np.ndarray:
    """The matrix of 1-D average pooling.

    Windows that reach beyond the input average what lies inside of it, or
    repeat the nearest input for what lies outside.

    Example:

    >>> from keras_sn.lipschitz.rules.pooling import averaging
    >>> averaging(3, 2, 2, "same").tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    if padding == "valid":
        count, before = max((size - pool) // stride + 1, 0), 0
    else:
        count, before = -(-size // stride), _padding(size, pool, stride)[0]
    matrix = np.zeros((count, size))
    for row in range(count):
        window = row * stride - before + np.arange(pool)
        if not repeats_edges:
            window = window[(window >= 0) & (window < size)]
        np.add.at(
            matrix[row], np.clip(window, 0, size - 1), 1 / max(len(window), 1)
        )
    return matrix


@register_rule(keras.layers.GlobalMaxPooling1D, "1")
@register_rule(keras.layers.GlobalMaxPooling2D, "1")
@register_rule(keras.layers.GlobalMaxPooling3D, "1")
def global_max_pooling(layer: Any, call: Call) -> Piece:
    return _picking(_global(layer, 1.0, "global max: 1", EXACT))


@register_rule(keras.layers.GlobalAveragePooling1D, "1/sqrt(n)", "n positions")
@register_rule(keras.layers.GlobalAveragePooling2D, "1/sqrt(n)", "n positions")
@register_rule(keras.layers.GlobalAveragePooling3D, "1/sqrt(n)", "n positions")
def global_average_pooling(layer: Any, call: Call) -> Piece:
    axis = -1 if _channels_last(layer) else 1
    axes = axis, axis if layer.keepdims else -1
    sizes = fixed_sizes(layer, call)
    if sizes is None:
        return GlobalAveraging(1.0, "1/sqrt(n), n unknown", UPPER, axes)
    bound = 1 / math.sqrt(max(math.prod(sizes), 1)) * (1 + 1e-15)
    return GlobalAveraging(bound, "1/sqrt(n)", EXACT, axes)


def _global(layer: Any, constant: float, source: str, guarantee: str) -> Piece:
    axis = -1 if _channels_last(layer) else 1
    after = axis if layer.keepdims else -1
    piece = Piece(
        constant, source, guarantee, channelwise=True, axes=(axis, after)
    )
    piece.cancels = False
    return piece


def adaptive_average_pooling(layer: Any, call: Call) -> Piece:
    sizes = fixed_sizes(layer, call)
    if sizes is None:
        return unbounded(_OPEN.format("AdaptiveAveragePooling"), FIX)
    bound = product_upper(
        norm_upper(windows / windows.sum(axis=1, keepdims=True))
        for windows in _adaptive(layer, sizes)
    )
    return channelwise(layer, bound, "prod |A_i|", UPPER)


def adaptive_max_pooling(layer: Any, call: Call) -> Piece:
    sizes = fixed_sizes(layer, call)
    if sizes is None:
        return unbounded(_OPEN.format("AdaptiveMaxPooling"), FIX)
    windows = math.prod(w.sum(axis=0).max() for w in _adaptive(layer, sizes))
    source = "prod sqrt(windows per input)"
    return _picking(channelwise(layer, _root(windows), source, EXACT))


for _rank in "123":
    for _kind in known_layers(f"AdaptiveAveragePooling{_rank}D"):
        register_rule(_kind, "prod |A_i|", "1-D matrices")(
            adaptive_average_pooling
        )
    for _kind in known_layers(f"AdaptiveMaxPooling{_rank}D"):
        register_rule(_kind, "prod sqrt(windows per input)")(
            adaptive_max_pooling
        )

_OPEN = "The windows of {} depend on the input size, which is open."
FIX = "Fix the spatial size in `keras.Input`."


def _adaptive(layer: Any, sizes: tuple[int, ...]) -> Iterator[np.ndarray]:
    """For each axis, which inputs each window holds."""
    outputs = layer.output_size
    if isinstance(outputs, int):
        outputs = (outputs,) * len(sizes)
    for size, count in zip(sizes, outputs, strict=True):
        windows = np.zeros((count, size))
        for row in range(count):
            start = row * size // count
            windows[row, start : -(-(row + 1) * size // count)] = 1
        yield windows
