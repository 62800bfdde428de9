"""Rules of the upsampling and resizing layers."""

import math
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.pooling import FIX
from keras_sn.lipschitz.rules.pooling import channelwise
from keras_sn.lipschitz.rules.pooling import fixed_sizes
from keras_sn.lipschitz.rules.pooling import spatial_sizes
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import norm_upper


@register_rule(keras.layers.UpSampling1D, "prod sqrt(s_i)", "repetition")
@register_rule(keras.layers.UpSampling3D, "prod sqrt(s_i)", "repetition")
def repetition(layer: Any, call: Call) -> Piece:
    factor = math.sqrt(np.prod(layer.size)) * (1 + 1e-15)
    piece = channelwise(layer, factor, "prod sqrt(s_i)")
    piece.roundings, piece.terms = 0.0, 1
    return piece


@register_rule(
    keras.layers.UpSampling2D,
    "prod sqrt(s_i); bilinear: prod |A_i|",
    "inf for other interpolations",
)
def upsampling(layer: keras.layers.UpSampling2D, call: Call) -> Piece:
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


def interpolation(size: int, target: int) -> np.ndarray:
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
def resizing(layer: keras.layers.Resizing, call: Call) -> Piece:
    sizes = fixed_sizes(layer, call)
    if sizes is None:
        return unbounded("The input size of Resizing is open.", FIX)
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
