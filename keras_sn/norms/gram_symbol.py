"""GramSymbol: `K^(w)* K^(w)` of a symbol, at many frequencies, in float64."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import TINY
from keras_sn.norms.ritz import rayleigh_quotient

# Up to this many entries a matrix is cheaper to gather than to loop over.
_SMALL_MATRIX = 1024


class GramSymbol:
    """The Gram matrices of the smaller side of a symbol.

    `G(w) = sum_r A_r exp(-i w . r)` with the autocorrelation
    `A_r = sum_p K_p^T K_(p+r)` of the taps: once these are known, a frequency
    costs a sum of a few real matrices instead of a product of complex ones.

    Args:
        symbol: `Symbol`.

    Attributes:
        size: Rows of a Gram matrix.
        groups: Number of groups.
        degrees: Degree `d_i = (k_i - 1) / 2` of the symbol in each frequency.
        error: Bound on the 2-norm of the rounding error of a Gram matrix.
    """

    def __init__(self, symbol: Symbol):
        taps = symbol.taps
        if taps.shape[-2] < taps.shape[-1]:
            taps = np.swapaxes(taps, -1, -2)
        self.groups = symbol.groups
        self.size = taps.shape[-1]
        self.degrees = symbol.degrees
        self.shifts, matrices = _autocorrelation(taps)
        first, others = matrices[:1], matrices[1:]
        flipped = np.swapaxes(others, -1, -2)
        flat = (-1, self.groups, self.size * self.size)
        self._even = np.concatenate([first, others + flipped]).reshape(flat)
        self._odd = (flipped - others).reshape(flat)
        self.error = self._rounding(taps, symbol.error)

    def _rounding(self, taps, inherited):
        # Each entry of each sum is off by at most (length of the sum) eps
        # times the sum of the absolute values; over all taps those sums are
        # (sum_p |K_p|)^T (sum_p |K_p|), of norm at most `magnitude`.
        axes = tuple(range(1, taps.ndim - 2))
        magnitudes = np.sum(np.abs(taps), axis=axes)
        magnitude = float(np.max(np.sum(magnitudes**2, axis=(-2, -1))))
        count = math.prod(taps.shape[1:-2])
        length = count * taps.shape[-2] + 4 * count + self.size
        length += 32 * (1 + sum(taps.shape[1:-2]))
        rounding = 4 * length * EPS * magnitude
        rounding += 2 * inherited * (math.sqrt(magnitude) + inherited)
        return rounding + length * self.size * TINY

    def at(self, angles, groups):
        """Gram matrices of pairs of a frequency and a group.

        Args:
            angles: Array `(points, axes)`.
            groups: Integers `(points,)`.

        Returns:
            Array `(points, size, size)`; real if the symbol has no axes.
        """
        phases = angles @ self.shifts.T
        real = self._combine(np.cos(phases), self._even, groups)
        if len(self.shifts) > 1:
            odd = self._combine(np.sin(phases[:, 1:]), self._odd, groups)
            real = real + 1j * odd
        return real.reshape(-1, self.size, self.size)

    def mean(self) -> np.ndarray:
        """The mean over all frequencies, `A_0` of each group."""
        return self._even[0].reshape(-1, self.size, self.size)

    def others(self) -> Iterator[np.ndarray]:
        """Yields the other `A_r`, one of each pair, `(groups, size, size)`."""
        shape = (self.groups, self.size, self.size)
        for even, odd in zip(self._even[1:], self._odd, strict=True):
            yield ((even - odd) / 2).reshape(shape)

    def lower(self, gram: np.ndarray, vector: np.ndarray) -> float:
        """A lower bound of the norm, from one of the matrices and a vector."""
        rounding = 8 * (self.size + 8) * EPS * float(np.trace(gram).real)
        square = rayleigh_quotient(gram, vector) - rounding - self.error
        return math.sqrt(max(square, 0.0)) * (1 - 4 * EPS)

    def _combine(self, phases, matrices, groups):
        if self.groups == 1:
            return phases @ matrices[:, 0]
        if self.size**2 <= _SMALL_MATRIX:
            chosen = matrices[:, groups]
            return np.einsum("pr,rpm->pm", phases, chosen)
        result = np.empty((len(phases), self.size**2))
        for group in np.unique(groups):
            rows = groups == group
            result[rows] = phases[rows] @ matrices[:, group]
        return result

    def profile(self, vector, group):
        """How `v* G(w) v` depends on the frequency, for one vector.

        Returns:
            Complex coefficients `c`: the value is `Re sum_r c_r exp(-i w.r)`,
            over `shifts`.
        """
        even = self._even[:, group].reshape(-1, self.size, self.size)
        odd = self._odd[:, group].reshape(-1, self.size, self.size)
        real = np.real((even @ vector) @ vector.conj())
        imaginary = np.zeros(len(even))
        imaginary[1:] = np.imag((odd @ vector) @ vector.conj())
        # Re((a + i b) e^{-i phase}) = a cos + b sin, and the odd part enters
        # as Re(i v* D v) sin = -Im(v* D v) sin.
        return real - 1j * imaginary


def _autocorrelation(taps):
    """Shifts, zero first, one of each pair `r, -r`; and the matrices `A_r`."""
    kernel_size = taps.shape[1:-2]
    zero = (0,) * len(kernel_size)
    ranges = [range(1 - k, k) for k in kernel_size]
    shifts = [r for r in itertools.product(*ranges) if r >= zero]
    shifts.sort()
    matrices = []
    columns = taps.shape[-1]
    for shift in shifts:
        front, back = [slice(None)], [slice(None)]
        for r, k in zip(shift, kernel_size, strict=True):
            front.append(slice(max(-r, 0), k - max(r, 0)))
            back.append(slice(max(r, 0), k - max(-r, 0)))
        left = taps[tuple(front)].reshape(len(taps), -1, columns)
        right = taps[tuple(back)].reshape(len(taps), -1, columns)
        matrices.append(np.matmul(np.swapaxes(left, -1, -2), right))
    table = np.array(shifts, dtype="float64")
    return table.reshape(len(shifts), len(kernel_size)), np.stack(matrices)
