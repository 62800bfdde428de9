"""Conformal prediction sets that keep their coverage under perturbations."""

import math
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.bound import check_method
from keras_sn.lipschitz.classifier import Classifier
from keras_sn.lipschitz.local import NoLocalBoundError
from keras_sn.lipschitz.local_radius import local_network
from keras_sn.lipschitz.logits import Scores
from keras_sn.lipschitz.rounding import Reach
from keras_sn.norms.proofs import EPS


class RobustConformalSets:
    """Sets of classes that hold the right one in spite of an attack.

    Split conformal prediction: of inputs drawn like those of the calibration,
    and moved by no more than `radius` afterwards by anyone who knows the
    model, a share of at least `coverage` has its class in its set, on
    average over calibrations. The score of class `y` is `max_j (f_j - f_y)`
    over the others; from the attacked input it is known up to what the
    constant of `f_j - f_y` allows within the radius, so a class is left out
    only if no input in the ball has a score of the calibration's quantile or
    less. Rounding of the model is included, see `certified_radius`.

    Args:
        model: As for `certified_radius`.
        radius: Largest l2 norm of a perturbation; 0 for plain conformal sets.
        method: As for `lipschitz_bound`.
        local: Whether to bound the constants anew on the ball around each
            input: smaller sets, at the price of one recursion per input.
        time_limit: Seconds, as for `lipschitz_bound`.
        batch_size: Number of inputs to evaluate at once.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_sn.lipschitz import RobustConformalSets
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> model.layers[0].set_weights([np.eye(2), np.zeros(2)])
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> sets = RobustConformalSets(model, radius=0.2)
    >>> sets.calibrate(x, x.argmax(axis=1), coverage=0.9)
    >>> sets(np.array([[3.0, 1.0], [0.1, 0.1]]))
    array([[ True, False],
           [ True,  True]])

    Reference:

    - [Massena et al., 2025](https://arxiv.org/abs/2506.05434)
    """

    def __init__(
        self,
        model: keras.layers.Layer,
        radius: float,
        method: str = "auto",
        local: bool = False,
        time_limit: float = 60.0,
        batch_size: int = 256,
    ):
        check_method(method)
        if not (radius >= 0 and math.isfinite(radius)):
            raise ValueError(
                "`radius` must be a number that is not negative. "
                f"Received: radius={radius}"
            )
        self.radius = float(radius)
        self.threshold: float | None = None
        self._classifier = Classifier(model)
        network = local_network(self._classifier.logits) if local else None
        self._network = network
        self._settings = method, time_limit
        self._batch_size = batch_size
        self._constants: np.ndarray | None = None

    def calibrate(self, x: Any, y: Any, coverage: float = 0.9) -> None:
        """Sets the threshold of the scores.

        Args:
            x: Inputs that were not used to train the model.
            y: Their classes, integers `(batch,)`.
            coverage: Share of inputs whose class is to be in its set.

        Raises:
            ValueError: If `y` does not fit `x`, or `coverage` is no share.
        """
        labels = np.asarray(y)
        if not 0 < coverage < 1:
            raise ValueError(
                "`coverage` must lie between 0 and 1. "
                f"Received: coverage={coverage}"
            )
        found = [
            scored(_upper(scores, reach))
            for _, scores, reach in self._classifier.batches(
                x, self._batch_size
            )
        ]
        table = np.concatenate(found) if found else np.zeros((0, 1))
        if labels.shape != table.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(
                "`y` must be integers, one for each input. Received: "
                f"{labels.dtype} of shape {labels.shape} for {len(table)} "
                "inputs"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(table.T):
            raise ValueError(
                f"`y` must be classes from 0 to {len(table.T) - 1}. Received: "
                f"from {labels.min()} to {labels.max()}"
            )
        own = np.sort(table[np.arange(len(table)), labels])
        # The new input is one of n + 1 alike.
        rank = math.ceil((len(own) + 1) * coverage)
        self.threshold = float(own[rank - 1]) if rank <= len(own) else math.inf

    def __call__(self, x: Any) -> np.ndarray:
        """The sets.

        Args:
            x: Inputs, perhaps attacked.

        Returns:
            Boolean array `(batch, classes)`.

        Raises:
            ValueError: If it was not calibrated.
        """
        if self.threshold is None:
            raise ValueError("Call `calibrate(x, y)` before asking for sets.")
        found = [
            scored(_lower(scores, reach) - self._moved(batch, scores))
            for batch, scores, reach in self._classifier.batches(
                x, self._batch_size
            )
        ]
        if not found:
            return np.zeros((0, 1), bool)
        # Where anything is not finite, no class is ruled out.
        return ~(np.concatenate(found) > self.threshold)

    def _moved(self, batch: list[np.ndarray], scores: Scores) -> np.ndarray:
        """How far a perturbation may move `f_j - f_y`, `(..., j, y)`."""
        if self.radius == 0:
            return np.zeros((1, 1, 1))
        if self._constants is None:
            self._constants = self._classifier.constants(*self._settings)
        constants = np.broadcast_to(
            self._constants, (len(scores.values), *self._constants.shape)
        )
        if self._network is not None:
            constants = self._on_balls(batch, constants)
        return constants * (self.radius * (1 + 4 * EPS))

    def _on_balls(
        self, batch: list[np.ndarray], constants: np.ndarray
    ) -> np.ndarray:
        network, found = self._network, constants.copy()
        assert network is not None
        size = network.stack.batch
        for start in range(0, len(found), size):
            part = slice(start, start + size)
            try:
                centres = network.centres([array[part] for array in batch])
            except NoLocalBoundError:
                return constants
            radius = np.full(len(found[part]), self.radius)
            local = network.pair_constants(centres, radius, found.shape[-1])
            found[part] = np.fmin(found[part], local)
        return found


def scored(differences: np.ndarray) -> np.ndarray:
    """The scores of classes: the largest of the differences to others.

    Args:
        differences: `f_j - f_y`, array `(batch, j, y)`.
    """
    index = np.arange(differences.shape[-1])
    differences = differences.copy()
    differences[:, index, index] = -np.inf
    return differences.max(axis=1)


def _upper(scores: Scores, reach: Reach) -> np.ndarray:
    """`f_j - f_y` at the input that is meant, at most."""
    return _differences(scores) + _rounding(scores, reach)


def _lower(scores: Scores, reach: Reach) -> np.ndarray:
    """The same, at least."""
    return _differences(scores) - _rounding(scores, reach)


def _differences(scores: Scores) -> np.ndarray:
    return scores.values[:, :, None] - scores.values[:, None, :]


def _rounding(scores: Scores, reach: Reach) -> np.ndarray:
    heads = scores.errors[:, :, None] + scores.errors[:, None, :]
    return heads + math.sqrt(2) * reach.error[:, None, None] * (1 + 4 * EPS)
