"""One rule for all linear layers: the linear map says what they do."""

import keras
import numpy as np

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.convolution_map import TransposedConvolutionMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.normalization import BatchNormalizationMap
from keras_sn.linear_maps.registry import own_maps
from keras_sn.linear_maps.spatial import SpatialMap
from keras_sn.lipschitz.pieces import curves
from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import LinearPiece
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.pieces.merge import scaling_norm
from keras_sn.lipschitz.rules.activations import activation_pieces
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import REGISTER
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_linear_rule
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms import symbol_norm
from keras_sn.norms.proofs import EPS


@register_linear_rule
def linear(layer, call):
    """The piece of the layer's linear map, and those of its activation."""
    try:
        maps = own_maps(layer, "operator")
    except ValueError as error:
        return unbounded(str(error))
    if len(maps) != 1:
        return unbounded(
            f"It has {len(maps)} linear maps, and how it combines them is "
            "not known.",
            REGISTER,
        )
    piece = linear_piece(maps[0], call)
    if isinstance(piece, LinearPiece):
        piece.offset = _offset(layer, piece, call)
    return [piece, *_activation(layer, call)]


def _offset(layer, piece, call):
    """What the layer adds, and how far that may be off; `None`: unknown."""
    # A layer of the user's adds what it likes.
    if type(layer).call is keras.layers.Dense.call:
        bias = call.weight(layer, "bias") if layer.use_bias else 0.0
        return np.broadcast_to(bias, piece.outputs), 0.0
    if type(layer).call is keras.layers.BatchNormalization.call:
        moved = call.weight(layer, "moving_mean") * piece.vector
        beta = call.weight(layer, "beta") if layer.center else 0.0
        sizes = np.abs(moved) + np.abs(beta)
        # The factor itself is good to a few roundings.
        return beta - moved, 16 * EPS * float(sizes.max(initial=0.0))
    return None


def linear_piece(linear_map: LinearMap, call: Call) -> Piece:
    """What a linear map does, in a form that folds where there is one."""
    values = tuple(call.value(weight) for weight in linear_map.weights)
    error = linear_map.rounding(values)
    if isinstance(linear_map, SpatialMap):
        return _kernel(linear_map, values, error)
    if isinstance(linear_map, BatchNormalizationMap):
        return Diagonal(
            linear_map.diagonal(values),
            _channel_axis(linear_map.axis, call),
            "max |gamma|/sqrt(var + eps)",
            error,
        )
    symbol = linear_map.certificate(values)
    if (
        isinstance(linear_map, MatrixMap)
        and linear_map.channel_axis is not None
    ):
        axis = _channel_axis(linear_map.channel_axis, call)
        return Matrix(symbol.taps[0].T, axis, error=error)
    if not np.all(np.isfinite(symbol.taps)):
        return unbounded("Its weights are not finite.")
    guarantee = UPPER if linear_map.kernel_size else EXACT
    return Piece(symbol_norm.upper(symbol), "max_b |W_b|", guarantee)


def _kernel(linear_map, values, error):
    kernel = Kernel(
        linear_map.taps(values),
        linear_map.window.kernel_size,
        linear_map.window.undilated_strides,
        linear_map.channel_axis,
        transposed=isinstance(linear_map, TransposedConvolutionMap),
        error=error,
    )
    return kernel.matrix() if kernel.pointwise else kernel


def _channel_axis(axis, call):
    """The axis, as -1 where it is known to be the last."""
    if call.rank is not None and axis % call.rank == call.rank - 1:
        return -1
    return axis


def _activation(layer, call):
    activation = getattr(layer, "activation", None)
    if activation is None:
        return []
    shape = _output_shape(layer, call)
    return activation_pieces(
        activation,
        Call([shape], {}, call.overrides, call.constant_of),
    )


def _output_shape(layer, call):
    if call.output_shape is not None or call.shape is None:
        return call.output_shape
    try:
        return tuple(layer.compute_output_shape(call.shape))
    except Exception:
        # A layer of any kind may fail in any way; the shape stays unknown.
        return None


for _names, _formula, _note in (
    (["Dense"], "|W| * activation", "largest singular value"),
    (
        ["EinsumDense"],
        "max over the batch |W_b| * activation",
        "axes sorted into batch, contracted and output",
    ),
    (
        ["Conv1D", "Conv2D", "Conv3D"],
        "sup_w |K^(w)| * activation",
        "any size",
    ),
    (
        ["DepthwiseConv1D", "DepthwiseConv2D"],
        "max_c sup_w |k_c^(w)|",
        None,
    ),
    (
        ["SeparableConv1D", "SeparableConv2D"],
        "sup_w |P diag(k^(w))|",
        None,
    ),
    (
        ["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"],
        "sup_w |K^(w)|",
        "the adjoint",
    ),
    (
        ["BatchNormalization"],
        "max |gamma| / sqrt(var + eps)",
        "at inference; folded into a neighbouring linear map",
    ),
):
    for _name in _names:
        register_rule(getattr(keras.layers, _name), _formula, _note)(linear)


for _embedding in (keras.layers.Embedding, keras.layers.ReversibleEmbedding):
    refuse(
        _embedding,
        "Integer ids have no distance to measure a slope by.",
        "Bound the rest of the model, from the embedded vectors on.",
    )


@register_rule(
    keras.layers.Normalization,
    "max 1/sqrt(variance)",
    "max sqrt(variance) with invert=True",
)
def feature_normalization(layer, call):
    if layer.input_variance is None and not layer.built:
        return unbounded("It has not been adapted to data.", "Call `adapt`.")
    variance = layer.variance
    if variance is None:
        variance = layer.adapt_variance
    variance = np.asarray(keras.ops.convert_to_numpy(variance), "float64")
    # Keras puts the standard deviation no lower than its epsilon.
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    factor = deviation if layer.invert else 1 / deviation
    bound = scaling_norm(factor, call.shape)
    if bound is None:
        return unbounded(_REPEATS, "Fix the shape in `keras.Input`.")
    return Piece(bound, "max 1/sqrt(variance)", channelwise=False)


@register_rule(keras.layers.Rescaling, "max|scale|")
def rescaling(layer, call):
    scale = np.broadcast_arrays(layer.scale, layer.offset)[0]
    bound = scaling_norm(scale, call.shape)
    if bound is None:
        return unbounded(_REPEATS, "Fix the shape in `keras.Input`.")
    if np.ndim(scale):
        return Piece(bound, "|scale|", UPPER)
    factor, offset = float(scale), float(layer.offset)
    return Slope(factor, factor, "|scale|", curves.rescaled(factor, offset))


_REPEATS = "It may repeat its input by broadcasting, over an open axis."
