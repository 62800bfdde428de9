"""WeightNormalization: directions and lengths of a kernel, apart."""

import math
from typing import Any

import keras
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import reshaped
from keras_sn.layers.building import build_inside
from keras_sn.layers.weight_override import call_with_weights
from keras_sn.linear_maps.registry import own_maps
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.scaled_outputs import output_shape
from keras_sn.linear_maps.weight_normalized import WeightNormalizedMap
from keras_sn.linear_maps.weight_normalized import column_lengths
from keras_sn.linear_maps.weights import AppliedWeight


@keras.saving.register_keras_serializable(package="keras_sn")
class WeightNormalization(keras.layers.Wrapper):
    """Learns the length of the weights of each output by itself.

    The layer is called with `gain * kernel / |kernel|`, where `|kernel|` is
    the Euclidean length of what belongs to an output. The lengths are those
    of the kernel to begin with, so that nothing changes until training does.

    That bounds no norm: many outputs may have the same direction. Wrapped in
    `SpectralNormalization`, the kernel that is applied gets the norm
    `norm_bound`, by one number for all lengths; their ratios are learned.
    `keras_sn.models.fold_model` gives the layer alone, with that kernel.

    Guarantee: the length of each output is `gain`, up to rounding. An output
    whose weights are all zero stays zero.

    Args:
        layer: A `Dense`, a convolution, a transposed or a depthwise one.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Call arguments, input and output shape: those of the layer.

    Raises:
        ValueError: When it is built, if the layer is another.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import SpectralNormalization, WeightNormalization
    >>> layer = SpectralNormalization(
    ...     WeightNormalization(keras.layers.Dense(3)), norm_bound=2.0)
    >>> layer.build((None, 4))
    >>> from keras_sn.models import fold_model
    >>> kernel = keras.ops.convert_to_numpy(fold_model(layer).kernel)
    >>> round(float(np.linalg.norm(kernel, 2)), 4)
    2.0

    Reference:

    - [Salimans & Kingma, 2016](https://arxiv.org/abs/1602.07868)
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        # The wrapped layer casts its inputs; here they pass as they are.
        self.autocast = False

    @property
    def compute_dtype(self) -> str:
        # Lengths in the precision of the weights.
        return self.variable_dtype

    def build(self, input_shape: tuple) -> None:
        build_inside(self.layer, (input_shape,), {})
        kernel, shape = _kernel_of(self.layer)
        self._kernel, self._output_shape = kernel, shape

        def lengths(_: tuple, dtype: Any) -> Array:
            found = column_lengths(kernel.value(), shape)
            return ops.cast(reshaped(found, (math.prod(shape),)), dtype)

        self.gain = self.add_weight(
            shape=(math.prod(shape),),
            initializer=lengths,
            dtype=kernel.variable.dtype,
            autocast=False,
            name="gain",
        )
        self.input_spec = self.layer.input_spec
        self.supports_masking = self.layer.supports_masking
        self.built = True

    def call(self, inputs):
        factors = self._factors(self.gain.value)
        replacements = []
        for variable in self._kernel.scalable_variables():
            value = variable.value
            scaled = ops.cast(value, factors.dtype) * factors
            replacements.append((variable, ops.cast(scaled, value.dtype)))
        return call_with_weights(
            self.layer, replacements, self.add_loss, (inputs,), {}
        )

    def applied_kernel(self, gain: Array | None = None) -> Array:
        """The kernel that the layer is called with.

        Args:
            gain: The lengths; `None`: those that are stored.
        """
        factors = self._factors(self.gain.value if gain is None else gain)
        value = self._kernel.value()
        return ops.cast(ops.cast(value, factors.dtype) * factors, value.dtype)

    @property
    def kernel_variable(self) -> keras.Variable:
        """The variable of the kernel, of which the directions count."""
        return self._kernel.variable

    def _factors(self, gain: Array) -> Array:
        lengths = column_lengths(self._kernel.value(), self._output_shape)
        gain = ops.cast(gain, lengths.dtype)
        return reshaped(gain, self._output_shape) / lengths

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self.layer.compute_output_shape(input_shape)


@register_linear_map(WeightNormalization)
def _weight_normalization(layer, norm):
    """`diag(gain / |kernel|) A`; `gain` is scaled."""
    (base,) = own_maps(layer.layer, norm)
    _, shape = _kernel_of(layer.layer)
    return [WeightNormalizedMap(AppliedWeight(layer, "gain"), base, shape)]


def _kernel_of(layer: keras.layers.Layer) -> tuple[Any, tuple[int, ...]]:
    """The weight of a layer that makes its outputs, and their shape."""
    maps = own_maps(layer, "kernel")
    shape = None
    if len(maps) == 1:
        shape = output_shape(layer, maps[0].weights[0].shape)
    if shape is None:
        raise ValueError(
            f"It is not known which weights of layer '{layer.name}' "
            f"({type(layer).__name__}) belong to which output. "
            "WeightNormalization takes Dense, convolutions, transposed and "
            "depthwise ones."
        )
    return maps[0].weights[0], shape
