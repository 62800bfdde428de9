"""Plain Keras layers that compute what layers of keras_sn compute."""

import keras
from keras import ops
from keras.layers import Layer

from keras_sn.layers.orthogonal_convolution import OrthogonalConv1D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv2D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv3D
from keras_sn.layers.orthogonal_convolution import OrthogonalConvolution
from keras_sn.layers.orthogonal_dense import OrthogonalDense
from keras_sn.linear_maps.circular_window import wrap
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.models.baking import shrink

_CONVOLUTIONS = {
    OrthogonalConv1D: keras.layers.Conv1D,
    OrthogonalConv2D: keras.layers.Conv2D,
    OrthogonalConv3D: keras.layers.Conv3D,
}


def has_plain_twin(layer: Layer) -> bool:
    """Whether a layer computes its kernel; a subclass may do anything."""
    return type(layer) is OrthogonalDense or type(layer) in _CONVOLUTIONS


def plain_twin(layer: Layer) -> Layer:
    """The plain layer of the same name, its weights yet to be written.

    One that wraps its image around becomes a model: the wrap, of operations
    of Keras, and the convolution.
    """
    options = {
        "name": layer.name,
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
    return keras.Model(inputs, convolution(wrapped), name=layer.name)


def bake_plain(layer: Layer, twin: Layer, certified: bool) -> None:
    """Writes what a layer applies into its twin.

    Args:
        layer: A layer that has a plain twin.
        twin: That twin, built.
        certified: Whether the norm of the kernel must be certified.

    Raises:
        ValueError: If it cannot be.
    """
    kernel, *rest = twin.weights
    kernel.assign(ops.cast(layer.kernel, kernel.dtype))
    if rest:
        rest[0].assign(ops.convert_to_numpy(layer.bias))
    if certified:
        (linear_map,) = linear_maps(twin, "operator").values()
        shrink(linear_map, kernel, layer.norm_bound)
