"""Rules of the operations that a layer computes too: its rule serves both."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.operation import OperationRule
from keras_sn.lipschitz.rules.operation import Use
from keras_sn.lipschitz.rules.operation import as_array
from keras_sn.lipschitz.rules.operation import unknown
from keras_sn.lipschitz.rules.registry import pieces_of


def _pooling(kind: str) -> OperationRule:
    def rule(use: Use) -> list[Piece] | Piece:
        operation, axes = use.operation, len(use.shape) - 2
        layer = _layer(
            f"{kind}Pooling{axes}D",
            pool_size=operation.pool_size,
            strides=operation.strides,
            padding=operation.padding,
            data_format=operation.data_format,
        )
        return unknown(f"{kind}Pool") if layer is None else _of(layer, use)

    return rule


def _convolution(use: Use) -> list[Piece] | Piece:
    kernel = use.constant
    if kernel is None or not use.starts_with_tensor:
        return unknown("Conv with this kernel")
    channels = use.shape[_channel_axis(use)]
    if channels is None or kernel.ndim != len(use.shape):
        return unknown("Conv of these shapes")
    layer = _layer(
        f"Conv{len(use.shape) - 2}D",
        filters=kernel.shape[-1],
        kernel_size=kernel.shape[:-2],
        groups=channels // kernel.shape[-2],
        kernel_initializer="zeros",
        **_settings(use),
    )
    return _with_kernel(layer, "kernel", kernel, use)


def _depthwise(use: Use) -> list[Piece] | Piece:
    kernel = use.constant
    if kernel is None or not use.starts_with_tensor:
        return unknown("DepthwiseConv with this kernel")
    layer = _layer(
        f"DepthwiseConv{len(use.shape) - 2}D",
        kernel_size=kernel.shape[:-2],
        depth_multiplier=kernel.shape[-1],
        depthwise_initializer="zeros",
        **_settings(use),
    )
    return _with_kernel(layer, "kernel", kernel, use)


def _layer_normalization(use: Use) -> list[Piece] | Piece:
    names = ("x", "gamma", "beta")
    given = {**dict(zip(names, use.args, strict=False)), **use.kwargs}
    gamma, epsilon = given.get("gamma"), use.operation.epsilon
    layer = keras.layers.LayerNormalization(
        axis=use.operation.axis,
        epsilon=keras.config.epsilon() if epsilon is None else epsilon,
        scale=gamma is not None,
        rms_scaling=use.operation.rms_scaling,
        dtype="float32",
        name="layer_normalization_operation",
    )
    if gamma is None:
        return _of(layer, use)
    return _with_kernel(layer, "gamma", as_array(gamma), use)


def _channel_axis(use: Use) -> int:
    last = keras.config.image_data_format()
    first = (use.operation.data_format or last) == "channels_first"
    return 1 if first else -1


def _settings(use: Use) -> dict[str, Any]:
    operation = use.operation
    return {
        "strides": operation.strides,
        "padding": operation.padding,
        "data_format": operation.data_format,
        "dilation_rate": operation.dilation_rate,
        "use_bias": False,
        # It is 32 bits that a constant is rounded to at least.
        "dtype": "float32",
    }


def _layer(kind: str, **settings: Any) -> keras.layers.Layer | None:
    """The layer of that name, if there is one, with no name of its own."""
    cls: Callable | None = getattr(keras.layers, kind, None)
    # A name keeps Keras from counting it among the model's layers.
    return None if cls is None else cls(name=f"{kind}_operation", **settings)


def _with_kernel(
    layer: keras.layers.Layer | None,
    name: str,
    array: np.ndarray | None,
    use: Use,
) -> list[Piece] | Piece:
    if layer is None or array is None:
        return unknown(type(use.operation).__name__)
    layer.build(use.shape)
    weight = getattr(layer, name)
    if array.size != math.prod(weight.shape):
        return unknown(f"{type(use.operation).__name__} of these shapes")
    weight.assign(array.reshape(weight.shape).astype("float32"))
    # Each entry is off by the rounding, the norm by that times the root of
    # the rank, or of taps times rank.
    rank = array.size / max(array.shape[-2:])
    excess = 1 + 2 * use.rounded * math.sqrt(rank)
    pieces = _of(layer, use)
    return [*pieces, Piece(excess, "rounding of the constant", UPPER)]


def _of(layer: keras.layers.Layer, use: Use) -> list[Piece]:
    if not layer.built:
        layer.build(use.shape)
    pieces = pieces_of(layer, Call([use.shape]))
    if isinstance(pieces, Merge):
        return [unknown(type(use.operation).__name__)]
    return pieces


AS_LAYERS: dict[str, OperationRule] = {
    "MaxPool": _pooling("Max"),
    "AveragePool": _pooling("Average"),
    "Conv": _convolution,
    "DepthwiseConv": _depthwise,
    "LayerNorm": _layer_normalization,
}
