"""Rules of the normalization layers that depend on their input."""

import math

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.merge import scaling_norm
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import norm_upper

# Beyond, the norm of the centred matrix costs more than it gains.
_LARGEST = 2000


@register_rule(
    keras.layers.LayerNormalization,
    "|diag(gamma)(I - 11^T/d)| / sqrt(eps)",
    "attained at a constant input",
)
def layer_normalization(
    layer: keras.layers.LayerNormalization, call: Call
) -> Piece:
    if not _fits(layer, call):
        return unbounded(_ANOTHER_SHAPE)
    axes = layer.axis if isinstance(layer.axis, list) else [layer.axis]
    if layer.scale or layer.rms_scaling:
        gamma = call.weight(layer, "gamma").ravel()
    else:
        sizes = [call.shape[axis] for axis in axes] if call.shape else [None]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            return Piece(1 / math.sqrt(layer.epsilon), "1/sqrt(eps)", UPPER)
        gamma = np.ones(math.prod(known))
    if layer.rms_scaling:
        return unbounded(
            "rms_scaling divides by the deviation but does not centre, so "
            "its derivative grows with the mean.",
            "Use RMSNormalization.",
        )
    piece = Piece(
        centred_norm(gamma) / math.sqrt(layer.epsilon) * (1 + 4 * EPS),
        "|diag(gamma)(I - 11^T/d)|/sqrt(eps)",
        EXACT if len(gamma) <= _LARGEST else UPPER,
    )
    # A mean, and a mean of squares.
    piece.terms, piece.cancels = len(gamma), False
    return piece


_ANOTHER_SHAPE = (
    "It was built for another shape than it is called with, so its weights "
    "may repeat the input by broadcasting. Build a layer for this shape."
)


def _fits(layer: keras.layers.Layer, call: Call) -> bool:
    """Whether the weights have the shape of the axes they belong to."""
    if call.shape is None:
        return True
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    sizes = tuple(call.shape[axis] for axis in axes)
    return all(tuple(v.shape) == sizes for v in layer.weights)


def centred_norm(gamma: np.ndarray) -> float:
    """The norm of `diag(gamma) (I - 11^T/d)`, proved."""
    size = len(gamma)
    if size > _LARGEST:
        return float(np.abs(gamma).max())
    matrix = np.diag(gamma) - gamma[:, None] / size
    return norm_upper(matrix) + 4 * EPS * float(np.linalg.norm(matrix))


@register_rule(
    keras.layers.GroupNormalization, "max|gamma| / sqrt(eps)", "upper bound"
)
def group_normalization(
    layer: keras.layers.GroupNormalization, call: Call
) -> Piece:
    top = 1.0
    if layer.scale:
        top = float(np.abs(call.weight(layer, "gamma")).max(initial=0.0))
    bound = top / math.sqrt(layer.epsilon) * (1 + 4 * EPS)
    return Piece(bound, "max|gamma|/sqrt(eps)", UPPER)


@register_rule(
    keras.layers.RMSNormalization, "max|gamma| / sqrt(eps)", "attained at 0"
)
def rms_normalization(
    layer: keras.layers.RMSNormalization, call: Call
) -> Piece:
    scale = call.weight(layer, "scale")
    top: float | None = float(np.abs(scale).max(initial=0.0))
    if call.shape is not None:
        # Keras multiplies the last axes with it, whichever it normalizes.
        top = scaling_norm(scale, call.shape) if _fits(layer, call) else None
    if top is None:
        return unbounded(_ANOTHER_SHAPE)
    bound = top / math.sqrt(layer.epsilon) * (1 + 4 * EPS)
    return Piece(bound, "max|gamma|/sqrt(eps)")


@register_rule(
    keras.layers.UnitNormalization, "1e12", "x / max(|x|, 1e-12), near 0"
)
def unit_normalization(
    layer: keras.layers.UnitNormalization, call: Call
) -> Piece:
    return Piece(1e12, "1/epsilon, epsilon = 1e-12")
