"""certified_radius: how far an input may move without a new prediction."""

import copy
import math

import numpy as np

from keras_sn.lipschitz.bound import bound_graph
from keras_sn.lipschitz.bound import check_method
from keras_sn.lipschitz.bound import constant_of
from keras_sn.lipschitz.lower.pullback import evaluate
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.pieces.probabilities import Sigmoid
from keras_sn.lipschitz.pieces.probabilities import Softmax
from keras_sn.lipschitz.tracing import trace
from keras_sn.lipschitz.upper.chains import split_into_chains
from keras_sn.lipschitz.upper.distances import largest_root
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.norms.proofs import EPS

# Pairs of classes up to which each gets a bound through the whole network.
_PAIRS = 64


def certified_radius(model, x, method="auto", time_limit=60.0, batch_size=256):
    """The radius around each input in which the prediction is certain.

    With `i` the predicted class, the difference `f_i - f_j` has a Lipschitz
    constant `K_ij`, and no input nearer than `min_j (f_i - f_j) / K_ij` can
    be assigned to class `j`. `K_ij` is the least of three bounds:
    `sqrt(2) L` with `L` the constant of the model, `|w_i - w_j|` times the
    constant of everything before the last layer (GloRo), and, for few
    classes and no convolutions, the constant of the network whose last
    layer is `w_i - w_j`.

    Args:
        model: A built model with one output `(batch, classes)`: logits, or
            the softmax of logits; one unit, perhaps with a sigmoid, for two
            classes.
        x: Array of inputs, or list of arrays if the model has several.
        method: As for `lipschitz_bound`.
        time_limit: Seconds, as for `lipschitz_bound`.
        batch_size: Number of inputs to evaluate at once.

    Returns:
        NumPy array `(batch,)`, radii in the l2 norm of all inputs together;
        zeros if the model has no finite bound.

    Raises:
        ValueError: If the model has several outputs or no class axis.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_sn.lipschitz import certified_radius
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> model.layers[0].set_weights([np.eye(2), np.zeros(2)])
    >>> certified_radius(model, np.array([[3.0, 1.0]])).round(4)
    array([1.4142])

    Reference:

    - [Leino et al., 2021](https://arxiv.org/abs/2102.08452)
    - [Tsuzuku et al., 2018](https://arxiv.org/abs/1802.04034)
    """
    check_method(method)
    logits, head = _logits_graph(trace(model, constant_of))
    values = _evaluate(model, x, batch_size)
    scores, errors = _scores(values, head)
    constants = pair_constants(
        logits,
        scores.shape[1],
        method,
        time_limit,
        single=values.shape[1] == 1,
    )
    rows = np.arange(len(scores))
    predicted = scores.argmax(axis=1)
    margins = scores[rows, predicted][:, None] - scores
    # The scores carry the rounding of the model's own precision.
    margins -= errors[rows, predicted][:, None] + errors
    pairs = constants[predicted]
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.where(pairs > 0, margins / pairs, np.inf)
    radii[rows, predicted] = np.inf
    return np.maximum(radii.min(axis=1), 0.0) * (1 - 4 * EPS)


def pair_constants(graph, classes, method, time_limit, single=False):
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
    matrix = _output_matrix(graph)
    if matrix is None or len(matrix.array) != classes:
        return result
    features = largest_root(bound_graph(_with_output(graph, None), effort)[0])
    few = classes * (classes - 1) // 2 <= _PAIRS and method not in (
        "product",
        "folded",
        "rescaled",
    )
    # Kernels would be bounded anew for each pair.
    few = few and not any(
        isinstance(piece, Kernel)
        for step in graph.steps
        if isinstance(step.pieces, list)
        for piece in step.pieces
    )
    for i in range(classes):
        for j in range(i):
            row = (matrix.array[i] - matrix.array[j])[None]
            norm = np.linalg.norm(row) * (1 + (row.size + 4) * EPS)
            norm += math.sqrt(2) * matrix.error
            best = min(result[i, j], norm * features * (1 + 2 * EPS))
            if few:
                error = math.sqrt(2) * matrix.error + 2 * EPS * norm
                piece = Matrix(row, matrix.axis, error=error)
                paired = Effort("closed_form", time_limit, quick=True)
                replaced = _with_output(graph, piece)
                square, _ = bound_graph(replaced, paired)
                best = min(best, largest_root(square))
            result[i, j] = result[j, i] = best
    return result


def _logits_graph(graph):
    """The graph up to the logits, and what stood behind them.

    Returns:
        `(graph, head)`, the head `"softmax"`, `"sigmoid"` or `None`: neither
        changes which class is predicted.
    """
    if len(graph.outputs) != 1:
        raise ValueError(
            "`certified_radius` needs a model with one output. Received one "
            f"with {len(graph.outputs)}."
        )
    graph = _editable(graph)
    for step in _last_steps(graph):
        for index in reversed(range(len(step.pieces))):
            piece = step.pieces[index]
            if isinstance(piece, Identity):
                continue
            for kind, head in ((Softmax, "softmax"), (Sigmoid, "sigmoid")):
                if isinstance(piece, kind):
                    del step.pieces[index]
                    return graph, head
            return graph, None
    return graph, None


def _last_steps(graph):
    """The steps that lead to the output without a branch, last first."""
    for chain in split_into_chains(graph):
        if graph.outputs[0] in chain[-1].outputs:
            return [s for s in reversed(chain) if isinstance(s.pieces, list)]
    return []


def _output_matrix(graph):
    """The matrix that gives the output, or `None`."""
    for step in _last_steps(graph):
        for piece in reversed(step.pieces):
            if isinstance(piece, Identity):
                continue
            return piece if isinstance(piece, Matrix) else None
    return None


def _with_output(graph, matrix):
    """The graph with another last matrix, or with none."""
    graph = _editable(graph)
    for step in _last_steps(graph):
        for index in reversed(range(len(step.pieces))):
            if isinstance(step.pieces[index], Matrix):
                step.pieces[index : index + 1] = [matrix] if matrix else []
                return graph
    return graph


def _editable(graph):
    """A copy whose lists of pieces may be changed."""
    graph = copy.copy(graph)
    graph.steps = [copy.copy(step) for step in graph.steps]
    for step in graph.steps:
        if isinstance(step.pieces, list):
            step.pieces = list(step.pieces)
    return graph


def _evaluate(model, x, batch_size):
    arrays = list(x) if isinstance(x, (list, tuple)) else [x]
    arrays = [np.asarray(array, "float32") for array in arrays]
    batches = [
        evaluate(model, [array[start : start + batch_size] for array in arrays])
        for start in range(0, len(arrays[0]), batch_size)
    ]
    values = np.concatenate([outputs[0] for outputs in batches])
    if values.ndim != 2:
        raise ValueError(
            "`certified_radius` needs outputs of shape (batch, classes). "
            f"Received: {values.shape}"
        )
    return values


def _scores(values, head):
    """Logits, up to a shift of each row, and what rounding may do to them."""
    eps, tiny = np.finfo("float32").eps, np.finfo("float32").tiny
    scores, errors = values, 0.0
    if head == "softmax":
        scores = np.log(np.maximum(values, tiny))
        errors = 4 * eps
    if head == "sigmoid":
        p = np.clip(values, tiny, 1 - eps)
        scores = np.log(p) - np.log1p(-p)
        errors = 4 * eps / (1 - p)
    largest = np.abs(scores).max(axis=1, keepdims=True)
    errors = errors + 16 * eps * largest + np.zeros_like(scores)
    if values.shape[1] == 1:
        # The other class has a score of zero.
        return (
            np.concatenate([np.zeros_like(scores), scores], axis=1),
            np.concatenate([np.zeros_like(scores), errors], axis=1),
        )
    return scores, errors
