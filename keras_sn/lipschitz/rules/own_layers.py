"""Rules of the layers of `keras_sn.layers` that are no linear maps."""

import keras
import numpy as np

from keras_sn.layers.batch_centering import BatchCentering
from keras_sn.layers.group_sort import GroupSort
from keras_sn.layers.householder import Householder
from keras_sn.layers.invertible_downsampling import InvertibleDownsampling2D
from keras_sn.layers.norm_pooling import NormPooling2D
from keras_sn.layers.residual_sll import ResidualSLL
from keras_sn.layers.residual_sll import SLLConv2D
from keras_sn.layers.residual_sll import SLLDense
from keras_sn.layers.weight_normalization import WeightNormalization
from keras_sn.linear_maps.arrays import EPS
from keras_sn.linear_maps.weights import ComputedWeight
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import pieces_of
from keras_sn.lipschitz.rules.registry import register_rule


@register_rule(GroupSort, "1", "a permutation")
def group_sort(layer: GroupSort, call: Call) -> Piece:
    piece = Piece(1.0, "a permutation")
    piece.roundings, piece.terms = 0.0, 1
    return piece


@register_rule(BatchCentering, "1", "a shift at inference")
def batch_centering(layer: BatchCentering, call: Call) -> Piece:
    return Slope(1.0, 1.0, "a shift")


@register_rule(InvertibleDownsampling2D, "1", "isometry")
def invertible_downsampling(
    layer: InvertibleDownsampling2D, call: Call
) -> Piece:
    return Rearrangement()


@register_rule(NormPooling2D, "1", "windows do not overlap")
def norm_pooling(layer: NormPooling2D, call: Call) -> Piece:
    piece = Piece(1.0, "|window|", UPPER)
    piece.terms, piece.cancels = int(np.prod(layer.pool_size)), False
    return piece


@register_rule(
    WeightNormalization,
    "that of the layer",
    "with the kernel it is called with",
)
def weight_normalization(layer: WeightNormalization, call: Call):
    inner = layer.layer
    kernel = layer.applied_kernel(call.overrides.get(id(layer.gain)))
    kernel = keras.ops.cast(kernel, inner.compute_dtype)
    overrides = {**call.overrides, id(layer.kernel_variable): kernel}
    return pieces_of(
        inner,
        Call(call.shapes, {}, overrides, call.constant_of, call.output_shape),
    )


@register_rule(Householder, "1", "a reflection")
def householder(layer: Householder, call: Call) -> Piece:
    shape = (layer.angle.shape[0], 2)
    vectors = call.value(ComputedWeight(layer, "vectors", shape))
    # Of a vector that is no unit after rounding, the reflection stretches.
    squares = (vectors**2).sum(axis=-1) * (1 + 4 * EPS)
    constant = max(1.0, float(np.max(2 * squares - 1, initial=0.0)))
    piece = Piece(constant, "|I - 2 v v^T|", UPPER)
    piece.terms = 2
    return piece


@register_rule(SLLDense, "1", "T - A A^T is diagonally dominant")
@register_rule(SLLConv2D, "1", "T - A A^T is diagonally dominant")
def residual_sll(layer: ResidualSLL, call: Call) -> Piece:
    """1 if the factors that are applied are small enough, as they should be.

    With factors `r` times too large, `x - r g(x)` of a 1-Lipschitz `x - g(x)`
    has the constant `2 r - 1`.
    """
    kernel_shape, units = tuple(layer.kernel.shape), layer.units
    kernel = call.value(ComputedWeight(layer, "applied_kernel", kernel_shape))
    factors = call.value(ComputedWeight(layer, "factors", (units,)))
    weights = np.exp(call.weight(layer, "log_q"))
    sums = (layer.correlations(kernel) @ weights) / weights
    rounding = 1 + 4 * (kernel.size + units + 8) * EPS
    excess = float(np.max(factors * sums / 2, initial=0.0)) * rounding
    return Piece(max(1.0, (2 * excess - 1) * (1 + 4 * EPS)), "SLL", UPPER)
