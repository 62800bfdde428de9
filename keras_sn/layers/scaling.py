"""Scaling: how a factor reaches the output of a layer without a new kernel.

A layer that is linear in its input up to bias and activation may have its
input scaled in place of its kernel. Exact classes only: a subclass may do
anything.
"""

import abc
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_sn.circumstances import batch_may_be_sharded
from keras_sn.fast_ops import Array
from keras_sn.fast_ops import first_and_rest
from keras_sn.fast_ops import held
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import with_gradient_in_order
from keras_sn.layers.weight_override import call_with_weights
from keras_sn.layers.weight_override import rematerializes
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.power_iteration import norms_and_directions

_LINEAR_IN_INPUT = {
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
}
# Layers of which `call` is known: product with the kernel, bias, activation.
# Conv1D is none of them: it pads the input by itself.
_KNOWN_CALL = {keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv3D}
# Stands in for an axis of unknown size when costs are compared.
_TYPICAL_SIZE = 32


class Scaling(abc.ABC):
    """A way to call a layer with scaled weights.

    Args:
        layer: The built layer.
        maps: Its linear maps that are scaled.
    """

    def __init__(
        self, layer: keras.layers.Layer, maps: Sequence[LinearMap]
    ) -> None:
        self.layer = layer
        self.maps = maps

    def takes(self, args: tuple, kwargs: dict) -> bool:
        """Whether this way knows what to do with the arguments of a call."""
        return len(args) == 1 and not set(kwargs) - {"training"}

    @abc.abstractmethod
    def call(
        self, args: tuple, kwargs: dict, factors: list[Array], owner: Any
    ) -> Any:
        """Calls the layer with each map scaled by its factor.

        Args:
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            factors: A scalar for each map.
            owner: The layer that takes the losses of an eager call.
        """


class ReplacedWeights(Scaling):
    """The layer called with other values of its weights: any layer."""

    def takes(self, args, kwargs):
        return True

    def call(self, args, kwargs, factors, owner):
        # Plain loops: torch.compile fails on more in a comprehension.
        replacements = []
        for linear_map, factor in zip(self.maps, factors, strict=True):
            for variable in linear_map.weights[0].scalable_variables():
                value = variable.value
                scaled = ops.cast(value, factor.dtype) * factor
                replacements.append((variable, ops.cast(scaled, value.dtype)))
        return call_with_weights(
            self.layer, replacements, owner.add_loss, args, kwargs
        )


class ScaledInput(Scaling):
    """The input scaled, where it is smaller than the weights."""

    def takes(self, args, kwargs):
        if not super().takes(args, kwargs):
            return False
        weights = sum([math.prod(m.weights[0].shape) for m in self.maps])
        return _typical_size(args[0]) < weights

    def call(self, args, kwargs, factors, owner):
        inputs = ops.cast(args[0], factors[0].dtype)
        for factor in factors:
            inputs = inputs * factor
        return self.layer(inputs, **kwargs)


class ScaledOutput(Scaling):
    """The output scaled: an embedding."""

    def call(self, args, kwargs, factors, owner):
        outputs = self.layer(*args, **kwargs)
        # In float32, then rounded once.
        scaled = ops.cast(outputs, factors[0].dtype) * factors[0]
        return ops.cast(scaled, outputs.dtype)


class ScaledProduct(Scaling):
    """The product with the kernel done here, its smallest part scaled.

    Calling the layer with other weights takes an eager backend longer.
    """

    def call(self, args, kwargs, factors, owner):
        layer, (factor,) = self.layer, factors
        kernel = layer.kernel
        inputs = ops.cast(args[0], kernel.dtype)
        smallest = self._smallest(inputs, kernel)
        if smallest == "input":
            inputs = inputs * factor
        elif smallest == "kernel":
            kernel = kernel * factor
        outputs = self._product(inputs, kernel)
        if smallest == "output":
            outputs = outputs * factor
        return self._finished(outputs)

    def _finished(self, outputs):
        """What a plain layer does with the product of input and kernel."""
        if self.layer.bias is not None:
            outputs = outputs + self._bias()
        if self.layer.activation is None:
            return outputs
        return self.layer.activation(outputs)

    def _smallest(self, inputs, kernel):
        first, output = _typical_size(inputs), self._output_size(inputs)
        weight = _typical_size(kernel)
        if first <= min(weight, output):
            return "input"
        return "kernel" if weight <= output else "output"

    def _output_size(self, inputs):
        layer = self.layer
        return _typical_size(inputs) // inputs.shape[-1] * layer.units

    def _product(self, inputs, kernel):
        return ops.matmul(inputs, kernel)

    def _bias(self):
        return self.layer.bias


class RiddenProduct(ScaledProduct):
    """`ScaledProduct` of a Dense layer, `v` one more row of the batch.

    The product with the batch then gives `v @ kernel`, and its gradient as
    well. By itself that gradient, a matrix of rank one and as large as the
    kernel, costs a CPU a sixth of a layer.
    """

    def rides(self, args: tuple, kwargs: dict) -> bool:
        """Whether a row may be added to the batch.

        Not where the batch may be spread over devices: it would have to be
        spread anew in every layer.
        """
        return self.takes(args, kwargs) and not batch_may_be_sharded()

    def ride(
        self, inputs: Array, v: Array, settle: Callable, factor_of: Callable
    ) -> Array:
        """Calls the layer.

        Args:
            inputs: Its input.
            v: Unit vector `(1, inputs)`.
            settle: Function that takes the norm of `v @ kernel` and its
                direction.
            factor_of: Function from that norm to the factor.
        """
        kernel = self.layer.kernel
        inputs = ops.cast(inputs, kernel.dtype)
        rows = inputs
        if len(inputs.shape) != 2:
            rows = ops.reshape(inputs, (-1, kernel.shape[0]))
        images = ops.matmul(ops.concatenate([v, rows], axis=0), kernel)
        image, outputs = first_and_rest(images)
        norm, direction = norms_and_directions(image)
        settle(held(norm), direction)
        outputs = outputs * factor_of(reshaped(norm, ()))
        if len(inputs.shape) != 2:
            shape = (*ops.shape(inputs)[:-1], kernel.shape[1])
            outputs = ops.reshape(outputs, shape)
        return self._finished(outputs)


class ScaledConvolution(ScaledProduct):
    """`ScaledProduct` of a convolution."""

    def _output_size(self, inputs):
        layer = self.layer
        axis = 1 if layer.data_format == "channels_first" else -1
        # As with padding "same": close enough to compare.
        pixels = _typical_size(inputs) // inputs.shape[axis]
        return pixels // math.prod(layer.strides) * layer.filters

    def _product(self, inputs, kernel):
        return self.layer.convolution_op(inputs, with_gradient_in_order(kernel))

    def _bias(self):
        bias = self.layer.bias
        if self.layer.data_format == "channels_first":
            return ops.reshape(bias, (-1,) + (1,) * self.layer.rank)
        return bias


def choose_scaling(
    layer: keras.layers.Layer, maps: Sequence[LinearMap]
) -> Scaling:
    """The cheapest way that a layer allows."""
    # In float16 an input times 1 / sigma can overflow; a weight cannot.
    if layer.compute_dtype == "float16":
        return ReplacedWeights(layer, maps)
    if does_itself_alone(layer):
        dense = type(layer) is keras.layers.Dense
        return (RiddenProduct if dense else ScaledConvolution)(layer, maps)
    if type(layer) in _LINEAR_IN_INPUT and layer.autocast:
        return ScaledInput(layer, maps)
    if (
        type(layer) is keras.layers.Embedding
        and layer.activity_regularizer is None
    ):
        return ScaledOutput(layer, maps)
    return ReplacedWeights(layer, maps)


def does_itself_alone(layer: keras.layers.Layer) -> bool:
    """Whether all that a layer does is known, so that it can be done here."""
    return (
        type(layer) in _KNOWN_CALL
        and layer.compute_dtype == layer.variable_dtype
        and layer.compute_dtype in ("float32", "float64")
        and layer.activity_regularizer is None
        and not rematerializes(layer)
    )


def _typical_size(tensor: Array) -> int:
    # Sizes may be unknown, or symbols while JAX exports.
    # (A list, since torch.compile cannot look into a generator here.)
    return math.prod(
        [n if isinstance(n, int) else _TYPICAL_SIZE for n in tensor.shape]
    )
