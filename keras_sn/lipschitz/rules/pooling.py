"""Rules of the pooling and upsampling layers."""

import math

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import norm_upper


def spatial_sizes(layer, call):
    """Sizes of the spatial axes of the input, `None` where unknown."""
    if call.shape is None:
        return None
    if _channels_last(layer):
        return call.shape[1:-1]
    return call.shape[2:]


def _channels_last(layer):
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def channelwise(layer, constant, source, guarantee=EXACT):
    axis = -1 if _channels_last(layer) else 1
    return Piece(
        constant, source, guarantee, channelwise=True, axes=(axis, axis)
    )


@register_rule(
    keras.layers.MaxPooling1D, "prod sqrt(ceil(k/s))", "inputs in few windows"
)
@register_rule(
    keras.layers.MaxPooling2D, "prod sqrt(ceil(k/s))", "inputs in few windows"
)
@register_rule(
    keras.layers.MaxPooling3D, "prod sqrt(ceil(k/s))", "inputs in few windows"
)
def max_pooling(layer, call):
    windows = math.prod(
        -(-k // s) for k, s in zip(layer.pool_size, layer.strides, strict=True)
    )
    # Small inputs may fit into fewer windows than that.
    guarantee = EXACT if windows == 1 else UPPER
    return channelwise(
        layer, math.sqrt(windows), "prod sqrt(ceil(k/s))", guarantee
    )


@register_rule(
    keras.layers.AveragePooling1D, "prod |A_i|", "1-D matrices, with edges"
)
@register_rule(
    keras.layers.AveragePooling2D, "prod |A_i|", "1-D matrices, with edges"
)
@register_rule(
    keras.layers.AveragePooling3D, "prod |A_i|", "1-D matrices, with edges"
)
def average_pooling(layer, call):
    windows = list(zip(layer.pool_size, layer.strides, strict=True))
    sizes = spatial_sizes(layer, call) or (None,) * len(windows)
    repeats = _repeats_edges(layer, sizes, windows)
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
    return channelwise(layer, bound, "prod |A_i|", guarantee)


def _repeats_edges(layer, sizes, windows):
    """Whether padding="same" repeats the edges instead of leaving them out.

    Keras on PyTorch does, on every axis, if one of them is padded unevenly.
    """
    if layer.padding == "valid" or keras.backend.backend() != "torch":
        return False
    return any(
        size is not None and sum(_padding(size, k, s)) % 2
        for size, (k, s) in zip(sizes, windows, strict=True)
    )


def _padding(size, pool, stride):
    """Positions before and after the input with padding="same"."""
    total = max(pool - 1 - (size - 1) % stride, 0)
    return total // 2, total - total // 2


def averaging(size, pool, stride, padding, repeats_edges=False):
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
def global_max_pooling(layer, call):
    return _global(layer, 1.0, "global max: 1", EXACT)


@register_rule(keras.layers.GlobalAveragePooling1D, "1/sqrt(n)", "n positions")
@register_rule(keras.layers.GlobalAveragePooling2D, "1/sqrt(n)", "n positions")
@register_rule(keras.layers.GlobalAveragePooling3D, "1/sqrt(n)", "n positions")
def global_average_pooling(layer, call):
    sizes = spatial_sizes(layer, call)
    masked = call.arguments.get("mask") is not None
    if masked or sizes is None or None in sizes:
        return _global(layer, 1.0, "1/sqrt(n), n unknown", UPPER)
    bound = 1 / math.sqrt(max(math.prod(sizes), 1)) * (1 + 1e-15)
    return _global(layer, bound, "1/sqrt(n)", EXACT)


def _global(layer, constant, source, guarantee):
    axis = -1 if _channels_last(layer) else 1
    after = axis if layer.keepdims else -1
    return Piece(
        constant, source, guarantee, channelwise=True, axes=(axis, after)
    )


@register_rule(
    keras.layers.AdaptiveAveragePooling1D, "prod |A_i|", "1-D matrices"
)
@register_rule(
    keras.layers.AdaptiveAveragePooling2D, "prod |A_i|", "1-D matrices"
)
@register_rule(
    keras.layers.AdaptiveAveragePooling3D, "prod |A_i|", "1-D matrices"
)
def adaptive_average_pooling(layer, call):
    sizes = spatial_sizes(layer, call)
    if sizes is None or None in sizes:
        return unbounded(_OPEN.format("AdaptiveAveragePooling"), _FIX)
    bound = math.prod(
        norm_upper(windows / windows.sum(axis=1, keepdims=True))
        for windows in _adaptive(layer, sizes)
    )
    return channelwise(layer, bound, "prod |A_i|", UPPER)


@register_rule(
    keras.layers.AdaptiveMaxPooling1D, "prod sqrt(windows per input)"
)
@register_rule(
    keras.layers.AdaptiveMaxPooling2D, "prod sqrt(windows per input)"
)
@register_rule(
    keras.layers.AdaptiveMaxPooling3D, "prod sqrt(windows per input)"
)
def adaptive_max_pooling(layer, call):
    sizes = spatial_sizes(layer, call)
    if sizes is None or None in sizes:
        return unbounded(_OPEN.format("AdaptiveMaxPooling"), _FIX)
    windows = math.prod(w.sum(axis=0).max() for w in _adaptive(layer, sizes))
    source = "prod sqrt(windows per input)"
    return channelwise(layer, math.sqrt(windows), source, EXACT)


_OPEN = "The windows of {} depend on the input size, which is open."
_FIX = "Fix the spatial size in `keras.Input`."


def _adaptive(layer, sizes):
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


@register_rule(keras.layers.UpSampling1D, "prod sqrt(s_i)", "repetition")
@register_rule(keras.layers.UpSampling3D, "prod sqrt(s_i)", "repetition")
def repetition(layer, call):
    factor = np.prod(layer.size)
    return channelwise(layer, math.sqrt(factor), "prod sqrt(s_i)")


@register_rule(
    keras.layers.UpSampling2D,
    "prod sqrt(s_i); bilinear: prod |A_i|",
    "inf for other interpolations",
)
def upsampling(layer, call):
    if layer.interpolation == "nearest":
        return repetition(layer, call)
    sizes = spatial_sizes(layer, call)
    if layer.interpolation != "bilinear":
        return unbounded(
            f"No matrix is known for '{layer.interpolation}' interpolation.",
            "Use 'nearest' or 'bilinear'.",
        )
    bound = 1.0
    for size, factor in zip(sizes or (None, None), layer.size, strict=True):
        if size is None or size > 2048:
            # Rows sum to one, columns to at most twice the factor.
            bound *= math.sqrt(2 * factor)
        else:
            bound *= norm_upper(interpolation(size, size * factor))
    return channelwise(layer, bound * (1 + 1e-6), "prod |A_i|", UPPER)


def interpolation(size, target):
    """The matrix of 1-D linear interpolation between pixel centres."""
    position = (np.arange(target) + 0.5) * size / target - 0.5
    position = np.clip(position, 0, size - 1)
    left = np.minimum(np.floor(position).astype(int), max(size - 2, 0))
    share = position - left
    matrix = np.zeros((target, size))
    rows = np.arange(target)
    matrix[rows, left] += 1 - share
    matrix[rows, np.minimum(left + 1, size - 1)] += share
    return matrix


@register_rule(
    keras.layers.Resizing,
    "prod |A_i|",
    "nearest and bilinear without cropping or padding; else inf",
)
def resizing(layer, call):
    sizes = spatial_sizes(layer, call)
    if sizes is None or None in sizes:
        return unbounded("The input size of Resizing is open.", _FIX)
    plain = not (
        layer.crop_to_aspect_ratio
        or layer.pad_to_aspect_ratio
        or layer.antialias
    )
    bound = 1.0
    for size, target in zip(sizes, (layer.height, layer.width), strict=True):
        if plain and layer.interpolation == "bilinear":
            bound *= norm_upper(interpolation(size, target))
        elif plain and layer.interpolation == "nearest":
            bound *= math.sqrt(-(-target // size))
        else:
            return unbounded(
                f"No matrix is known for '{layer.interpolation}' resizing "
                "with cropping, padding or antialiasing.",
                "Resize the data before the model.",
            )
    return channelwise(layer, bound * (1 + 1e-6), "prod |A_i|", UPPER)
