"""Refinement: a bracket of the norm of a symbol, as tight as asked for."""

import math
from collections.abc import Callable

import numpy as np

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.cells import FineGrid
from keras_sn.norms.flat_symbol import flat_bounds
from keras_sn.norms.gram_symbol import GramSymbol
from keras_sn.norms.peak import highest_frequency
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import proves_below
from keras_sn.norms.ritz import SMALL
from keras_sn.norms.ritz import converged_ritz_pair
from keras_sn.norms.ritz import ritz_pairs

# Bytes of Gram matrices to hold at a time.
_CHUNK = 2**26
# Phase that the first cells may reach: large ones are seldom excluded.
_FIRST_RADIUS = 0.5
_LANCZOS_STEPS = 8
# How many of the best frequencies to climb from.
_CLIMBS = 6
_CLIMB_STEPS = 10
# Of a symbol that is as flat no refinement finds more.
_FLAT = 1e-4


def refined_bounds(
    symbol: Symbol,
    rtol: float = 1e-2,
    progress: Callable[[int, int], object] | None = None,
    grid: tuple[int, ...] | None = None,
) -> NormBounds:
    """A certified bracket of the norm of a symbol.

    A good lower bound comes from Lanczos on a few frequencies and a climb
    from the best of them. Then `upper = lower / (1 - rtol)` is proved, on a
    grid fine enough, a Cholesky test per frequency; and boxes of the grid
    are excluded by a test at their middle: within a phase
    `theta = sum_i d_i |w_i - w0_i|` the norm can rise no faster than
    `s1(w0) = S cos(arccos(s1(w) / S) + theta)` says (Bernstein-Szego).

    Guarantee: both bounds hold, rounding of the float64 arithmetic included.

    Args:
        symbol: `Symbol` of finite numbers.
        rtol: Largest `(upper - lower) / upper`. Close to what rounding
            allows, the bracket is as tight as can be proved instead.
        progress: Called as `progress(done, total)`, in grid points.
        grid: Frequencies per axis, to bracket the maximum over that grid
            instead: the norm with circular padding at that input size.

    Returns:
        `NormBounds`.

    Reference:

    - Duffin & Schaeffer, 1938, on functions of exponential type
    - [Pfister & Bresler, 2019](https://arxiv.org/abs/1811.01337)
    """
    scale = symbol.magnitude()
    if scale == 0.0:
        return NormBounds(0.0, symbol.error)
    # Squares must neither overflow nor underflow; powers of two are exact.
    gram = GramSymbol(symbol.scaled(1 / scale))
    flat = flat_bounds(gram)
    if grid is None and flat.gap <= min(rtol, _FLAT):
        return flat.scaled(scale)
    return _Refinement(gram, rtol, progress, grid).run().scaled(scale)


def fine_grid(
    degrees: tuple[float, ...],
    rtol: float,
    sizes: tuple[int, ...] | None = None,
) -> FineGrid:
    """The grid on which a bound within `rtol` is proved.

    Most of the tolerance goes to its excess: the fewer points, the fewer
    tests, and those are the cost.
    """
    return FineGrid(degrees, 0.75 * rtol, sizes)


class _Refinement:
    """One run: the lower bound so far, and the upper bound being proved."""

    def __init__(self, gram, rtol, progress, sizes=None):
        self.gram = gram
        self.rtol = rtol
        self.progress = progress
        self.lower = 0.0
        self.start = np.random.default_rng(0).standard_normal(gram.size)
        self.grid = fine_grid(gram.degrees, rtol, sizes)
        # Off the grid the norm may be larger: no climbing, no exclusion.
        self.fixed = sizes is not None
        bytes_each = 16 * gram.size**2
        self.chunk = max(1, min(4096, _CHUNK // bytes_each))

    @property
    def upper(self):
        """What to prove: within `rtol` of the lower bound, beyond rounding."""
        floor = 4 * self.gram.error / max(self.lower, 1e-100) ** 2
        floor += 64 * (self.gram.size + 8) ** 2 * EPS
        return self.lower / (1 - min(max(0.97 * self.rtol, floor), 0.999))

    def run(self):
        cells = self.grid.cells(0.0 if self.fixed else _FIRST_RADIUS)
        groups = np.arange(self.gram.groups)
        groups = np.tile(groups, len(cells))
        cells = np.repeat(cells, self.gram.groups, axis=0)
        self.total = int(np.sum(np.prod(cells[:, 1], axis=1)))
        self.done = 0
        self.explore(cells, groups)
        while len(cells):
            cells, groups = self.exclude(cells, groups)
        return NormBounds(self.lower, self.upper * (1 + 4 * EPS))

    def chunks(self, cells, groups):
        """As many cells at a time as fit, with their Gram matrices."""
        for first in range(0, len(cells), self.chunk):
            part = slice(first, first + self.chunk)
            angles = self.grid.centers(cells[part])
            grams = self.gram.at(angles, groups[part])
            yield cells[part], groups[part], grams

    def explore(self, cells, groups):
        """Climbs from the best of the middles."""
        pairs = [
            ritz_pairs(grams, self.start, _LANCZOS_STEPS)
            for _, _, grams in self.chunks(cells, groups)
        ]
        values, vectors = map(np.concatenate, zip(*pairs, strict=True))
        angles = self.grid.centers(cells)
        for index in np.argsort(values)[::-1][:_CLIMBS]:
            self.climb(angles[index], groups[index], vectors[index])

    def climb(self, angle, group, vector):
        """Raises the lower bound from a frequency, to a peak of the norm.

        For one vector, `v* G(w) v` is a scalar polynomial: its peak is the
        next frequency, the top eigenvector there the next vector.
        """
        tolerance = 0.02 * self.rtol
        previous = 0.0
        for _ in range(_CLIMB_STEPS):
            gram = self.gram.at(angle[None], np.array([group]))[0]
            value, vector = converged_ritz_pair(gram, vector, tolerance)
            self.raise_lower(gram, vector)
            constant = self.fixed or len(self.gram.shifts) == 1
            if constant or value <= previous * (1 + tolerance):
                break
            previous = value
            profile = self.gram.profile(vector, group)
            angle = highest_frequency(profile, self.gram.shifts)

    def raise_lower(self, gram, vector):
        """Takes a Rayleigh quotient as the lower bound, if it is larger."""
        self.lower = max(self.lower, self.gram.lower(gram, vector))

    def exclude(self, cells, groups):
        """One pass over the cells; returns those still to be settled."""
        open_cells, open_groups = [], []
        for part, part_groups, grams in self.chunks(cells, groups):
            radii = self.grid.radii(part)
            tested = self.upper
            proved, estimates = self.settle(grams, radii)
            self.report(part[proved])
            for index in np.flatnonzero(~proved):
                if radii[index] == 0:
                    if self.upper == tested:
                        self.raise_to(
                            grams[index], part_groups[index], part[index]
                        )
                    pieces = part[index][None]
                else:
                    parts = self.parts(radii[index], estimates[index])
                    pieces = self.grid.split(part[index], parts)
                open_cells.append(pieces)
                open_groups.append(np.full(len(pieces), part_groups[index]))
        if not open_cells:
            return cells[:0], groups[:0]
        return np.concatenate(open_cells), np.concatenate(open_groups)

    def settle(self, grams, radii):
        """Which cells are proved to stay below `upper`; and estimates."""
        phases = np.minimum(radii + self.grid.angle, math.pi / 2)
        bounds = (self.upper * np.cos(phases)) ** 2 * (1 - 16 * EPS)
        estimates = self.estimates(grams, radii)
        # A test that must fail is not worth its cost.
        hopeful = np.flatnonzero(estimates <= bounds)
        proved = np.zeros(len(grams), dtype=bool)
        proved[hopeful] = proves_below(
            grams[hopeful], bounds[hopeful], self.gram.error
        )
        return proved, estimates

    def estimates(self, grams, radii):
        """The largest eigenvalues, from below, where they are of use."""
        if self.gram.size <= SMALL:
            return np.linalg.eigvalsh(grams)[:, -1]
        estimates = np.zeros(len(grams))
        # At a grid point nothing is left to split: the proof alone counts.
        inner = radii > 0
        if np.any(inner):
            estimates[inner], _ = ritz_pairs(
                grams[inner], self.start, _LANCZOS_STEPS
            )
        return estimates

    def raise_to(self, gram, group, cell):
        """Raises the lower bound to the norm at a grid point, and climbs on."""
        before = self.lower
        vector = np.linalg.eigh(gram)[1][:, -1]
        self.raise_lower(gram, vector)
        self.climb(self.grid.centers(cell[None])[0], group, vector)
        if self.lower <= before:
            raise ArithmeticError(
                "The bracket can't be made as tight as rtol="
                f"{self.rtol} in float64: it stays at {self.lower}."
            )

    def parts(self, radius, estimate):
        """Into how many pieces to cut, to be hopeful about each."""
        ratio = min(math.sqrt(max(estimate, 0.0)) / self.upper, 1.0)
        allowed = max(math.acos(ratio) - self.grid.angle, 1e-3 * radius)
        return max(2, math.ceil(radius / allowed))

    def report(self, cells):
        self.done += int(np.sum(np.prod(cells[:, 1], axis=1)))
        if self.progress is not None:
            self.progress(self.done, self.total)
