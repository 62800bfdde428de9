"""Rules of the linear layers: dense, convolutional, embeddings."""

import math

import keras
import numpy as np

from keras_sn.linear_maps.dense import einsum_axes
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.pieces.merge import scaling_norm
from keras_sn.lipschitz.rules.activations import activation_pieces
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import norm_upper


@register_rule(keras.layers.Dense, "|W| * activation", "largest singular value")
def dense(layer, call):
    matrix = call.weight(layer, "kernel").T
    return [Matrix(matrix), *after(layer, call, layer.units)]


@register_rule(
    keras.layers.EinsumDense,
    "max over the batch |W_b| * activation",
    "axes sorted into batch, contracted and output",
)
def einsum_dense(layer, call):
    kernel = call.weight(layer, "kernel")
    equation = layer.equation.replace(" ", "")
    operands, output = equation.split("->")
    inputs, labels = operands.split(",")
    summed = (set(inputs) - set(labels) - set(output)) - {"."}
    if summed or set(labels) - set(inputs) - set(output):
        return unbounded(
            f"The equation '{layer.equation}' sums over an axis that input "
            "and kernel do not share.",
            "Use an equation without such an axis.",
        )
    batch, contracted, created = einsum_axes(equation)
    extents = [
        math.prod(kernel.shape[axis] for axis in axes)
        for axes in (batch, contracted, created)
    ]
    blocks = kernel.transpose(batch + contracted + created).reshape(extents)
    ends = [labels[axis] for axis in (*contracted, *created)]
    if not batch and ends == [inputs[-1], output[-1]]:
        pieces = [Matrix(blocks[0].T)]
    else:
        bound = max(norm_upper(block) for block in blocks)
        pieces = [Piece(bound, "max_b |W_b|")]
    return [*pieces, *after(layer, call, kernel.shape[-1])]


def after(layer, call, size):
    """The pieces of a layer's activation, on outputs with `size` channels."""
    shape = None if call.shape is None else (*call.shape[:-1], size)
    return activation_pieces(layer.activation, Call([shape]))


@register_rule(keras.layers.Conv1D, "sup_w |K^(w)| * activation", "any size")
@register_rule(keras.layers.Conv2D, "sup_w |K^(w)| * activation", "any size")
@register_rule(keras.layers.Conv3D, "sup_w |K^(w)| * activation", "any size")
def convolution(layer, call):
    kernel = call.weight(layer, "kernel")
    piece = kernel_piece(layer, kernel, layer.groups)
    return [piece, *after_convolution(layer, call)]


@register_rule(keras.layers.DepthwiseConv1D, "max_c sup_w |k_c^(w)|")
@register_rule(keras.layers.DepthwiseConv2D, "max_c sup_w |k_c^(w)|")
def depthwise(layer, call):
    kernel = call.weight(layer, "kernel")
    *taps, channels, multiplier = kernel.shape
    kernel = kernel.reshape(*taps, 1, channels * multiplier)
    piece = kernel_piece(layer, kernel, channels)
    return [piece, *after_convolution(layer, call)]


@register_rule(keras.layers.SeparableConv1D, "sup_w |P diag(k^(w))|")
@register_rule(keras.layers.SeparableConv2D, "sup_w |P diag(k^(w))|")
def separable(layer, call):
    depth = call.weight(layer, "depthwise_kernel")
    *taps, channels, multiplier = depth.shape
    point = call.weight(layer, "pointwise_kernel")
    point = point.reshape(channels, multiplier, -1)
    kernel = np.einsum("...cm,cmo->...co", depth, point)
    # Each entry is a sum of `multiplier` products.
    sizes = np.einsum("...cm,cmo->...co", np.abs(depth), np.abs(point))
    rounded = (multiplier + 2) * np.finfo("float64").eps
    error = rounded * np.sqrt(math.prod(taps)) * np.linalg.norm(sizes)
    piece = kernel_piece(layer, kernel, 1, error=error)
    return [piece, *after_convolution(layer, call)]


@register_rule(keras.layers.Conv1DTranspose, "sup_w |K^(w)|", "the adjoint")
@register_rule(keras.layers.Conv2DTranspose, "sup_w |K^(w)|", "the adjoint")
@register_rule(keras.layers.Conv3DTranspose, "sup_w |K^(w)|", "the adjoint")
def transposed(layer, call):
    kernel = call.weight(layer, "kernel")
    piece = kernel_piece(layer, kernel, 1, transposed=True)
    return [piece, *after_convolution(layer, call)]


def kernel_piece(layer, kernel, groups, transposed=False, error=0.0):
    """The piece of a kernel `(*taps, inputs / groups, filters)`."""
    *taps, inputs, filters = kernel.shape
    strides = tuple(layer.strides)
    dilation = tuple(layer.dilation_rate)
    if max(strides) > 1 and max(dilation) > 1:
        kernel = _dilated(kernel, dilation)
        taps = kernel.shape[: len(taps)]
    array = kernel.reshape(math.prod(taps), inputs, groups, filters // groups)
    piece = Kernel(
        array, taps, strides, channel_axis(layer), transposed, error=error
    )
    return piece.matrix() if piece.pointwise else piece


def channel_axis(layer):
    return -1 if layer.data_format == "channels_last" else 1


def after_convolution(layer, call):
    # A convolution's activation is elementwise or over the last axis.
    shape = None
    if call.shape is not None and channel_axis(layer) == -1:
        channels = getattr(layer, "filters", None)
        shape = (*call.shape[:-1], channels)
    return activation_pieces(layer.activation, Call([shape]))


def _dilated(kernel, dilation):
    """The kernel with the zeros that dilation puts between its taps."""
    taps = kernel.shape[: len(dilation)]
    extents = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    result = np.zeros((*extents, *kernel.shape[len(dilation) :]))
    result[tuple(slice(None, None, d) for d in dilation)] = kernel
    return result


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
    return Piece(bound, "|scale|", UPPER if np.ndim(scale) else "exact")


_REPEATS = "It may repeat its input by broadcasting, over an open axis."
