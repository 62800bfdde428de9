"""What rounding can do to the outputs of a model, near given inputs.

Error analysis, a layer at a time. A layer of constant `c` that rounds a number
`k` times on its way loses at most `k u (c |x| + |y| + |b|)`, `b` its biases.
A sum of `n` numbers loses `8 sqrt(n) u` of the sum of their moduli: the
statistical bound of Higham and Mary at eight deviations, for what is summed
in blocks, as backends do. Behind the layer the error grows by the constants
of the layers that follow. Products are taken to be summed in single precision
at least, for 16 bits too, and elementary functions to be good to a few
roundings.

Reference:

- Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM
  J. Sci. Comput. 41 (2019)
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.keras_access import is_graph
from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.logits import UNIT
from keras_sn.lipschitz.lower.pullback import without_gradients
from keras_sn.lipschitz.pieces.linear import LinearPiece
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.pieces.rounded import PieceRounding
from keras_sn.norms.proofs import product_upper

# Relative error of a layer beyond which the analysis, of first order but for
# a tenth, says nothing.
_MOST = 0.05
_TENTH = 1.1


@dataclasses.dataclass
class Reach:
    """A value at the inputs, and wherever they move by `r`.

    Attributes:
        tensor: The value as computed.
        slope: Upper bound of its Lipschitz constant.
        size: Its norms, one per sample.
        error: With `growth`, a bound `error + growth * r` on the distance
            between what is computed and what is meant, one per sample.
        growth: See `error`.
        limit: Largest `r` for which nothing overflows, one per sample.
    """

    tensor: Any
    slope: float
    size: np.ndarray
    error: np.ndarray
    growth: float
    limit: np.ndarray


class RoundingAnalysis:
    """Runs a graph and bounds its rounding on the way.

    Args:
        graph: `Graph` with finite constants.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._uses = [
            _StepRounding(step) if _is_known(step.operation) else None
            for step in graph.steps
        ]
        last = {
            number: index
            for index, step in enumerate(graph.steps)
            for number in step.inputs
            if number not in graph.outputs
        }
        self._done: list[list[int]] = [[] for _ in graph.steps]
        for number, index in last.items():
            self._done[index].append(number)

    def run(self, arrays: list[np.ndarray]) -> Reach:
        """The output of the graph.

        Args:
            arrays: Inputs of a batch, as the graph has them.
        """
        values: dict[int, Reach] = {}
        for number, array in zip(self.graph.inputs, arrays, strict=True):
            tensor = ops.convert_to_tensor(array)
            size = _sizes(tensor, len(array))
            unit = UNIT.get(_dtype(tensor), 0.0)
            # The point that is meant is rounded to the input's dtype.
            error, limit = unit * size, np.full(len(array), np.inf)
            values[number] = Reach(tensor, 1.0, size, error, unit, limit)
        batch = len(arrays[0])
        for index, step in enumerate(self.graph.steps):
            taken = [values[number] for number in step.inputs]
            with without_gradients():
                tensors = step.run([reach.tensor for reach in taken])
            use = self._uses[index]
            for number, tensor in zip(step.outputs, tensors, strict=True):
                values[number] = (
                    _unknown(tensor, batch)
                    if use is None
                    else use.output(taken, tensor, batch)
                )
            for number in self._done[index]:
                # Activations of a batch are large.
                values.pop(number, None)
        return values[self.graph.outputs[0]]


class _StepRounding:
    """How one step rounds."""

    def __init__(self, step: Step):
        pieces = step.pieces
        self.operation = _inner(step.operation)
        self.biases = _biases(self.operation)
        self.pieces: list[PieceRounding] = []
        if isinstance(pieces, Merge):
            count = len(step.inputs)
            self.factors = pieces.factors or [1.0] * count
            self.roundings = float(count - 1 if pieces.kind == "sum" else 0)
            self.spread = 1.0
            return
        constants = [piece.constant for piece in pieces]
        self.factors = [product_upper(constants)] * len(step.inputs)
        self.roundings = sum(
            2.0 if isinstance(piece, LinearPiece) else piece.roundings
            for piece in pieces
        )
        # How much of a bias may arrive at the output.
        self.spread = product_upper([max(1.0, c) for c in constants])
        for index, piece in enumerate(pieces):
            before = product_upper(constants[:index])
            behind = product_upper(constants[index + 1 :])
            self.pieces.append(PieceRounding(piece, before, behind))

    def output(self, taken: list[Reach], tensor: Any, batch: int) -> Reach:
        """What comes out, given what goes in."""
        size = _sizes(tensor, batch)
        slope, growth = 0.0, 0.0
        before, error = np.zeros(batch), np.zeros(batch)
        limit = np.full(batch, np.inf)
        for factor, reach in zip(self.factors, taken, strict=True):
            slope += factor * reach.slope
            growth += factor * reach.growth
            before = before + factor * reach.size
            error = error + factor * reach.error
            limit = np.minimum(limit, reach.limit)
        dtype = self._dtype(tensor)
        width = max(math.prod(tensor.shape) // max(batch, 1), 1)
        bias = self._offset(width)
        lost = self._relative(taken, dtype)
        sums, sums_of_bias = self._sums(taken, dtype)
        if lost > _MOST:
            return _unknown(tensor, batch)
        kind = np.finfo(np.float32 if dtype == "bfloat16" else dtype)
        total = before + size + bias
        if lost or sums:
            given = sum(reach.size + 2 * reach.error for reach in taken)
            moved = sum(reach.slope + 2 * reach.growth for reach in taken)
            error = error + _TENTH * (
                lost * (total + 4 * error)
                + sums * given
                + sums_of_bias * bias
                + math.sqrt(width) * float(kind.tiny)
            )
            growth += _TENTH * (lost * (2 * slope + 4 * growth) + sums * moved)
        room = float(kind.max) / 8 - total - error
        steepness = 2 * slope + growth
        with np.errstate(over="ignore"):
            limit = np.minimum(limit, room / max(steepness, 1e-300))
        # The sums above round too.
        more = 1 + 1e-12
        return Reach(tensor, slope, size, error * more, growth * more, limit)

    def _dtype(self, tensor: Any) -> str:
        """The coarsest of the dtypes it computes in."""
        kinds = [_dtype(tensor)]
        if isinstance(self.operation, keras.layers.Layer):
            kinds.append(self.operation.compute_dtype)
        kinds = [kind for kind in kinds if kind in UNIT]
        return max(kinds, key=lambda kind: UNIT[kind], default="float32")

    def _relative(self, taken: list[Reach], dtype: str) -> float:
        """Roundings of a number in the step, relative to the sizes."""
        unit = UNIT[dtype]
        # A layer rounds what it is given to its own dtype.
        cast = any(UNIT.get(_dtype(r.tensor), 0.0) < unit for r in taken)
        return (self.roundings + cast) * unit

    def _sums(self, taken: list[Reach], dtype: str) -> tuple[float, float]:
        """What sums lose, relative to the input and to a bias before them."""
        unit = min(UNIT[dtype], UNIT["float32"])
        numbers = sum(math.prod(tuple(r.tensor.shape)[1:]) for r in taken)
        losses = [piece.lost(numbers) for piece in self.pieces]
        of_input = sum(
            loss * piece.before
            for loss, piece in zip(losses, self.pieces, strict=True)
        )
        return unit * of_input, unit * sum(losses)

    def _offset(self, width: int) -> float:
        """Norm of the biases, each at every position."""
        return self.spread * sum(
            norm * math.sqrt(max(width / size, 1.0))
            for norm, size in self.biases
        )


def _biases(operation: Any) -> list[tuple[float, int]]:
    """Norms and sizes of a layer's vectors, its bias among them."""
    if not isinstance(operation, keras.layers.Layer):
        return []
    bias = getattr(operation, "bias", None)
    vectors = [
        np.asarray(ops.convert_to_numpy(ops.cast(v, "float32")), "float64")
        for v in operation.weights
        if (len(v.shape) <= 1 or v is bias) and "float" in v.dtype
    ]
    return [(float(np.linalg.norm(v)), max(v.size, 1)) for v in vectors]


def _inner(operation: Any) -> Any:
    """The layer that computes, out of wrappers that only call it."""
    wrappers = (
        keras.layers.SpectralNormalization,
        keras.layers.TimeDistributed,
    )
    while isinstance(operation, wrappers):
        operation = operation.layer
    return operation


def _is_known(operation: Any) -> bool:
    """Whether a step is a layer of its own, not several behind one name."""
    inner = _inner(operation)
    several = (keras.layers.Wrapper, keras.layers.Pipeline)
    return not isinstance(inner, several) and not is_graph(inner)


def _unknown(tensor: Any, batch: int) -> Reach:
    """A value of which nothing is known."""
    infinite = np.full(batch, np.inf)
    return Reach(tensor, np.inf, infinite, infinite, np.inf, np.zeros(batch))


def _dtype(tensor: Any) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def _sizes(tensor: Any, batch: int) -> np.ndarray:
    """The norm of each sample; of all where samples are not apart."""
    if "float" not in _dtype(tensor):
        return np.full(batch, np.inf)
    if _dtype(tensor) == "bfloat16":
        tensor = ops.cast(tensor, "float32")
    array = np.asarray(ops.convert_to_numpy(tensor), "float64")
    if array.ndim == 0 or len(array) != batch:
        return np.full(batch, np.linalg.norm(array))
    return np.linalg.norm(array.reshape(batch, -1), axis=1)
