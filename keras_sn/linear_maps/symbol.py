"""Symbol: the matrix-valued trigonometric polynomial of a map, in NumPy."""

import math

import numpy as np

from keras_sn.linear_maps.frequencies import excess
from keras_sn.linear_maps.frequencies import half_grid


class Symbol:
    """`K^(w) = sum_p K_p exp(-i w . p)`, one for each group, in float64.

    A block-diagonal matrix is the case without axes. The norm of the map is
    the supremum of the norms of these matrices over groups and frequencies.

    Args:
        taps: Array `(groups, *kernel_size, rows, columns)` of the real taps;
            a row stands for an input, a column for an output.
        error: Bound on the 2-norm of what rounding took from the symbol,
            where the taps were computed.

    Attributes:
        taps: That array, float64.
        kernel_size: Taps per axis.
    """

    def __init__(self, taps, error=0.0):
        self.taps = np.asarray(taps, dtype="float64")
        self.error = error
        self.kernel_size = self.taps.shape[1:-2]

    @property
    def groups(self):
        return self.taps.shape[0]

    @property
    def matrix_shape(self):
        return self.taps.shape[-2:]

    def grid(self, grid):
        """Frequencies per axis: one number, one per axis, or `None` for 16.

        An axis with a single tap needs a single frequency.
        """
        if grid is None:
            grid = 16
        if np.ndim(grid) == 0:
            grid = (grid,) * len(self.kernel_size)
        return tuple(
            1 if taps == 1 else int(size)
            for taps, size in zip(self.kernel_size, grid, strict=True)
        )

    def excess(self, grid):
        """Factor by which the supremum can exceed the maximum on the grid."""
        return excess(self.kernel_size, self.grid(grid))

    def at(self, angles):
        """The matrices at the given frequencies.

        Args:
            angles: Array `(frequencies, axes)`.

        Returns:
            Complex array `(frequencies, groups, rows, columns)`.
        """
        count, axes = math.prod(self.kernel_size), len(self.kernel_size)
        positions = np.array(list(np.ndindex(self.kernel_size)))
        positions = positions.reshape(count, axes)
        phases = np.exp(-1j * (angles @ positions.T))
        taps = self.taps.reshape(
            self.groups, count, math.prod(self.matrix_shape)
        )
        result = np.einsum("ft,gtm->fgm", phases, taps, optimize=True)
        return result.reshape(len(angles), self.groups, *self.matrix_shape)

    def sample(self, grid):
        """The matrices on half of a grid, `(blocks, rows, columns)`.

        Real where there is one frequency only, complex otherwise.
        """
        grid = self.grid(grid)
        points = half_grid(grid)
        if len(points) == 1:
            return self.taps.reshape(-1, *self.matrix_shape)
        angles = 2 * math.pi * points / np.asarray(grid, dtype="float64")
        return self.at(angles).reshape(-1, *self.matrix_shape)

    def adjoint(self):
        """The symbol of the adjoint map, up to the order of the frequencies."""
        return Symbol(np.swapaxes(self.taps, -1, -2), self.error)

    def magnitude(self):
        """A power of two next to the largest entry, or zero."""
        largest = float(np.max(np.abs(self.taps), initial=0.0))
        return 2.0 ** max(math.frexp(largest)[1], -1000) if largest else 0.0

    def scaled(self, factor):
        """The symbol times a power of two, which is exact."""
        return Symbol(self.taps * factor, self.error * factor)
