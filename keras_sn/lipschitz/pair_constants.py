"""Constants of the differences of two logits, all pairs at once."""

import math

import numpy as np

from keras_sn.lipschitz.bound import bound_graph
from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.logits import output_matrix
from keras_sn.lipschitz.logits import split_tail
from keras_sn.lipschitz.logits import with_output
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.upper.chains import dense_stack
from keras_sn.lipschitz.upper.distances import largest_root
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.folding import Link
from keras_sn.lipschitz.upper.pairs import pair_bounds
from keras_sn.lipschitz.upper.torus_bound import chain_pairs
from keras_sn.lipschitz.upper.torus_regions import Region
from keras_sn.lipschitz.upper.torus_regions import sections_of
from keras_sn.lipschitz.upper.torus_regions import steps_before
from keras_sn.norms.proofs import EPS

# Steps of the descent: half a minute of a stack a thousand wide, and more
# gain little.
_STEPS = 40


def pair_constants(
    graph: Graph,
    classes: int,
    method: str,
    time_limit: float,
    single: bool = False,
) -> np.ndarray:
    """`K_ij`, upper bounds of the constants of `f_i - f_j`.

    Args:
        graph: Graph of the logits.
        classes: Number of classes.
        method: As for `lipschitz_bound`.
        time_limit: Seconds.
        single: Whether the model has one score, whose sign is the class.

    Returns:
        Array `(classes, classes)`, zero on the diagonal.
    """
    effort = Effort(method, time_limit)
    whole = largest_root(bound_graph(graph, effort)[0])
    if single:
        return np.array([[0.0, whole], [whole, 0.0]])
    result = np.full((classes, classes), math.sqrt(2) * whole * (1 + EPS))
    np.fill_diagonal(result, 0.0)
    matrix = output_matrix(graph)
    if matrix is None or len(matrix.array) != classes:
        return result
    features = largest_root(bound_graph(with_output(graph, None), effort)[0])
    with np.errstate(invalid="ignore"):
        apart = _distances(matrix) * (features * (1 + 2 * EPS))
    np.fill_diagonal(apart, 0.0)
    result = np.fmin(result, apart)
    if not effort.allows("closed_form"):
        return result
    result = np.minimum(result, _of_chain(graph, effort))
    return np.minimum(result, _of_dense_tail(graph, classes, effort))


def _distances(matrix: Matrix) -> np.ndarray:
    """`|w_i - w_j|`, rounded up."""
    array = matrix.array
    rows = [np.linalg.norm(array - row, axis=1) for row in array]
    rounding = 1 + (array.shape[1] + 8) * EPS
    return np.stack(rows) * rounding + math.sqrt(2) * matrix.error


def _of_chain(graph: Graph, effort: Effort) -> np.ndarray | float:
    """The bounds of a network that ends with a chain of convolutions."""
    sections = sections_of(graph, effort.remaining / 2)
    last = sections[-1]
    if not isinstance(last, Region) or [last.exit] != graph.outputs:
        return math.inf
    head = Graph(graph.inputs, steps_before(sections), [last.entry])
    # The rest of the time is for the last chain.
    before = largest_root(bound_graph(head, effort.part(0.5))[0])
    pairs = chain_pairs(last, effort)
    if pairs is None or not math.isfinite(before):
        return math.inf
    return pairs * (before * (1 + 2 * EPS))


def _of_dense_tail(graph: Graph, classes: int, effort: Effort) -> np.ndarray:
    """The bounds of the dense layers at the end, times what lies before."""
    unknown = np.where(np.eye(classes) > 0, 0.0, np.inf)
    head, pieces = split_tail(graph)
    stack = dense_stack([Link(piece, [""]) for piece in pieces])
    if stack is None:
        return unknown
    before = largest_root(bound_graph(head, effort)[0])
    if not math.isfinite(before):
        return unknown
    pairs = pair_bounds(*stack, iterations=_STEPS, deadline=effort.deadline)
    return pairs * (before * (1 + 2 * EPS))
