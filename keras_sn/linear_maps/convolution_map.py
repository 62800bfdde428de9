"""ConvolutionMap and TransposedConvolutionMap: what those layers apply."""

from keras_sn.fast_ops import permuted
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import transposed
from keras_sn.linear_maps.spatial import SpatialMap
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.linear_maps.weights import Weight
from keras_sn.linear_maps.window import Window


class ConvolutionMap(SpatialMap):
    """A convolution in any number of dimensions, strided, dilated, grouped.

    Stride is exact by polyphase decomposition, dilation by what it has in
    common with the stride (alone it leaves the norm as it is), groups are
    blocks of their own. A depthwise convolution is one with
    as many groups as channels.

    Args:
        weight: The kernel, `(*kernel_size, channels / groups, filters)`, or
            `(*kernel_size, channels, multiplier)` if depthwise.
        window: `Window` of the convolution.
        data_format: `"channels_last"` or `"channels_first"`.
        groups: Number of groups; the filters of a group are neighbours.
        depthwise: Whether each channel is a group of its own.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import linear_maps
    >>> layer = keras.layers.Conv1D(4, 3, name="conv")
    >>> layer.build((None, None, 2))
    >>> linear_maps(layer, norm="operator")
    {'conv/kernel': <ConvolutionMap conv/kernel: (None, 2) -> (None, 4)>}

    Reference:

    - [Sedghi et al., 2019](https://arxiv.org/abs/1805.10408)
    """

    def __init__(
        self,
        weight: Weight,
        window: Window,
        data_format: str,
        groups: int = 1,
        depthwise: bool = False,
    ):
        inputs, outputs = weight.shape[-2:]
        if depthwise:
            inputs, groups, outputs = 1, inputs, inputs * outputs
        super().__init__([weight], window, data_format, groups, inputs)
        self.filters = outputs // groups
        self.set_shapes()

    def set_shapes(self) -> None:
        size = self.spatial_size
        self.domain_shape = self.shape(size, self.groups * self.channels)
        if size is not None:
            size = self.window.output_size(size)
        self.codomain_shape = self.shape(size, self.groups * self.filters)
        self.probe_shape = (
            self.num_frequencies * self.groups,
            self.parts * self.filters,
        )

    def matvec(self, inputs, values=None):
        inputs = self.channels_last(inputs)
        size = tuple(inputs.shape[1:-1])
        outputs = self.window.gather(
            inputs,
            self._kernel(values),
            self.window.offsets(size),
            self.window.output_size(size),
        )
        return self.restore_format(outputs)

    def rmatvec(self, outputs, values=None):
        outputs = self.channels_last(outputs)
        size = self.spatial_size
        if size is None:
            size = self.window.input_size(tuple(outputs.shape[1:-1]))
        inputs = self.window.spread(
            outputs,
            self._kernel(values),
            self.groups,
            self.window.offsets(size),
            size,
        )
        return self.restore_format(inputs)

    def _kernel(self, values):
        """The kernel as `keras.ops.conv` takes it."""
        (kernel,) = self.values() if values is None else values
        return reshaped(
            kernel,
            (
                *self.window.kernel_size,
                self.channels,
                self.groups * self.filters,
            ),
        )

    def _matrices(self, values):
        """The kernel as `(taps * channels, filters)`, a stack if grouped."""
        (kernel,) = self.values() if values is None else values
        rows = self.geometry.num_taps * self.channels
        if self.groups == 1:
            return reshaped(kernel, (rows, self.filters))
        kernel = reshaped(kernel, (rows, self.groups, self.filters))
        return permuted(kernel, (1, 0, 2))

    def block_matvec(self, probes, values=None):
        rows, groups = self.parts * self.num_frequencies, self.groups
        taps, channels = self.geometry.num_taps, self.channels
        matrices = self._matrices(values)
        spread = self.modulate(probes)
        if groups == 1:
            spread = reshaped(spread, (rows, taps * channels))
            outputs = spread @ matrices
        else:
            spread = reshaped(spread, (rows, taps, groups, channels))
            spread = permuted(spread, (2, 0, 1, 3))
            spread = reshaped(spread, (groups, rows, taps * channels))
            outputs = spread @ matrices
            shape = (groups, self.num_frequencies, self.parts * self.filters)
            outputs = permuted(reshaped(outputs, shape), (1, 0, 2))
        return reshaped(outputs, self.probe_shape)

    def block_rmatvec(self, probes, values=None):
        rows, groups = self.parts * self.num_frequencies, self.groups
        taps, channels = self.geometry.num_taps, self.channels
        matrices = self._matrices(values)
        if groups == 1:
            probes = reshaped(probes, (rows, self.filters))
            spread = probes @ transposed(matrices)
        else:
            shape = (self.num_frequencies, groups, self.parts * self.filters)
            probes = permuted(reshaped(probes, shape), (1, 0, 2))
            probes = reshaped(probes, (groups, rows, self.filters))
            spread = probes @ permuted(matrices, (0, 2, 1))
            spread = reshaped(spread, (groups, rows, taps, channels))
            spread = permuted(spread, (1, 2, 0, 3))
        shape = (self.num_frequencies, self.parts * taps, groups * channels)
        return self.demodulate(reshaped(spread, shape))

    def taps(self, values=None):
        (kernel,) = self.values() if values is None else values
        return reshaped(
            kernel,
            (
                self.geometry.num_taps,
                self.channels,
                self.groups,
                self.filters,
            ),
        )


class TransposedConvolutionMap(SpatialMap):
    """A transposed convolution: the adjoint of a convolution, on a window.

    Args:
        weight: The kernel, `(*kernel_size, filters, channels)`.
        window: `Window` of the convolution of which it is the adjoint.
        data_format: `"channels_last"` or `"channels_first"`.
        output_padding: As in `keras.layers.Conv2DTranspose`, a tuple or
            `None`.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import linear_maps
    >>> layer = keras.layers.Conv1DTranspose(4, 3, strides=2, name="up")
    >>> layer.build((None, None, 2))
    >>> linear_maps(layer, norm="operator")["up/kernel"].at_size([5])
    <TransposedConvolutionMap up/kernel: (5, 2) -> (11, 4)>
    """

    def __init__(
        self,
        weight: Weight,
        window: Window,
        data_format: str,
        output_padding: tuple[int | None, ...] | None = None,
    ):
        filters, channels = weight.shape[-2:]
        super().__init__([weight], window, data_format, 1, filters)
        self.output_padding = output_padding
        self.adjoint = ConvolutionMap(weight, window, data_format)
        self.inputs = channels
        self.set_shapes()

    @property
    def input_probe_shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.adjoint.probe_shape

    def set_shapes(self) -> None:
        size = self.spatial_size
        self.domain_shape = self.shape(size, self.inputs)
        if size is not None:
            size = self.output_size(size)
        self.codomain_shape = self.shape(size, self.channels)
        self.probe_shape = (
            self.num_frequencies,
            self.parts * self.geometry.num_phases * self.channels,
        )

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of the output for that of the input."""
        window = self.window
        paddings = self.output_padding or (None,) * len(size)
        sizes = []
        for n, stride, extent, padding in zip(
            size, window.strides, window.extents, paddings, strict=True
        ):
            if window.padding == "valid":
                if padding is None:
                    padding = max(extent, stride) - extent
                sizes.append((n - 1) * stride + extent + padding)
            elif padding is None:
                sizes.append(n * stride)
            else:
                sizes.append((n - 1) * stride + extent % 2 + padding)
        return tuple(sizes)

    def _offsets(self) -> tuple[int, ...]:
        """Entries of the full output in front of those that are kept."""
        window = self.window
        paddings = self.output_padding or (None,) * len(window.strides)
        offsets = []
        for stride, extent, padding in zip(
            window.strides, window.extents, paddings, strict=True
        ):
            if window.padding == "valid":
                offsets.append(0)
                continue
            total = stride + extent - 2
            if padding is not None:
                total = extent + extent % 2 - 2 + padding
            offsets.append(extent - 1 - min(-(-total // 2), extent - 1))
        return tuple(offsets)

    def matvec(self, inputs, values=None):
        inputs = self.channels_last(inputs)
        (kernel,) = self.values() if values is None else values
        size = self.output_size(tuple(inputs.shape[1:-1]))
        outputs = self.window.spread(inputs, kernel, 1, self._offsets(), size)
        return self.restore_format(outputs)

    def rmatvec(self, outputs, values=None):
        outputs = self.channels_last(outputs)
        (kernel,) = self.values() if values is None else values
        size = self.spatial_size
        if size is None:
            size = self._input_size(tuple(outputs.shape[1:-1]))
        inputs = self.window.gather(outputs, kernel, self._offsets(), size)
        return self.restore_format(inputs)

    def _input_size(self, size):
        first = self.output_size((1,) * len(size))
        return tuple(
            (n - start) // stride + 1
            for n, start, stride in zip(
                size, first, self.window.strides, strict=True
            )
        )

    def block_matvec(self, probes, values=None):
        return self.adjoint.block_rmatvec(probes, values or self.values())

    def block_rmatvec(self, probes, values=None):
        return self.adjoint.block_matvec(probes, values or self.values())

    def taps(self, values=None):
        return self.adjoint.taps(values or self.values())

    def symbol(self, values=None) -> Symbol:
        return super().symbol(values).adjoint()
