"""CircularWindow: a convolution on a torus, where the image wraps around."""

from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.linear_maps.window import Window


class CircularWindow(Window):
    """A `Window` whose input wraps around, so that no edge loses anything.

    Of the sizes that the strides divide, each is as good as any other: the
    map is block diagonal at the frequencies of the torus, and its norm the
    largest of the symbol there.

    Args:
        kernel_size: Taps per axis, at least the strides.
        strides: Stride per axis.
        dilation: Ones.
        padding: `"circular"`.
    """

    def margins(self) -> list[tuple[int, int]]:
        """How much to repeat before and after the input, per axis."""
        totals = [
            extent - stride
            for extent, stride in zip(self.extents, self.strides, strict=True)
        ]
        return [(total // 2, total - total // 2) for total in totals]

    def offsets(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(before for before, _ in self.margins())

    def gather(self, inputs, kernel, offsets, size):
        inputs = wrap(inputs, self.margins(), first_axis=1)
        return super().gather(inputs, kernel, (0,) * len(size), size)

    def spread(self, outputs, kernel, groups, offsets, size):
        margins = self.margins()
        wrapped = tuple(
            n + sum(margin) for n, margin in zip(size, margins, strict=True)
        )
        zeros = (0,) * len(size)
        inputs = super().spread(outputs, kernel, groups, zeros, wrapped)
        for axis, (n, margin) in enumerate(
            zip(size, margins, strict=True), start=1
        ):
            inputs = _unwrap(inputs, axis, n, *margin)
        return inputs


def wrap(tensor: Array, margins: list[tuple[int, int]], first_axis: int):
    """Repeats a periodic image beyond its edges.

    Args:
        tensor: Batch of images.
        margins: For each spatial axis how much before and after it.
        first_axis: The first spatial axis.
    """
    for axis, (before, after) in enumerate(margins, start=first_axis):
        parts = [tensor]
        if before:
            parts.insert(0, _along(tensor, axis, slice(-before, None)))
        if after:
            parts.append(_along(tensor, axis, slice(None, after)))
        if len(parts) > 1:
            tensor = ops.concatenate(parts, axis=axis)
    return tensor


def _unwrap(tensor, axis, size, before, after):
    """The adjoint of `wrap`: what was repeated is added where it is from."""
    middle = _along(tensor, axis, slice(before, before + size))
    for part, left in (
        (_along(tensor, axis, slice(None, before)), size - before),
        (_along(tensor, axis, slice(before + size, None)), 0),
    ):
        length = before if left else after
        padding = [(0, 0)] * len(tensor.shape)
        padding[axis] = (left, size - left - length)
        middle = middle + ops.pad(part, padding)
    return middle


def _along(tensor, axis, part):
    return tensor[(slice(None),) * axis + (part,)]
