"""Linear maps of a convolutional chain, as taps at positions of an image."""

import dataclasses
import math

import numpy as np

from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.pieces.spatial import Averaging
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import TINY

Sizes = tuple[int, ...]


@dataclasses.dataclass
class Taps:
    """`y(q) = sum_t K_t x(strides * q + position_t)`, zero outside.

    Attributes:
        array: `(taps, outputs, inputs)`; `(taps, channels)` where each
            channel depends on itself alone.
        positions: Integers `(taps, axes)`.
        strides: Stride per axis; `None`: there is one output position.
        error: Bound on the norm of what rounding took from the map.
    """

    array: np.ndarray
    positions: np.ndarray
    strides: Sizes | None
    error: float = 0.0

    @property
    def diagonal(self) -> bool:
        return self.array.ndim == 2

    @property
    def outputs(self) -> int:
        return self.array.shape[1]

    @property
    def inputs(self) -> int:
        return self.array.shape[-1]

    @property
    def reach(self) -> Sizes:
        """Positions from the first tap to one past the last, per axis."""
        return tuple(np.ptp(self.positions, axis=0) + 1)

    def reads(self, outputs: Sizes) -> list[tuple[int, int]]:
        """First and last position that is read, per axis.

        Args:
            outputs: Sizes of the output image.
        """
        steps = self.strides or (1,) * self.positions.shape[1]
        # An image of one position at the end.
        outputs = outputs or (1,) * len(steps)
        first, last = self.positions.min(axis=0), self.positions.max(axis=0)
        return [
            (int(a), int(b) + step * (size - 1))
            for a, b, step, size in zip(
                first, last, steps, outputs, strict=True
            )
        ]

    def symbol(self, points: np.ndarray, sizes: Sizes) -> np.ndarray:
        """The matrices at frequencies of a torus.

        Args:
            points: Integers `(points, axes)`.
            sizes: Sizes of the torus that the input lives on.

        Returns:
            Array `(points, outputs, inputs)`, or `(points, channels)`; of one
            point where all are the same.
        """
        if not self.positions.any() and len(self.positions) == 1:
            return self.array
        waves = np.ones((len(points), len(self.positions)), "complex128")
        for axis, size in enumerate(sizes):
            # Multiples of the full turn cost no accuracy.
            turns = np.outer(points[:, axis], self.positions[:, axis]) % size
            waves *= np.exp(2j * np.pi * np.arange(size) / size)[turns]
        if max(sizes, default=1) == 1:
            waves = waves.real
        flat = self.array.reshape(len(self.positions), -1)
        return (waves @ flat).reshape(len(points), *self.array.shape[1:])

    def magnitude(self) -> float:
        """A bound of the norm of the symbol at each frequency."""
        squares = (self.array**2).sum(axis=tuple(range(1, self.array.ndim)))
        rounded = 1 + (self.array.size + 4) * EPS
        return float(np.sqrt(squares).sum()) * rounded + TINY

    def rounding(self) -> float:
        """A bound of the error of `symbol`, that of the taps included."""
        terms = len(self.positions) + 8 * self.positions.shape[1] + 8
        return self.error + 4 * terms * EPS * self.magnitude()


def kernel_taps(kernel: Kernel) -> Taps:
    """A convolution, by its window."""
    assert kernel.placement is not None
    window = kernel.placement.window
    return Taps(
        _matrices(kernel.array),
        _positions(window, kernel.placement.sizes),
        window.strides,
        kernel.error,
    )


def _matrices(array: np.ndarray) -> np.ndarray:
    """`(taps, inputs, groups, outputs)` of groups as one map of channels."""
    taps, inputs, groups, outputs = array.shape
    if inputs == outputs == 1:
        return array.reshape(taps, groups)
    if groups == 1:
        return array[:, :, 0].swapaxes(1, 2)
    full = np.zeros((taps, groups, outputs, groups, inputs))
    index = np.arange(groups)
    full[:, index, :, index, :] = array.transpose(2, 0, 3, 1)
    return full.reshape(taps, groups * outputs, groups * inputs)


def _positions(window, sizes: Sizes) -> np.ndarray:
    taps = np.array(list(np.ndindex(window.kernel_size)))
    return taps * window.dilation - np.array(window.offsets(sizes))


def averaging_taps(piece: Averaging, channels: int) -> Taps:
    """Average pooling, what lies outside of the image counted as zero."""
    assert piece.placement is not None
    window = piece.placement.window
    count = math.prod(window.kernel_size)
    array = np.full((count, channels), 1 / count)
    positions = _positions(window, piece.placement.sizes)
    return Taps(array, positions, window.strides, EPS)


def mean_taps(sizes: Sizes, channels: int) -> Taps:
    """The mean over all positions."""
    count = math.prod(sizes)
    return Taps(
        np.full((count, channels), 1 / count), _raster(sizes), None, EPS
    )


def flattened_taps(matrix: Matrix, sizes: Sizes, channels: int) -> Taps:
    """A matrix that acts on all positions, in the order of `Flatten`."""
    array = matrix.array.reshape(matrix.outputs, -1, channels)
    array = np.ascontiguousarray(array.transpose(1, 0, 2))
    return Taps(array, _raster(sizes), None, matrix.error)


def _raster(sizes: Sizes) -> np.ndarray:
    positions = np.array(list(np.ndindex(sizes)), dtype="int64")
    return positions.reshape(math.prod(sizes), len(sizes))


def pointwise_taps(piece: Matrix | Diagonal, axes: int) -> Taps:
    """A matrix, or a number per channel, at each position."""
    array = piece.vector if isinstance(piece, Diagonal) else piece.array
    return Taps(array[None], _origin(axes), (1,) * axes, piece.error)


def factor_taps(factor: float, channels: int, axes: int) -> Taps:
    """A factor, as exact as a rule tells it."""
    array = np.full((1, channels), factor)
    # A rule may round the factor up in size.
    error = 0.0 if abs(factor) == 1 else 2e-6 * abs(factor)
    return Taps(array, _origin(axes), (1,) * axes, error)


def shift_taps(starts: Sizes, channels: int) -> Taps:
    """The image moved: position 0 of the output is at `starts`."""
    axes = len(starts)
    position = np.array([starts], dtype="int64")
    return Taps(np.ones((1, channels)), position, (1,) * axes)


def _origin(axes: int) -> np.ndarray:
    return np.zeros((1, axes), dtype="int64")


def largest_edge_factor(piece: Averaging) -> float:
    """By how much a window at the edge averages fewer positions."""
    assert piece.placement is not None
    window, factor = piece.placement.window, 1.0
    sizes = piece.placement.sizes
    for size, taps, stride, outputs, offset in zip(
        sizes,
        window.kernel_size,
        window.strides,
        window.output_size(sizes),
        window.offsets(sizes),
        strict=True,
    ):
        starts = np.arange(outputs) * stride - offset
        inside = np.minimum(starts + taps, size) - np.maximum(starts, 0)
        factor *= taps / int(inside.min())
    return factor * (1 + len(sizes) * EPS) if factor > 1 else 1.0
