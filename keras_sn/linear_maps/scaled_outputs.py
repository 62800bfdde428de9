"""Maps whose outputs are scaled by numbers of their own, each channel."""

import abc
import contextlib
import math
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import reshaped
from keras_sn.linear_maps.arrays import EPS
from keras_sn.linear_maps.arrays import TINY
from keras_sn.linear_maps.arrays import functions_of
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.linear_maps.weights import Weight

_LAST = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    # Their pointwise kernel, which is the weight to scale.
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_LAST_BUT_ONE = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_LAST_TWO = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class ScaledOutputsMap(LinearMap, abc.ABC):
    """`diag(factors) A`: what a linear layer and a scale behind it do.

    Args:
        weights: The weights that make the factors; scaling the first by `c`
            scales the map by `c`.
        base: `LinearMap` `A`.
        output_shape: Shape in which the factors multiply the first weight of
            `A`, see `output_shape`.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        base: LinearMap,
        output_shape: tuple[int, ...],
    ):
        super().__init__([*weights, *base.weights])
        self.base = base
        self.output_shape = output_shape
        self._count = len(weights)
        for name in (
            "domain_shape",
            "codomain_shape",
            "probe_shape",
            "input_probe_shape",
            "kernel_size",
            "probe_grid",
        ):
            setattr(self, name, getattr(base, name))

    @abc.abstractmethod
    def factors(self, values: tuple, kernel: Array) -> Array:
        """The factor of each output channel, as the values are.

        Args:
            values: What makes the factors.
            kernel: The first weight of the map behind them.
        """

    def folded_values(self, values=None) -> tuple:
        """The weights of a plain layer that does the same."""
        values = self.values() if values is None else values
        own, (kernel, *rest) = values[: self._count], values[self._count :]
        factors = reshaped(self.factors(own, kernel), self.output_shape)
        return (kernel * factors, *rest)

    def symbol(self, values=None) -> Symbol:
        return self.base.symbol(self.folded_values(values))

    def matvec(self, inputs, values=None):
        return self.base.matvec(inputs, self.folded_values(values))

    def rmatvec(self, outputs, values=None):
        return self.base.rmatvec(outputs, self.folded_values(values))

    def block_matvec(self, probes, values=None):
        return self.base.block_matvec(probes, self.folded_values(values))

    def block_rmatvec(self, probes, values=None):
        return self.base.block_rmatvec(probes, self.folded_values(values))

    def rounding(self, values: tuple[np.ndarray, ...]) -> float:
        folded = self.folded_values(values)
        taps = math.prod(folded[0].shape[:-2])
        # A few roundings of each entry, and long sums for a norm.
        terms = 16 + folded[0].size // max(folded[0].shape[-1], 1)
        entries = math.sqrt(taps) * float(np.linalg.norm(folded[0]))
        for other in folded[1:]:
            entries *= float(np.linalg.norm(other)) * math.sqrt(other.size)
        return self.base.rounding(folded) + terms * EPS * entries + TINY


class BatchNormalizedMap(ScaledOutputsMap):
    """A linear map and a BatchNormalization at inference behind it.

    Args:
        gamma: The scale; it is the weight to scale.
        variance: The moving variance.
        epsilon: What the layer adds to the variance.
        base: The map in front.
        output_shape: See `ScaledOutputsMap`.
    """

    def __init__(
        self,
        gamma: Weight,
        variance: Weight,
        epsilon: float,
        base: LinearMap,
        output_shape: tuple[int, ...],
    ):
        super().__init__([gamma, variance], base, output_shape)
        self.epsilon = epsilon
        self._variance: Array | None = None

    @contextlib.contextmanager
    def at_variance(self, variance: Array) -> Iterator[None]:
        """Context in which the variance is that of a batch."""
        self._variance = variance
        try:
            yield
        finally:
            self._variance = None

    def values(self) -> tuple:
        gamma, variance, *rest = super().values()
        if self._variance is not None:
            variance = self._variance
        return (gamma, variance, *rest)

    def factors(self, values, kernel):
        gamma, variance = values
        return gamma / functions_of(variance).sqrt(variance + self.epsilon)


def output_shape(
    layer: keras.layers.Layer, shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Shape in which a number per output multiplies a layer's weight.

    Args:
        layer: The linear layer.
        shape: Shape of the weight that scales its map.

    Returns:
        The shape, for weights to broadcast with; `None` if not known.

    Example:

    >>> from keras_sn.linear_maps.scaled_outputs import output_shape
    >>> output_shape(keras.layers.Conv1DTranspose(4, 3), (3, 4, 2))
    (4, 1)
    """
    if isinstance(layer, _LAST):
        return shape[-1:]
    if isinstance(layer, _LAST_BUT_ONE):
        return (shape[-2], 1)
    return tuple(shape[-2:]) if isinstance(layer, _LAST_TWO) else None
