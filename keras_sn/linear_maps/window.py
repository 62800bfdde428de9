"""Window: how a convolution slides over its input, and the adjoint of that."""

import dataclasses
import math

from keras import ops


@dataclasses.dataclass(frozen=True)
class Window:
    """Kernel size, strides, dilation and padding of a convolution.

    Padding is done here, explicitly, so that the arithmetic is the same on
    all backends, whatever their convolutions call "same". Tensors are
    `(batch, *spatial, channels)`.

    Args:
        kernel_size: Taps per axis.
        strides: Stride per axis.
        dilation: Dilation per axis.
        padding: `"valid"`, `"same"` or `"causal"`.
    """

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    @property
    def extents(self) -> tuple[int, ...]:
        """Distance from the first tap to one past the last, per axis."""
        return tuple(
            (k - 1) * d + 1
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        )

    @property
    def undilated_strides(self) -> tuple[int, ...]:
        """Strides of a convolution without dilation that has the same norm.

        Output `n` sees the inputs `n stride + i dilation`. A divisor that
        both have in common can be left out: no other inputs are seen. Then
        tap `i` is in the phase `i dilation` modulo the stride, and the taps
        of a phase are `dilation` apart in it: that splits each phase into
        residue classes, in each of which the taps are neighbours. Phases in
        another order, and each moved by a distance of its own, change no
        norm over all input sizes.
        """
        return tuple(
            stride // math.gcd(stride, dilation)
            for stride, dilation in zip(
                self.strides, self.dilation, strict=True
            )
        )

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of the output for that of the input."""
        if self.padding == "valid":
            size = tuple(
                n - extent + 1
                for n, extent in zip(size, self.extents, strict=True)
            )
        return tuple(
            max(-(-n // s), 0) for n, s in zip(size, self.strides, strict=True)
        )

    def input_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of the input, where that of the output determines it.

        Raises:
            ValueError: If there are several (a stride above 1).
        """
        if max(self.strides, default=1) > 1:
            raise ValueError(
                "Inputs of several sizes give outputs of the size "
                f"{tuple(size)} with strides={self.strides}. Fix the size "
                "first: `linear_map.at_size(spatial_size)`."
            )
        if self.padding == "valid":
            return tuple(
                n + extent - 1
                for n, extent in zip(size, self.extents, strict=True)
            )
        return tuple(size)

    def offsets(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Zeros in front of an input of the given size, per axis."""
        if self.padding == "valid":
            return (0,) * len(size)
        if self.padding == "causal":
            return tuple(extent - 1 for extent in self.extents)
        outputs = self.output_size(size)
        return tuple(
            max((m - 1) * s + extent - n, 0) // 2
            for n, m, s, extent in zip(
                size, outputs, self.strides, self.extents, strict=True
            )
        )

    def gather(self, inputs, kernel, offsets, size):
        """Correlates with the kernel: what a convolution layer does.

        Args:
            inputs: Tensor `(batch, *spatial, channels)`.
            kernel: Tensor `(*kernel_size, channels / groups, filters)`.
            offsets: Zeros in front of the input, per axis.
            size: Spatial size of the output.
        """
        right = [
            (m - 1) * s + extent - offset - n
            for m, s, extent, offset, n in zip(
                size,
                self.strides,
                self.extents,
                offsets,
                inputs.shape[1:-1],
                strict=True,
            )
        ]
        inputs = _fit(inputs, offsets, right)
        return _correlate(inputs, kernel, self.strides, self.dilation)

    def spread(self, outputs, kernel, groups, offsets, size):
        """The adjoint of `gather`, back to inputs of `size`."""
        outputs = _insert_zeros(outputs, self.strides)
        left, right = [], []
        for n, extent, offset, m in zip(
            size, self.extents, offsets, outputs.shape[1:-1], strict=True
        ):
            left.append(extent - 1 - offset)
            right.append(n + offset - m)
        outputs = _fit(outputs, left, right)
        ones = (1,) * len(self.strides)
        kernel = _adjoint_kernel(kernel, groups)
        return _correlate(outputs, kernel, ones, self.dilation)


def _correlate(inputs, kernel, strides, dilation):
    if max(strides, default=1) > 1 and max(dilation, default=1) > 1:
        # TensorFlow refuses both at once.
        ones = (1,) * len(strides)
        outputs = _correlate(inputs, kernel, ones, dilation)
        return outputs[(slice(None), *(slice(None, None, s) for s in strides))]
    # The number of groups follows from the shapes of input and kernel.
    return ops.conv(
        inputs,
        kernel,
        strides=list(strides),
        padding="valid",
        data_format="channels_last",
        dilation_rate=list(dilation),
    )


def _adjoint_kernel(kernel, groups):
    """Taps reversed, inputs and outputs of each group exchanged."""
    *taps, inputs, outputs = kernel.shape
    axes = list(range(len(taps)))
    for axis in axes:
        # Before Keras 3.14 TensorFlow flips one axis at a time.
        kernel = ops.flip(kernel, axis)
    kernel = ops.reshape(kernel, (*taps, inputs, groups, outputs // groups))
    last = len(taps)
    kernel = ops.transpose(kernel, (*axes, last + 2, last + 1, last))
    return ops.reshape(kernel, (*taps, outputs // groups, groups * inputs))


def _insert_zeros(tensor, strides):
    """Puts `stride - 1` zeros between neighbours along each spatial axis."""
    for axis, stride in enumerate(strides, start=1):
        if stride == 1:
            continue
        shape = tuple(tensor.shape)
        tensor = ops.expand_dims(tensor, axis + 1)
        padding = [(0, 0)] * len(tensor.shape)
        padding[axis + 1] = (0, stride - 1)
        tensor = ops.pad(tensor, padding)
        length = shape[axis] * stride
        tensor = ops.reshape(
            tensor, (-1, *shape[1:axis], length, *shape[axis + 1 :])
        )
    return _fit(tensor, [0] * len(strides), [1 - s for s in strides])


def _fit(tensor, left, right):
    """Pads each spatial axis with zeros, or crops it where negative."""
    slices = [slice(None)]
    padding = [(0, 0)]
    for lo, hi, n in zip(left, right, tensor.shape[1:-1], strict=True):
        slices.append(slice(max(-lo, 0), n - max(-hi, 0)))
        padding.append((max(lo, 0), max(hi, 0)))
    if any(n < 0 for n in (*left, *right)):
        tensor = tensor[tuple(slices)]
    if any(n > 0 for n in (*left, *right)):
        tensor = ops.pad(tensor, [*padding, (0, 0)])
    return tensor
