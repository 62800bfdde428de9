"""SeparableConvolutionMap: depthwise and pointwise convolution as one map."""

import numpy as np
from keras import ops

from keras_sn.fast_ops import reshaped
from keras_sn.linear_maps.arrays import EPS
from keras_sn.linear_maps.arrays import TINY
from keras_sn.linear_maps.arrays import functions_of
from keras_sn.linear_maps.spatial import SpatialMap
from keras_sn.linear_maps.weights import Weight
from keras_sn.linear_maps.window import Window


class SeparableConvolutionMap(SpatialMap):
    """A separable convolution, of the symbol `P diag(k^_c(w))`.

    The norm of the product, which the product of the two norms exceeds.

    Args:
        pointwise: The kernel `(1, ..., channels * multiplier, filters)`; it
            is the weight to scale.
        depthwise: The kernel `(*kernel_size, channels, multiplier)`.
        window: `Window` of the depthwise convolution.
        data_format: `"channels_last"` or `"channels_first"`.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import linear_maps
    >>> layer = keras.layers.SeparableConv2D(4, 3, name="conv")
    >>> layer.build((None, None, None, 2))
    >>> (separable,) = linear_maps(layer, norm="operator").values()
    >>> [weight.path for weight in separable.weights]
    ['conv/pointwise_kernel', 'conv/depthwise_kernel']
    """

    def __init__(
        self,
        pointwise: Weight,
        depthwise: Weight,
        window: Window,
        data_format: str,
    ):
        channels, self.multiplier = depthwise.shape[-2:]
        self.filters = pointwise.shape[-1]
        super().__init__(
            [pointwise, depthwise], window, data_format, 1, channels
        )
        self.set_shapes()

    def set_shapes(self) -> None:
        size = self.spatial_size
        self.domain_shape = self.shape(size, self.channels)
        if size is not None:
            size = self.window.output_size(size)
        self.codomain_shape = self.shape(size, self.filters)
        self.probe_shape = (self.num_frequencies, self.parts * self.filters)

    def _kernels(self, values):
        """Pointwise matrix, and depthwise `(taps, channels, multiplier)`."""
        pointwise, depthwise = self.values() if values is None else values
        columns = self.channels * self.multiplier
        pointwise = reshaped(pointwise, (columns, self.filters))
        shape = (self.geometry.num_taps, self.channels, self.multiplier)
        return pointwise, reshaped(depthwise, shape)

    def _depthwise_kernel(self, depthwise):
        """The depthwise kernel as a grouped one, for `keras.ops.conv`."""
        columns = self.channels * self.multiplier
        return reshaped(depthwise, (*self.window.kernel_size, 1, columns))

    def matvec(self, inputs, values=None):
        inputs = self.channels_last(inputs)
        size = tuple(inputs.shape[1:-1])
        pointwise, depthwise = self._kernels(values)
        outputs = self.window.gather(
            inputs,
            self._depthwise_kernel(depthwise),
            self.window.offsets(size),
            self.window.output_size(size),
        )
        return self.restore_format(outputs @ pointwise)

    def rmatvec(self, outputs, values=None):
        outputs = self.channels_last(outputs)
        size = self.spatial_size
        if size is None:
            size = self.window.input_size(tuple(outputs.shape[1:-1]))
        pointwise, depthwise = self._kernels(values)
        inputs = self.window.spread(
            outputs @ ops.transpose(pointwise),
            self._depthwise_kernel(depthwise),
            self.channels,
            self.window.offsets(size),
            size,
        )
        return self.restore_format(inputs)

    def block_matvec(self, probes, values=None):
        pointwise, depthwise = self._kernels(values)
        outputs = self._apply_depthwise(self.modulate(probes), depthwise)
        return reshaped(outputs @ pointwise, self.probe_shape)

    def block_rmatvec(self, probes, values=None):
        pointwise, depthwise = self._kernels(values)
        frequencies, taps = self.num_frequencies, self.geometry.num_taps
        probes = reshaped(probes, (self.parts * frequencies, self.filters))
        inner = reshaped(
            probes @ ops.transpose(pointwise),
            (self.parts * frequencies, 1, self.channels, self.multiplier),
        )
        spread = ops.sum(inner * depthwise, axis=-1)
        spread = reshaped(
            spread, (frequencies, self.parts * taps, self.channels)
        )
        return self.demodulate(spread)

    def _apply_depthwise(self, spread, depthwise):
        """`(..., parts * taps, channels)` to `(n, channels * multiplier)`."""
        spread = reshaped(
            spread, (-1, self.geometry.num_taps, self.channels, 1)
        )
        outputs = ops.sum(spread * depthwise, axis=1)
        return reshaped(outputs, (-1, self.channels * self.multiplier))

    def taps(self, values=None):
        pointwise, depthwise = self._kernels(values)
        # A product of matrices for each channel.
        shape = (self.channels, self.multiplier, self.filters)
        functions = functions_of(pointwise)
        kernel = functions.matmul(
            functions.transpose(depthwise, (1, 0, 2)),
            functions.reshape(pointwise, shape),
        )
        return functions.transpose(kernel, (1, 0, 2))[:, :, None, :]

    def rounding(self, values: tuple[np.ndarray, ...]) -> float:
        # An entry is a sum of `multiplier` products.
        sizes = self.taps(tuple(map(np.abs, values)))
        relative = 2 * (self.multiplier + 2) * EPS
        norms = np.linalg.norm(sizes, axis=(1, 3)).sum()
        # Products that leave the range of float64 lose at most this much.
        absolute = (self.multiplier + 1) * sizes.size * TINY
        return float(relative * norms + absolute)
