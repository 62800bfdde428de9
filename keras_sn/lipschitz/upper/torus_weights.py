"""The matrices of a chain's linear maps at the frequencies of a torus."""

import numpy as np

from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.norms.proofs import EPS


class Block:
    """The matrices from one state to one value.

    Attributes:
        array: `(points, channels, state)`; of one point where all are equal.
        size: Bound on their norms.
        error: Bound on the norm of the error of each.
    """

    def __init__(self, array: np.ndarray, size: float, error: float):
        self.array, self.size, self.error = array, size, error


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
    ) -> tuple[np.ndarray, float]:
        """The matrices from a state to values side by side.

        Args:
            state: The values of the state.
            rows: The values.
            points: Frequencies of the torus of the state, `(points, axes)`.

        Returns:
            `(matrices, error)`: an array `(points, rows, state)`, and a bound
            on the norm of the error of each.
        """
        channels = [self.plan.signals[value].channels for value in state]
        ends = np.cumsum([0, *channels])
        found: dict[int, Block] = {}
        for i, value in enumerate(state):
            if value not in found:
                part = np.zeros((1, channels[i], ends[-1]))
                part[0, :, ends[i] : ends[i + 1]] = np.eye(channels[i])
                found[value] = Block(part, 1.0, 0.0)
        blocks = [self._block(value, found, points) for value in rows]
        return (
            _side_by_side([block.array for block in blocks]),
            float(np.linalg.norm([block.error for block in blocks])),
        )

    def _block(self, value: int, found: dict[int, Block], points) -> Block:
        if value not in found:
            op = self.plan.linear[value]
            if isinstance(op, Linear):
                before = self._block(op.source, found, points)
                found[value] = self._mapped(op, before, points)
            else:
                parts = [self._block(v, found, points) for v in op.sources]
                found[value] = _combined(parts, op.weights)
        return found[value]

    def _mapped(self, op: Linear, before: Block, points: np.ndarray) -> Block:
        reduction = self.plan.signals[op.source].reduction
        sizes = self.torus.at(reduction)
        taps = op.taps
        if reduction is None:
            points = np.zeros((1, len(sizes)), dtype="int64")
            symbol = taps.array if len(taps.positions) == 1 else None
            assert symbol is not None
        else:
            symbol = taps.symbol(points % np.array(sizes, "int64"), sizes)
        if taps.diagonal:
            array = symbol[..., None] * before.array
        else:
            array = symbol @ before.array
        size, error = taps.magnitude(), taps.rounding()
        rounded = 4 * (taps.inputs + 4) * EPS * size * before.size
        return Block(
            array,
            size * before.size * (1 + 4 * EPS),
            1.001
            * (
                error * before.size
                + size * before.error
                + error * before.error
                + rounded * np.sqrt(before.array.shape[-1])
            ),
        )


def _combined(parts: list[Block], weights) -> Block:
    if weights is None:
        return Block(
            _side_by_side([part.array for part in parts]),
            float(np.linalg.norm([part.size for part in parts])) * 1.001,
            float(np.linalg.norm([part.error for part in parts])) * 1.001,
        )
    if len(parts) == 1 and weights[0] == 1:
        return parts[0]
    array = sum(
        weight * part.array for weight, part in zip(weights, parts, strict=True)
    )
    moduli = np.abs(weights)
    size = float(moduli @ [part.size for part in parts]) * 1.001
    error = float(moduli @ [part.error for part in parts]) * 1.001
    channels = parts[0].array.shape[1]
    rounded = (len(parts) + 4) * EPS * size * np.sqrt(channels)
    return Block(array, size, error + rounded)


def _side_by_side(arrays: list[np.ndarray]) -> np.ndarray:
    count = max(len(array) for array in arrays)
    return np.concatenate(
        [np.broadcast_to(array, (count, *array.shape[1:])) for array in arrays],
        axis=1,
    )
