"""certified_radius: how far an input may move without a new prediction."""

import math
import time
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.bound import bound_graph
from keras_sn.lipschitz.bound import check_method
from keras_sn.lipschitz.bound import constant_of
from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.inputs import input_arrays
from keras_sn.lipschitz.local_radius import Margins
from keras_sn.lipschitz.local_radius import enlarged
from keras_sn.lipschitz.local_radius import local_network
from keras_sn.lipschitz.logits import Scores
from keras_sn.lipschitz.logits import check_single_logit
from keras_sn.lipschitz.logits import output_matrix
from keras_sn.lipschitz.logits import scores_of
from keras_sn.lipschitz.logits import up_to_logits
from keras_sn.lipschitz.logits import with_output
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.rounding import Reach
from keras_sn.lipschitz.rounding import RoundingAnalysis
from keras_sn.lipschitz.tracing import trace
from keras_sn.lipschitz.upper.distances import largest_root
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.norms.proofs import EPS

# Pairs of classes up to which each gets a bound through the whole network.
_PAIRS = 64


def certified_radius(
    model: keras.layers.Layer,
    x: Any,
    method: str = "auto",
    time_limit: float = 60.0,
    batch_size: int = 256,
    local: bool = False,
) -> np.ndarray:
    """The radius around each input in which the prediction is certain.

    With `i` the predicted class, the difference `f_i - f_j` has a Lipschitz
    constant `K_ij`, and no input nearer than `min_j (f_i - f_j) / K_ij` can
    be assigned to class `j`. `K_ij` is the least of three bounds:
    `sqrt(2) L` with `L` the constant of the model, `|w_i - w_j|` times the
    constant of everything before the last layer (GloRo), and, for few
    classes and no convolutions, the constant of the network whose last
    layer is `w_i - w_j`.

    It holds for the model as it computes: what rounding can do, in the model's
    own precision and at the sizes that its layers give, is taken off (see
    `keras_sn.lipschitz.rounding` for what is assumed of a backend; products
    in TensorFloat-32 are not covered).

    Args:
        model: A built model with one output `(batch, classes)`, the largest
            of which is the class: logits, their softmax, or else; or one
            logit or its sigmoid for two classes.
        x: Array of inputs, or a list or dict of arrays as the model takes.
        method: As for `lipschitz_bound`.
        time_limit: Seconds, as for `lipschitz_bound`.
        batch_size: Number of inputs to evaluate at once.
        local: Whether to bound the constants anew on balls around each input,
            which gives larger radii at the price of some ten recursions per
            input. It helps where the model is a chain that starts with dense
            layers; elsewhere the radii stay as they are. No limit of time.

    Returns:
        NumPy array `(batch,)`, radii in the l2 norm of all inputs together;
        zeros if the model has no finite bound.

    Raises:
        ValueError: If the model has several outputs or no class axis, or one
            number that is neither logit nor sigmoid.

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
    - [Xu & Sivaranjani, 2025](https://arxiv.org/abs/2510.05261), local bounds
    """
    check_method(method)
    logits, head = up_to_logits(trace(model, constant_of))
    arrays = input_arrays(model, x)
    if not len(arrays[0]):
        return np.zeros(0)
    analysis = RoundingAnalysis(logits)
    network = local_network(logits) if local else None
    radii, constants = [], None
    for start in range(0, len(arrays[0]), batch_size):
        batch = [array[start : start + batch_size] for array in arrays]
        reach = analysis.run(batch)
        outputs, dtype = _outputs(reach)
        single = outputs.shape[1] == 1
        if single and head is None:
            check_single_logit(logits)
        scores = scores_of(outputs, head, dtype)
        if constants is None:
            constants = pair_constants(
                logits, scores.values.shape[1], method, time_limit, single
            )
        margins = _margins(scores, reach)
        found = margins.radii(constants[margins.predicted])
        if network is not None:
            found = enlarged(network, batch, margins, found)
        radii.append(found)
    return np.concatenate(radii)


def _outputs(reach: Reach) -> tuple[np.ndarray, str]:
    """The outputs as float64, and what they were computed in."""
    dtype = keras.backend.standardize_dtype(reach.tensor.dtype)
    if len(reach.tensor.shape) != 2:
        raise ValueError(
            "`certified_radius` needs outputs of shape (batch, classes). "
            f"Received: {tuple(reach.tensor.shape)}"
        )
    tensor = keras.ops.cast(reach.tensor, "float32")
    if dtype == "float64":
        tensor = reach.tensor
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64"), dtype


def _margins(scores: Scores, reach: Reach) -> Margins:
    """What differences of logits leave, rounding taken off."""
    values, errors = scores.values, scores.errors
    rows = np.arange(len(values))
    predicted = values.argmax(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        margins = values[rows, predicted][:, None] - values
        margins -= errors[rows, predicted][:, None] + errors + scores.tie
        # What is computed here is off, and so is what is computed there.
        margins -= 2 * math.sqrt(2) * reach.error[:, None]
    growth = math.sqrt(2) * reach.growth
    return Margins(margins, predicted, growth, reach.limit)


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
    each = _is_cheap(graph, classes, method)
    longest = 0.0
    for i in range(classes):
        for j in range(i):
            row = (matrix.array[i] - matrix.array[j])[None]
            norm = np.linalg.norm(row) * (1 + (row.size + 4) * EPS)
            norm += math.sqrt(2) * matrix.error
            best = min(result[i, j], norm * features * (1 + 2 * EPS))
            if each and longest <= effort.remaining:
                begun = time.monotonic()
                error = math.sqrt(2) * matrix.error + 2 * EPS * norm
                piece = Matrix(row, matrix.axis, error=error)
                paired = Effort("closed_form", effort.remaining, quick=True)
                replaced = with_output(graph, piece)
                square, _ = bound_graph(replaced, paired)
                best = min(best, largest_root(square))
                longest = max(longest, time.monotonic() - begun)
            result[i, j] = result[j, i] = best
    return result


def _is_cheap(graph: Graph, classes: int, method: str) -> bool:
    """Whether each pair of classes gets a bound through the network."""
    if classes * (classes - 1) // 2 > _PAIRS:
        return False
    if method in ("product", "folded", "rescaled"):
        return False
    # Kernels would be bounded anew for each pair.
    return not any(
        isinstance(piece, Kernel)
        for step in graph.steps
        if isinstance(step.pieces, list)
        for piece in step.pieces
    )
