"""The matrices of a chain's linear maps at the frequencies of a torus."""

import math

import numpy as np

from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.norms.proofs import EPS

# From one value of a state: `(points, channels, channels)`, of one point where
# all are equal; `None` for the value itself.
Part = np.ndarray | None


class Rows:
    """The matrices from a state to one value.

    Attributes:
        parts: By position in the state, what comes from that value of it.
        channels: Channels of the value.
        size: Bound on their norms.
        error: Bound on the norm of the error of each.
    """

    def __init__(
        self, parts: dict[int, Part], channels: int, size: float, error: float
    ):
        self.parts, self.channels = parts, channels
        self.size, self.error = size, error


class Map:
    """The matrices from a state to values side by side.

    Attributes:
        rows: The `Rows` of each value.
        error: Bound on the norm of the error of each matrix.
    """

    def __init__(self, rows: list[Rows], channels: list[int]):
        self.rows = rows
        self.error = math.hypot(*(row.error for row in rows)) * (1 + 8 * EPS)
        ends = np.cumsum([0, *channels])
        self.slices = [
            slice(ends[i], ends[i + 1]) for i in range(len(channels))
        ]

    def dense(self) -> np.ndarray:
        """Array `(points, rows, state)`."""
        return np.concatenate(
            [_spread_out(row, self.slices, self._count) for row in self.rows],
            axis=1,
        )

    @property
    def _count(self) -> int:
        parts = [part for row in self.rows for part in row.parts.values()]
        return max([1, *(len(part) for part in parts if part is not None)])

    def congruence(self, covariance: np.ndarray) -> np.ndarray:
        """`W P W^H` without the products with zero and one."""
        halves = [self._times(row, covariance) for row in self.rows]
        ends = np.cumsum([0, *(row.channels for row in self.rows)])
        count = max(len(half) for half in halves)
        dtype = np.result_type(*halves)
        result = np.empty((count, ends[-1], ends[-1]), dtype)
        for i, half in enumerate(halves):
            above = slice(ends[i], ends[i + 1])
            for j, row in enumerate(self.rows[: i + 1]):
                beside = slice(ends[j], ends[j + 1])
                block = self._times_adjoint(half, row)
                result[:, above, beside] = block
                if j < i:
                    result[:, beside, above] = _adjoint(block)
        return result

    def _times(self, row: Rows, covariance: np.ndarray) -> np.ndarray:
        total = None
        for position, part in row.parts.items():
            own = covariance[:, self.slices[position], :]
            term = own if part is None else part @ own
            total = term if total is None else total + term
        assert total is not None
        return total

    def _times_adjoint(self, half: np.ndarray, row: Rows) -> np.ndarray:
        total = None
        for position, part in row.parts.items():
            own = half[:, :, self.slices[position]]
            term = own if part is None else own @ _adjoint(part)
            total = term if total is None else total + term
        assert total is not None
        return total


def _spread_out(row: Rows, slices: list[slice], count: int) -> np.ndarray:
    parts = [row.parts.get(i, 0.0) for i in range(len(slices))]
    kinds = [part for part in parts if isinstance(part, np.ndarray)]
    shape = count, row.channels, slices[-1].stop
    array = np.zeros(shape, np.result_type("float64", *kinds))
    for part, own in zip(parts, slices, strict=True):
        array[:, :, own] = np.eye(row.channels) if part is None else part
    return array


class Weights:
    """Evaluates the linear maps of a chain.

    Args:
        plan: The `Schedule`.
        torus: The `Torus`.
    """

    def __init__(self, plan: Schedule, torus: Torus):
        self.plan, self.torus = plan, torus

    def between(
        self, state: list[int], rows: list[int], points: np.ndarray
    ) -> Map:
        """The matrices from a state to values side by side.

        Args:
            state: The values of the state.
            rows: The values.
            points: Frequencies of the torus of the state, `(points, axes)`.
        """
        channels = [self.plan.signals[value].channels for value in state]
        found: dict[int, Rows] = {}
        for i, value in enumerate(state):
            found.setdefault(value, Rows({i: None}, channels[i], 1.0, 0.0))
        return Map(
            [self._rows(value, found, points) for value in rows], channels
        )

    def _rows(self, value: int, found: dict[int, Rows], points) -> Rows:
        if value not in found:
            op = self.plan.linear[value]
            if isinstance(op, Linear):
                before = self._rows(op.source, found, points)
                found[value] = self._mapped(op, before, points)
            else:
                parts = [self._rows(v, found, points) for v in op.sources]
                found[value] = _combined(parts, op.weights)
        return found[value]

    def _mapped(self, op: Linear, before: Rows, points: np.ndarray) -> Rows:
        taps = op.taps
        sizes = self.torus.at(self.plan.signals[op.source].reduction)
        symbol = taps.symbol(points % np.array(sizes, "int64"), sizes)
        parts: dict[int, Part] = {}
        for position, part in before.parts.items():
            if taps.diagonal:
                own = np.eye(taps.inputs) if part is None else part
                parts[position] = symbol[..., None] * own
            else:
                parts[position] = symbol if part is None else symbol @ part
        size, error = taps.magnitude(), taps.rounding()
        terms = 4 * (taps.inputs + 4) * math.sqrt(taps.inputs) * len(parts)
        lost = (
            error * before.size
            + size * before.error
            + error * before.error
            + terms * EPS * size * before.size
        )
        product = size * before.size * (1 + 4 * EPS)
        return Rows(parts, taps.outputs, product, 1.001 * lost)


def _combined(rows: list[Rows], weights: tuple[float, ...] | None) -> Rows:
    """The weighted sum of values, or values side by side."""
    if weights is None:
        return _side_by_side(rows)
    if len(rows) == 1 and weights[0] == 1:
        return rows[0]
    parts: dict[int, Part] = {}
    for row, weight in zip(rows, weights, strict=True):
        for position, part in row.parts.items():
            if part is None and weight == 1 and position not in parts:
                parts[position] = None
                continue
            own = np.eye(row.channels)[None] if part is None else part
            total = weight * own
            if position in parts:
                known = parts[position]
                if known is None:
                    known = np.eye(row.channels)[None]
                total = known + total
            parts[position] = total
    moduli = np.abs(weights)
    size = float(moduli @ [row.size for row in rows]) * 1.001
    error = float(moduli @ [row.error for row in rows]) * 1.001
    terms = (len(rows) + 4) * math.sqrt(rows[0].channels) * len(parts)
    return Rows(parts, rows[0].channels, size, error + terms * EPS * size)


def _side_by_side(rows: list[Rows]) -> Rows:
    channels = sum(row.channels for row in rows)
    parts: dict[int, Part] = {}
    widths = {
        position: row.channels if part is None else part.shape[-1]
        for row in rows
        for position, part in row.parts.items()
    }
    for position in widths:
        blocks = [row.parts.get(position, 0.0) for row in rows]
        width = widths[position]
        known = [b for b in blocks if isinstance(b, np.ndarray)]
        count = max([1, *map(len, known)])
        array = np.zeros(
            (count, channels, width), np.result_type("float64", *known)
        )
        first = 0
        for row, block in zip(rows, blocks, strict=True):
            own = np.eye(width) if block is None else block
            array[:, first : first + row.channels] = own
            first += row.channels
        parts[position] = array
    size = math.hypot(*(row.size for row in rows)) * (1 + 8 * EPS)
    error = math.hypot(*(row.error for row in rows)) * (1 + 8 * EPS)
    return Rows(parts, channels, size, error)


def _adjoint(matrix: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(matrix, -1, -2))
