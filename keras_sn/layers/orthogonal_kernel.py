"""Kernels of convolutions that are orthogonal at every frequency.

A matrix `P` that projects makes a filter of two taps, `P + (I - P) z`, which
is unitary wherever `|z| = 1`. So are products of such filters along each axis,
and a patch of them with a matrix of orthonormal columns or rows.
"""

import math

import numpy as np
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.layers.orthonormal import orthonormal_columns


class KernelPlan:
    """Of which parts an orthogonal kernel is made.

    A stride reads patches, of as many taps as the stride; the other taps come
    from filters in front of them.

    Args:
        kernel_size: Taps per axis.
        strides: Stride per axis, at most the taps.
        channels: Input channels.
        filters: Output channels.

    Attributes:
        middle: Channels of the filters. As many as the matrices around them
            can keep orthogonal, since fewer channels say less.
        axes: For each filter of two taps, the axis it is along.
    """

    def __init__(
        self,
        kernel_size: tuple[int, ...],
        strides: tuple[int, ...],
        channels: int,
        filters: int,
    ) -> None:
        self.strides = strides
        self.channels = channels
        self.filters = filters
        patch = math.prod(strides)
        self.middle = max(channels, filters // patch)
        taps = [k - s for k, s in zip(kernel_size, strides, strict=True)]
        # By turns, so that no axis comes last.
        self.axes = [
            axis
            for turn in range(max(taps))
            for axis, count in enumerate(taps)
            if turn < count
        ]

    @property
    def expands(self) -> bool:
        """Whether a matrix in front makes more channels."""
        return self.middle > self.channels

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the variables: matrices, the larger side first."""
        patch = math.prod(self.strides) * self.middle
        shapes: dict[str, tuple[int, ...]] = {
            "patches": (max(patch, self.filters), min(patch, self.filters))
        }
        if self.expands:
            shapes["expansion"] = (self.middle, self.channels)
        if self.axes:
            # Half of the channels wait for the next tap, half do not.
            shapes["projections"] = (
                len(self.axes),
                self.middle,
                self.middle // 2,
            )
        return shapes

    def kernel(self, variables: dict[str, Array]) -> Array:
        """The kernel `(*kernel_size, channels, filters)`.

        Guarantee: up to rounding, at every frequency its (polyphase) symbol
        has singular values of 1 alone, whatever the variables.

        Args:
            variables: Tensors of `shapes`.

        Reference:

        - [Li et al., 2019](https://arxiv.org/abs/1911.00937)
        - [Boissin et al., 2025](https://arxiv.org/abs/2501.08139)
        """
        kernel = self._filters(variables)
        patches = orthonormal_columns(variables["patches"])
        if math.prod(self.strides) * self.middle < self.filters:
            patches = ops.transpose(patches)
        return self._patched(kernel, patches)

    def _filters(self, variables):
        """The kernel of the filters, `(*taps, channels, middle)`."""
        rank = len(self.strides)
        if self.expands:
            start = ops.transpose(orthonormal_columns(variables["expansion"]))
        else:
            dtype = variables["patches"].dtype
            start = ops.eye(self.channels, dtype=dtype)
        kernel = ops.reshape(start, (1,) * rank + tuple(start.shape))
        if not self.axes:
            return kernel
        bases = orthonormal_columns(variables["projections"])
        for number, axis in enumerate(self.axes):
            stays, moves = _shifted(kernel, axis)
            # By turns, so that an odd channel does not always wait.
            if number % 2:
                stays, moves = moves, stays
            difference = ops.matmul(stays - moves, bases[number])
            kernel = moves + ops.matmul(
                difference, ops.transpose(bases[number])
            )
        return kernel

    def _patched(self, kernel, patches):
        """The filters, and a matrix of patches behind them."""
        if not self.axes:
            pieces = ops.reshape(patches, (*self.strides, self.middle, -1))
            return ops.matmul(kernel, pieces)
        pieces = ops.reshape(patches, (-1, self.middle, self.filters))
        kernels = []
        for number, place in enumerate(np.ndindex(self.strides)):
            padding = [
                (before, stride - 1 - before)
                for before, stride in zip(place, self.strides, strict=True)
            ]
            product = ops.matmul(kernel, pieces[number])
            kernels.append(ops.pad(product, [*padding, (0, 0), (0, 0)]))
        return sum(kernels[1:], kernels[0])


def _shifted(kernel, axis):
    """The kernel with one more tap along an axis: behind it, and before."""
    padding = [[(0, 0)] * len(kernel.shape) for _ in range(2)]
    padding[0][axis], padding[1][axis] = (0, 1), (1, 0)
    return ops.pad(kernel, padding[0]), ops.pad(kernel, padding[1])
