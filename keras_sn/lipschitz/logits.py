"""The logits of a classifier: where in its graph they are, what follows."""

import copy
import dataclasses
from typing import Any

import numpy as np

from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import LinearPiece
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.pieces.probabilities import LogSoftmax
from keras_sn.lipschitz.pieces.probabilities import Sigmoid
from keras_sn.lipschitz.pieces.probabilities import Softmax
from keras_sn.lipschitz.upper.chains import split_into_chains

# The largest relative error of one rounding, by dtype.
UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}


@dataclasses.dataclass
class Scores:
    """What decides on a class: the largest of each row.

    Attributes:
        values: Float64 array `(batch, classes)`, logits but for a shift of
            each row.
        errors: What the rounding of the head may have done to them.
        tie: Difference of logits up to which the head's outputs may tie.
    """

    values: np.ndarray
    errors: np.ndarray
    tie: float


def up_to_logits(graph: Graph) -> tuple[Graph, Piece | None]:
    """The graph up to the logits, and what stood behind them.

    Args:
        graph: Graph of a classifier.

    Returns:
        `(graph, head)`, the head `Softmax`, `LogSoftmax`, `Sigmoid` or
        `None`: none of them changes which class is predicted.

    Raises:
        ValueError: If there are several outputs.
    """
    if len(graph.outputs) != 1:
        raise ValueError(
            "`certified_radius` needs a model with one output. Received one "
            f"with {len(graph.outputs)}."
        )
    graph = _editable(graph)
    moved = False
    for step in _last_steps(graph):
        for index in reversed(range(len(step.pieces))):
            piece = step.pieces[index]
            if isinstance(piece, Identity):
                continue
            if isinstance(piece, Rearrangement):
                moved = True
                continue
            if _is_head(piece, moved):
                del step.pieces[index]
                return graph, piece
            return graph, None
    return graph, None


def _is_head(piece: Piece, moved: bool) -> bool:
    if isinstance(piece, Sigmoid):
        # Of each number alone, so that their order plays no part.
        return True
    if isinstance(piece, (Softmax, LogSoftmax)) and not moved:
        axes = piece.axis
        axes = axes if isinstance(axes, (list, tuple)) else [axes]
        # Over the classes, not over what became classes.
        return list(axes) in ([-1], [1])
    return False


def scores_of(outputs: np.ndarray, head: Piece | None, dtype: str) -> Scores:
    """The scores of classes behind the outputs of a model.

    Args:
        outputs: Array `(batch, classes)`.
        head: What stood behind the logits.
        dtype: What the outputs were computed in.
    """
    unit, tie = UNIT[dtype], 0.0
    # The exponent range of bfloat16 is that of float32.
    kind = np.float32 if dtype == "bfloat16" else np.dtype(dtype)
    tiny = float(np.finfo(kind).tiny)
    values, errors = outputs, np.zeros_like(outputs)
    if isinstance(head, Softmax):
        # Where a probability vanishes, this is more than its logit.
        values = np.log(np.maximum(outputs, tiny))
        errors, tie = unit * (8 + 2 * np.abs(values)), 16 * unit
    if isinstance(head, LogSoftmax):
        errors, tie = unit * (8 + 4 * np.abs(values)), 16 * unit
    if isinstance(head, Sigmoid):
        p = np.clip(outputs, tiny, 1 - 2 * unit)
        values = np.log(p) - np.log1p(-p)
        errors = unit * (4 / (1 - p) + 2 * np.abs(values))
        tie = 16 * unit
    if outputs.shape[1] > 1:
        return Scores(values, errors, tie)
    # The other class has a score of zero.
    zeros = np.zeros_like(values)
    return Scores(
        np.concatenate([zeros, values], axis=1),
        np.concatenate([zeros, errors], axis=1),
        tie,
    )


def check_single_logit(graph: Graph) -> None:
    """Raises `ValueError` unless the one number of the output is a logit."""
    if not _is_logit(graph, graph.outputs[0]):
        raise ValueError(
            "`certified_radius` takes a single output for a logit, whose sign "
            "is the class, or for its sigmoid. Received a model with a single "
            "output that is no linear function of what lies before it. Pass "
            "the model up to its logit: `keras.Model(model.inputs, logit)`."
        )


def _is_logit(graph: Graph, value: int) -> bool:
    """Whether a value is linear in something, or a sum of such values."""
    for step in graph.steps:
        if value not in step.outputs:
            continue
        if isinstance(step.pieces, Merge):
            linear = step.pieces.kind == "sum"
            return linear and all(_is_logit(graph, v) for v in step.inputs)
        for piece in reversed(step.pieces):
            if isinstance(piece, LinearPiece):
                return True
            if not _keeps_logits(piece):
                return False
        return len(step.inputs) == 1 and _is_logit(graph, step.inputs[0])
    return value in graph.inputs


def _keeps_logits(piece: Piece) -> bool:
    if isinstance(piece, Slope):
        return piece.low == piece.high
    # Pooling of logits gives logits, of probabilities probabilities.
    return isinstance(piece, Rearrangement) or piece.channelwise


def output_matrix(graph: Graph) -> Matrix | None:
    """The matrix that gives the output, or `None`."""
    for step in _last_steps(graph):
        for piece in reversed(step.pieces):
            if not isinstance(piece, Identity):
                return piece if isinstance(piece, Matrix) else None
    return None


def with_output(graph: Graph, matrix: Matrix | None) -> Graph:
    """The graph with another last matrix, or with none."""
    graph = _editable(graph)
    for step in _last_steps(graph):
        for index in reversed(range(len(step.pieces))):
            if isinstance(step.pieces[index], Matrix):
                step.pieces[index : index + 1] = [matrix] if matrix else []
                return graph
    return graph


def split_tail(graph: Graph) -> tuple[Graph, list[Piece]]:
    """The graph up to the dense layers at its end, and their pieces."""
    graph = _editable(graph)
    tail: list[Piece] = []
    for step in _last_steps(graph):
        while step.pieces and _is_dense(step.pieces[-1]):
            tail.insert(0, step.pieces.pop())
        if step.pieces:
            break
    return graph, tail


def _is_dense(piece: Piece) -> bool:
    if isinstance(piece, (Matrix, Diagonal)):
        return piece.axis == -1 and getattr(piece, "channel_of", None) is None
    return isinstance(piece, (Identity, Slope))


def _last_steps(graph: Graph) -> list[Any]:
    """The steps that lead to the output without a branch, last first."""
    for chain in split_into_chains(graph):
        if graph.outputs[0] in chain[-1].outputs:
            return [s for s in reversed(chain) if isinstance(s.pieces, list)]
    return []


def _editable(graph: Graph) -> Graph:
    """A copy whose lists of pieces may be changed."""
    graph = copy.copy(graph)
    graph.steps = [copy.copy(step) for step in graph.steps]
    for step in graph.steps:
        if isinstance(step.pieces, list):
            step.pieces = list(step.pieces)
    return graph
