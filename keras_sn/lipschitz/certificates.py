"""certified_radius: how far an input may move without a new prediction."""

import math
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.bound import check_method
from keras_sn.lipschitz.classifier import Classifier
from keras_sn.lipschitz.local_radius import Margins
from keras_sn.lipschitz.local_radius import enlarged
from keras_sn.lipschitz.local_radius import local_network
from keras_sn.lipschitz.logits import Scores
from keras_sn.lipschitz.rounding import Reach


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
    constant of everything before the last layer (GloRo), and, where the
    model ends in dense layers, what one covariance of the logits gives for
    all pairs, times the constant of everything before those.

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
    classifier = Classifier(model)
    network = local_network(classifier.logits) if local else None
    radii, constants = [np.zeros(0)], None
    for batch, scores, reach in classifier.batches(x, batch_size):
        if constants is None:
            constants = classifier.constants(method, time_limit)
        margins = _margins(scores, reach)
        found = margins.radii(constants[margins.predicted])
        if network is not None:
            found = enlarged(network, batch, margins, found)
        radii.append(found)
    return np.concatenate(radii)


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
