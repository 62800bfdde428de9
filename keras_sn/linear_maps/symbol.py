"""Symbol: the matrix-valued trigonometric polynomial of a map."""

import math

import numpy as np
from keras import ops

from keras_sn.linear_maps.arrays import functions_of
from keras_sn.linear_maps.frequencies import excess
from keras_sn.linear_maps.frequencies import grid_sizes
from keras_sn.linear_maps.frequencies import half_grid

# Frequencies per axis where nothing is asked for.
_USUAL_GRID = 16


class Symbol:
    """`K^(w) = sum_p K_p exp(-i w . p)`, one for each group.

    A block-diagonal matrix is the case without axes. The norm of the map is
    the supremum of the norms of these matrices over groups and frequencies.

    Args:
        taps: Array or tensor `(groups, *kernel_size, rows, columns)` of the
            real taps; a row stands for an input, a column for an output. An
            array is taken in float64.
        error: Bound on the 2-norm of what rounding took from the symbol,
            where the taps were computed.
        sign: Sign of the exponent: `-1`, or `1` for an adjoint.

    Attributes:
        taps: That array.
        kernel_size: Taps per axis.
    """

    def __init__(self, taps, error: float = 0.0, sign: int = -1):
        if isinstance(taps, np.ndarray):
            taps = np.asarray(taps, "float64")
        self.taps = taps
        self.error = error
        self.sign = sign
        self.kernel_size = tuple(taps.shape[1:-2])

    @property
    def groups(self) -> int:
        return self.taps.shape[0]

    @property
    def matrix_shape(self) -> tuple[int, int]:
        rows, columns = self.taps.shape[-2:]
        return rows, columns

    @property
    def degrees(self) -> tuple[float, ...]:
        """Degree of the centred polynomial in each frequency."""
        return tuple((taps - 1) / 2 for taps in self.kernel_size)

    def excess(self, grid) -> float:
        """Factor by which the supremum can exceed the maximum on the grid."""
        return excess(self.kernel_size, grid_sizes(self.kernel_size, grid))

    def parts(self, angles: np.ndarray) -> tuple:
        """Real and imaginary part of the matrices at the given frequencies.

        Args:
            angles: Array `(frequencies, axes)`.

        Returns:
            Two arrays or tensors `(frequencies, groups, rows, columns)`.
        """
        functions = functions_of(self.taps)
        count, axes = math.prod(self.kernel_size), len(self.kernel_size)
        positions = np.array(list(np.ndindex(self.kernel_size)))
        phases = angles @ positions.reshape(count, axes).T
        taps = functions.reshape(
            self.taps, (self.groups, count, math.prod(self.matrix_shape))
        )
        shape = (len(angles), self.groups, *self.matrix_shape)
        parts = []
        for waves in (np.cos(phases), self.sign * np.sin(phases)):
            if functions is ops:
                waves = ops.convert_to_tensor(waves, taps.dtype)
            part = functions.transpose(functions.matmul(waves, taps), (1, 0, 2))
            parts.append(functions.reshape(part, shape))
        return tuple(parts)

    def at(self, angles: np.ndarray) -> np.ndarray:
        """The matrices at the given frequencies, complex, of an array."""
        real, imaginary = self.parts(angles)
        return real + 1j * imaginary

    def sample(self, grid=None) -> np.ndarray:
        """The matrices on half of a grid, `(blocks, rows, columns)`.

        Real where there is one frequency only, complex otherwise.

        Args:
            grid: Frequencies per axis: one number, one per axis, or `None`.
        """
        angles = self._half_grid(grid)
        if len(angles) == 1:
            return self.taps.reshape(-1, *self.matrix_shape)
        return self.at(angles).reshape(-1, *self.matrix_shape)

    def real_blocks(self, grid=None):
        """What `sample` gives, as real matrices; differentiable.

        A complex block becomes `[[Re, -Im], [Im, Re]]`, which has each of its
        singular values twice: `multiplicity(grid)`.
        """
        functions = functions_of(self.taps)
        angles = self._half_grid(grid)
        if len(angles) == 1:
            return functions.reshape(self.taps, (-1, *self.matrix_shape))
        real, imaginary = self.parts(angles)
        rows = (
            functions.concatenate([real, -imaginary], axis=-1),
            functions.concatenate([imaginary, real], axis=-1),
        )
        shape = (-1, *(2 * n for n in self.matrix_shape))
        return functions.reshape(functions.concatenate(rows, axis=-2), shape)

    def multiplicity(self, grid=None) -> int:
        """How often `real_blocks(grid)` has each singular value."""
        return 1 if len(self._half_grid(grid)) == 1 else 2

    def _half_grid(self, grid) -> np.ndarray:
        sizes = grid_sizes(
            self.kernel_size, _USUAL_GRID if grid is None else grid
        )
        return 2 * math.pi * half_grid(sizes) / np.asarray(sizes, "float64")

    def adjoint(self) -> "Symbol":
        """The symbol of the adjoint map."""
        axes = [*range(len(self.taps.shape))]
        axes[-2:] = axes[:-3:-1]
        taps = functions_of(self.taps).transpose(self.taps, axes)
        return Symbol(taps, self.error, -self.sign)

    def magnitude(self) -> float:
        """A power of two next to the largest entry, or zero."""
        largest = float(np.max(np.abs(self.taps), initial=0.0))
        if not largest:
            return 0.0
        # Its inverse is within the range of float64 too.
        return math.ldexp(1.0, max(math.frexp(largest)[1] - 1, -1000))

    def scaled(self, factor: float) -> "Symbol":
        """The symbol times a power of two, which is exact."""
        return Symbol(self.taps * factor, self.error * factor, self.sign)
