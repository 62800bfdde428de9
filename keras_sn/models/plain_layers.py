"""Plain Keras layers that compute what layers of keras_sn compute."""

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from keras_sn.layers.joint_batch_normalization import JointBatchNormalization
from keras_sn.layers.orthogonal_convolution import OrthogonalConv1D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv2D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv3D
from keras_sn.layers.orthogonal_convolution import OrthogonalConvolution
from keras_sn.layers.orthogonal_dense import OrthogonalDense
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.layers.weight_normalization import WeightNormalization
from keras_sn.layers.weight_selection import BIDIRECTIONAL
from keras_sn.linear_maps.arrays import float64
from keras_sn.linear_maps.circular_window import wrap
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.linear_maps.scaled_outputs import BatchNormalizedMap
from keras_sn.linear_maps.scaled_outputs import ScaledOutputsMap
from keras_sn.models.baking import largest_norm
from keras_sn.models.baking import normalized_weight
from keras_sn.models.baking import shrink
from keras_sn.models.baking import wrapper_maps
from keras_sn.models.layer_config import layer_inside

_CONVOLUTIONS = {
    OrthogonalConv1D: keras.layers.Conv1D,
    OrthogonalConv2D: keras.layers.Conv2D,
    OrthogonalConv3D: keras.layers.Conv3D,
}


_COMPUTING = {
    *_CONVOLUTIONS,
    OrthogonalDense,
    JointBatchNormalization,
    WeightNormalization,
}


def has_plain_twin(layer: Layer) -> bool:
    """Whether a layer computes its kernel; a subclass may do anything."""
    return type(layer) in _COMPUTING or _normalized_twice(layer)


def _normalized_twice(layer: Layer) -> bool:
    """Whether it is a wrapped `WeightNormalization`."""
    return type(layer) is SpectralNormalization and (
        type(layer.layer) is WeightNormalization
    )


def plain_twin(layer: Layer, name: str | None = None) -> Layer:
    """The plain layer of a layer, its weights yet to be written.

    One that wraps its image around becomes a model: the wrap, of operations
    of Keras, and the convolution.

    Args:
        layer: A layer that has a plain twin.
        name: Name of the twin; `None`: that of the layer.
    """
    name = name or layer.name
    if _normalized_twice(layer):
        return plain_twin(layer.layer, name)
    if isinstance(layer, WeightNormalization):
        return layer_inside(layer, name)
    if isinstance(layer, JointBatchNormalization):
        config = {**layer.linear.get_config(), "use_bias": True}
        config.pop("build_config", None)
        return type(layer.linear).from_config({**config, "name": name})
    options = {
        "name": name,
        "dtype": layer.dtype_policy,
        "activation": layer.activation,
        "use_bias": layer.use_bias,
    }
    if isinstance(layer, OrthogonalDense):
        return keras.layers.Dense(layer.units, **options)
    assert isinstance(layer, OrthogonalConvolution)
    circular = layer.padding == "circular"
    convolution = _CONVOLUTIONS[type(layer)](
        layer.filters,
        layer.kernel_size,
        strides=layer.strides,
        padding="valid" if circular else layer.padding,
        data_format=layer.data_format,
        **options,
    )
    if not circular:
        return convolution
    shape = layer.get_build_config()["input_shape"]
    inputs = keras.Input(batch_shape=shape, dtype=layer.compute_dtype)
    wrapped = wrap(inputs, layer.torus.margins(), layer.first_axis)
    return keras.Model(inputs, convolution(wrapped), name=name)


def bake_plain(layer: Layer, twin: Layer, certified: bool) -> None:
    """Writes what a layer applies into its twin.

    Args:
        layer: A layer that has a plain twin.
        twin: That twin, built.
        certified: Whether the norm of the kernel must be certified.

    Raises:
        ValueError: If it cannot be.
    """
    values: list
    norm_bound: float | None
    if isinstance(layer, JointBatchNormalization):
        values = _joint_weights(layer)
        norm_bound = largest_norm(wrapper_maps(layer)[0], layer)
    elif isinstance(layer, (SpectralNormalization, WeightNormalization)):
        values, norm_bound = _lengthened_weights(layer)
    else:
        values, norm_bound = [layer.kernel], layer.norm_bound
        if layer.use_bias:
            values.append(layer.bias)
    for variable, value in zip(twin.weights, values, strict=True):
        variable.assign(ops.convert_to_numpy(ops.cast(value, variable.dtype)))
    if certified and norm_bound is not None:
        (linear_map,) = linear_maps(twin, _norm(layer)).values()
        shrink(linear_map, linear_map.weights[0].variable, norm_bound)


def _norm(layer: Layer) -> str:
    norm = getattr(layer, "norm", "operator")
    # What has lengths of its own has one matrix.
    return "kernel" if norm == BIDIRECTIONAL else norm


def _lengthened_weights(layer: Layer) -> tuple[list, float | None]:
    """The weights with the lengths in them, and the bound if there is one."""
    inner = layer.layer if _normalized_twice(layer) else layer
    (linear_map,) = linear_maps(inner, _norm(layer)).values()
    weights = [float64(weight.value()) for weight in linear_map.weights]
    norm_bound = None
    if inner is not layer:
        weights[0] = normalized_weight(linear_map, layer)
        norm_bound = largest_norm(linear_map, layer)
    assert isinstance(linear_map, ScaledOutputsMap)
    values = list(linear_map.folded_values(tuple(weights)))
    if inner.layer.use_bias:
        values.append(inner.layer.bias)
    return values, norm_bound


def _joint_weights(layer: JointBatchNormalization) -> list[np.ndarray]:
    """The weights of the linear layer, those of the normalization in them."""
    (linear_map,) = wrapper_maps(layer)
    assert isinstance(linear_map, BatchNormalizedMap)
    weights = [float64(weight.value()) for weight in linear_map.weights]
    weights[0] = normalized_weight(linear_map, layer)
    scaled, *rest = linear_map.folded_values(tuple(weights))
    normalization, linear = layer.normalization, layer.linear
    bias = -float64(normalization.moving_mean)
    if linear.use_bias:
        bias = bias + float64(linear.bias)
    bias = bias * linear_map.factors(tuple(weights[:2]), scaled)
    if normalization.center:
        bias = bias + float64(normalization.beta)
    # A separable convolution has the weight to scale behind the other.
    return [*rest, scaled, bias]
