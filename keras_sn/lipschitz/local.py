"""Local bounds: which part of a model is bounded on balls around inputs."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.inputs import Balls
from keras_sn.lipschitz.logits import UNIT
from keras_sn.lipschitz.lower.pullback import without_gradients
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Flatten
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.report import Row
from keras_sn.lipschitz.upper.covariance import largest
from keras_sn.lipschitz.upper.covariance import pair_squares
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.local_stack import LocalPiece
from keras_sn.lipschitz.upper.local_stack import LocalStack
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import product_upper


class NoLocalBoundError(Exception):
    """A model has no bound near an input but the one that holds everywhere."""


class LocalNetwork:
    """A model that starts with a dense stack, on balls around inputs.

    Args:
        graph: Its graph.

    Raises:
        NoLocalBoundError: If it does not, with what stands in the way.

    Attributes:
        names: Names of the layers that are bounded locally.
        tail: The constant of what lies behind them, everywhere.
    """

    def __init__(self, graph: Graph):
        self._before: list[Step] = []
        pieces: list[LocalPiece] = []
        behind: list[Piece] = []
        self.names: list[str] = []
        matrices, stop = 0, "It has no dense layer."
        for step in _chain(graph):
            for piece in _pieces(step):
                if isinstance(piece, Identity):
                    continue
                if not behind and _moves(piece, matrices, pieces):
                    self._before.append(step)
                    continue
                reason = None if behind else _obstacle(piece)
                if behind or reason is not None:
                    stop = f"Layer '{step.name}' {reason}." if reason else stop
                    behind.append(piece)
                    continue
                assert isinstance(piece, LocalPiece)
                pieces.append(piece)
                matrices += isinstance(piece, Matrix)
                self.names.append(step.name)
        if not matrices:
            raise NoLocalBoundError(stop)
        self.names = list(dict.fromkeys(self.names))
        self.ends = not behind
        self.tail = product_upper([piece.constant for piece in behind])
        self.stack = LocalStack(pieces)

    def centres(
        self, arrays: list[np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What arrives at each activation of the stack.

        Args:
            arrays: Inputs of a batch, as the graph has them.
        """
        tensor = ops.convert_to_tensor(arrays[0])
        for step in self._before:
            _check_dtype(step, tensor)
            with without_gradients():
                (tensor,) = step.run([tensor])
        values = np.asarray(ops.convert_to_numpy(tensor), "float64")
        if values.ndim != 2:
            raise NoLocalBoundError(
                "Its dense layers act at several positions."
            )
        if "float" not in keras.backend.standardize_dtype(tensor.dtype):
            raise NoLocalBoundError("Its inputs are no floating-point numbers.")
        return self.stack.centres(values)

    def bracket(
        self, balls: Balls, effort: Effort
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the constant on each ball."""
        lower, upper = np.zeros(len(balls)), np.zeros(len(balls))
        for start in range(0, len(balls), self.stack.batch):
            part = slice(start, start + self.stack.batch)
            centres = self.centres([array[part] for array in balls.arrays])
            lower[part] = self.slopes_at(centres)
            upper[part] = self.constants(centres, balls.radii[part])
        return lower, upper

    def row(self, upper: np.ndarray) -> Row:
        """The row of a report."""
        source = f"covariances on balls around {len(upper)} inputs"
        if self.tail != 1.0:
            source = f"{source}; {self.tail:.6g} for what follows"
        name = " + ".join(self.names)
        return Row(name, float(upper.max(initial=0.0)), UPPER, source)

    def constants(
        self,
        centres: list[tuple[np.ndarray, np.ndarray]],
        radius: np.ndarray,
    ) -> np.ndarray:
        """Upper bounds of the constants on balls.

        Args:
            centres: Of a batch.
            radius: Array `(batch,)`.

        Returns:
            Array `(batch,)`, perhaps `inf`.
        """
        squares = largest(self.stack.spread(centres, radius))
        return self._scaled(squares.min(axis=0))

    def pair_constants(
        self,
        centres: list[tuple[np.ndarray, np.ndarray]],
        radius: np.ndarray,
        classes: int,
    ) -> np.ndarray:
        """Upper bounds of the constants of `f_i - f_j` on balls.

        Args:
            centres: Of a batch.
            radius: Array `(batch,)`.
            classes: Number of classes: as many as the model has outputs, or
                two for one output, with the constant zero as another.

        Returns:
            Array `(batch, classes, classes)`.
        """
        spread = self.stack.spread(centres, radius, quick=True)
        if self.ends:
            if spread.shape[-1] == 1:
                spread = np.pad(spread, ((0, 0), (0, 0), (1, 0), (1, 0)))
            return self._scaled(pair_squares(spread).min(axis=0))
        # The stack is as wide as what follows it takes, not as the outputs.
        pairs = 2 * (1 - np.eye(classes))
        squares = largest(spread).min(axis=0)
        return self._scaled(squares[:, None, None] * pairs)

    def slopes_at(
        self, centres: list[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """Lower bounds of the constants on balls of any size.

        The norms of the Jacobians, for which no pair is at hand; zero where
        an activation has a kink or something else follows.
        """
        if self.tail != 1.0:
            return np.zeros(len(centres[0][0]))
        return self.stack.jacobian_norms(centres)

    def _scaled(self, squares: np.ndarray) -> np.ndarray:
        factor = product_upper([self.stack.scale, self.tail])
        return np.sqrt(squares) * (factor * (1 + 8 * EPS))


def _check_dtype(step: Step, tensor: Any) -> None:
    """Refuses a layer that would round what it only moves."""
    taken = keras.backend.standardize_dtype(tensor.dtype)
    kept = getattr(step.operation, "compute_dtype", taken)
    if UNIT.get(kept, 0.0) > UNIT.get(taken, 0.0):
        raise NoLocalBoundError(
            f"Layer '{step.name}' rounds its inputs to {kept}."
        )


def _chain(graph: Graph) -> list[Step]:
    """The steps, if each takes what the one before gives."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise NoLocalBoundError("It has several inputs or outputs.")
    value = graph.inputs[0]
    for step in graph.steps:
        fits = isinstance(step.pieces, list) and step.inputs == [value]
        if not fits or len(step.outputs) != 1:
            raise NoLocalBoundError(
                f"Layer '{step.name}' is no part of a chain."
            )
        value = step.outputs[0]
    if value != graph.outputs[0]:
        raise NoLocalBoundError("Its output is not that of its last layer.")
    return graph.steps


def _pieces(step: Step) -> list[Piece]:
    assert isinstance(step.pieces, list)
    return step.pieces


def _moves(piece: Piece, matrices: int, pieces: list) -> bool:
    """Whether it only puts numbers in order before the first matrix."""
    if matrices or not isinstance(piece, Rearrangement):
        return False
    # Padding adds numbers that an activation before it would move.
    return isinstance(piece, Flatten) or not pieces


def _obstacle(piece: Piece) -> str | None:
    """Why a piece cannot be part of a dense stack."""
    if isinstance(piece, Slope):
        known = piece.curve is not None
        return None if known else "has slopes that are known everywhere only"
    if not isinstance(piece, (Matrix, Diagonal)):
        return "is no dense layer"
    if piece.offset is None:
        return "adds what is not known"
    last = piece.axis == -1 and getattr(piece, "channel_of", None) is None
    finite = math.isfinite(piece.constant)
    return None if last and finite else "is no dense layer"
