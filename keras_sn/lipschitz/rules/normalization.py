"""Rules of the normalization layers that depend on their input."""

import math

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import norm_upper


@register_rule(
    keras.layers.LayerNormalization,
    "|diag(gamma)(I - 11^T/d)| / sqrt(eps)",
    "attained at a constant input",
)
def layer_normalization(layer, call):
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
    return Piece(
        centred_norm(gamma) / math.sqrt(layer.epsilon) * (1 + 4 * EPS),
        "|diag(gamma)(I - 11^T/d)|/sqrt(eps)",
    )


def centred_norm(gamma):
    """The norm of `diag(gamma) (I - 11^T/d)`, proved."""
    size = len(gamma)
    if size > 2000:
        return float(np.abs(gamma).max())
    matrix = np.diag(gamma) - gamma[:, None] / size
    return norm_upper(matrix) + 4 * EPS * np.linalg.norm(matrix)


@register_rule(
    keras.layers.GroupNormalization, "max|gamma| / sqrt(eps)", "upper bound"
)
def group_normalization(layer, call):
    top = 1.0
    if layer.scale:
        top = float(np.abs(call.weight(layer, "gamma")).max(initial=0.0))
    bound = top / math.sqrt(layer.epsilon) * (1 + 4 * EPS)
    return Piece(bound, "max|gamma|/sqrt(eps)", UPPER)


@register_rule(
    keras.layers.RMSNormalization, "max|gamma| / sqrt(eps)", "attained at 0"
)
def rms_normalization(layer, call):
    epsilon = layer.epsilon
    top = float(np.abs(call.weight(layer, "scale")).max(initial=0.0))
    bound = top / math.sqrt(epsilon) * (1 + 4 * EPS)
    return Piece(bound, "max|gamma|/sqrt(eps)")


@register_rule(
    keras.layers.UnitNormalization, "1e12", "x / max(|x|, 1e-12), near 0"
)
def unit_normalization(layer, call):
    return Piece(1e12, "1/epsilon, epsilon = 1e-12")
