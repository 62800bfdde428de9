"""SpatialMap: what the maps of all convolutions share."""

import abc
import copy
import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_sn.fast_ops import Constant
from keras_sn.fast_ops import permuted
from keras_sn.fast_ops import reshaped
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.frequencies import TapGeometry
from keras_sn.linear_maps.frequencies import half_grid
from keras_sn.linear_maps.frequencies import training_grid
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.linear_maps.weights import Weight
from keras_sn.linear_maps.window import Window


class SpatialMap(LinearMap):
    """Axes, sizes and probes of a convolution.

    The norm of the map is the supremum over all input sizes, which is that of
    its symbol. A probe covers the frequencies of half of a small grid, by
    groups: block `f * groups + g`. It needs no input size, and the symbol is
    never formed: the phases go onto the probe, and one product with the
    kernel follows.

    Args:
        weights: The weights.
        window: `Window` of the convolution.
        data_format: `"channels_last"` or `"channels_first"`.
        groups: Number of groups.
        channels: Input channels of a group.

    Attributes:
        spatial_size: Spatial size of the input, or `None` for any.
        parts: Parts of a probe: real and imaginary, or just the real one if
            there is but one frequency.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        window: Window,
        data_format: str,
        groups: int,
        channels: int,
    ):
        super().__init__(weights)
        self.window = window
        self.data_format = data_format
        self.groups = groups
        self.channels = channels
        self.spatial_size: tuple[int, ...] | None = None
        self.geometry = TapGeometry(
            window.kernel_size, window.undilated_strides
        )
        self.kernel_size = self.geometry.polyphase_size
        self.probe_grid = training_grid(
            self.kernel_size, math.prod(self.weights[-1].shape)
        )
        self.num_frequencies = len(half_grid(self.probe_grid))
        self.parts = 1 if self.num_frequencies == 1 else 2
        modulation = self.geometry.modulation(self.probe_grid)
        self._modulation = Constant(modulation)
        self._demodulation = Constant(np.swapaxes(modulation, 1, 2))

    @property
    def input_probe_shape(self) -> tuple[int, int]:  # type: ignore[override]
        return (
            self.num_frequencies * self.groups,
            self.parts * self.geometry.num_phases * self.channels,
        )

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in a batch."""
        return 1 if self.data_format == "channels_first" else -1

    @abc.abstractmethod
    def set_shapes(self) -> None:
        """Sets the shapes of domain and codomain for `spatial_size`."""

    @abc.abstractmethod
    def taps(self, values=None):
        """The kernel `(taps, channels, groups, filters)`, array or tensor."""

    def symbol(self, values=None) -> Symbol:
        return Symbol(self.geometry.polyphase(self.taps(values)))

    def at_size(self, spatial_size: Sequence[int]) -> "SpatialMap":
        """The same map on inputs of one spatial size.

        Args:
            spatial_size: Size of the input along each spatial axis.

        Returns:
            A copy with the spatial axes of `domain_shape` and
            `codomain_shape` filled in.

        Raises:
            ValueError: If `spatial_size` has the wrong number of axes.
        """
        axes = len(self.window.kernel_size)
        if len(spatial_size) != axes:
            raise ValueError(
                f"`spatial_size` takes {axes} numbers, one for each spatial "
                f"axis of {self!r}. Received: "
                f"spatial_size={tuple(spatial_size)}"
            )
        fixed = copy.copy(self)
        fixed.spatial_size = tuple(int(n) for n in spatial_size)
        fixed.set_shapes()
        return fixed

    def shape(
        self, spatial: tuple[int | None, ...] | None, channels: int
    ) -> tuple[int | None, ...]:
        """Shape of one input or output in the layer's data format."""
        if spatial is None:
            axes = (None,) * len(self.window.kernel_size)
            return self.shape(axes, channels)
        if self.data_format == "channels_first":
            return (channels, *spatial)
        return (*spatial, channels)

    def channels_last(self, tensor):
        """Moves the channels of a batch to the end."""
        if self.data_format == "channels_first":
            return ops.moveaxis(tensor, 1, -1)
        return tensor

    def restore_format(self, tensor):
        """Moves the channels of a batch to where the layer has them."""
        if self.data_format == "channels_first":
            return ops.moveaxis(tensor, -1, 1)
        return tensor

    def modulate(self, probes):
        """Spreads input-side probes over the taps.

        Args:
            probes: Tensor `(F * groups, parts * phases * channels)`.

        Returns:
            Tensor `(F, parts * taps, groups * channels)`.
        """
        frequencies, groups = self.num_frequencies, self.groups
        rows, channels = self.parts * self.geometry.num_phases, self.channels
        if groups > 1:
            probes = reshaped(probes, (frequencies, groups, rows, channels))
            probes = permuted(probes, (0, 2, 1, 3))
        probes = reshaped(probes, (frequencies, rows, groups * channels))
        if frequencies == 1:
            # Every tap has a phase of its own.
            return probes
        return self._modulation.tensor(probes) @ probes

    def demodulate(self, spread):
        """The adjoint of `modulate`."""
        frequencies, groups = self.num_frequencies, self.groups
        rows, channels = self.parts * self.geometry.num_phases, self.channels
        if frequencies > 1:
            spread = self._demodulation.tensor(spread) @ spread
        if groups > 1:
            spread = reshaped(spread, (frequencies, rows, groups, channels))
            spread = permuted(spread, (0, 2, 1, 3))
        return reshaped(spread, (frequencies * groups, rows * channels))
