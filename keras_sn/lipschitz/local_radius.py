"""Certified radii from bounds on the balls themselves."""

import dataclasses

import numpy as np

from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.local import LocalNetwork
from keras_sn.lipschitz.local import NoLocalBoundError
from keras_sn.norms.proofs import EPS

# Evaluations per input, and the relative gain below which to stop.
_STEPS, _GAIN = 12, 5e-3


@dataclasses.dataclass
class Margins:
    """What a batch of predictions leaves to move in.

    Attributes:
        values: `f_i - f_j` for the predicted class `i`, less rounding,
            `(batch, classes)`.
        predicted: The classes.
        growth: What rounding adds to a constant.
        limit: Largest radius at which nothing overflows, `(batch,)`.
    """

    values: np.ndarray
    predicted: np.ndarray
    growth: float
    limit: np.ndarray

    def radii(self, constants: np.ndarray) -> np.ndarray:
        """The radii that constants of `f_i - f_j`, `(batch, classes)`, give."""
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs = constants + self.growth
            radii = np.where(self.values > 0, self.values / pairs, 0.0)
        radii[np.arange(len(radii)), self.predicted] = np.inf
        radii = np.minimum(radii.min(axis=1), self.limit)
        # Where anything is not finite, nothing is certain.
        radii = np.nan_to_num(radii, posinf=np.inf)
        return np.maximum(radii, 0.0) * (1 - 4 * EPS)

    def of(self, chosen: np.ndarray) -> "Margins":
        """Those of some samples."""
        return Margins(
            self.values[chosen],
            self.predicted[chosen],
            self.growth,
            self.limit[chosen],
        )


def local_network(graph: Graph) -> LocalNetwork | None:
    """The network on balls, or `None` where all bounds are global."""
    try:
        return LocalNetwork(graph)
    except NoLocalBoundError:
        return None


def enlarged(
    network: LocalNetwork,
    arrays: list[np.ndarray],
    margins: Margins,
    radii: np.ndarray,
) -> np.ndarray:
    """Larger radii, as far as bounds on the balls certify them.

    On a ball of radius `r` the constants may certify less than `r`, or more:
    either way `min(r, what they certify)` is certified. The largest such
    number lies between two radii that are halved.

    Args:
        network: The model up to its logits.
        arrays: Inputs of a batch.
        margins: Their margins.
        radii: Radii certified already, `(batch,)`.
    """
    radii = radii.copy()
    size = network.stack.batch
    for start in range(0, len(radii), size):
        part = slice(start, start + size)
        try:
            centres = network.centres([array[part] for array in arrays])
        except NoLocalBoundError:
            return radii
        chosen = np.arange(start, min(start + size, len(radii)))
        radii[part] = _searched(
            network, centres, margins.of(chosen), radii[part]
        )
    return radii


def _searched(
    network: LocalNetwork,
    centres: list[tuple[np.ndarray, np.ndarray]],
    margins: Margins,
    radii: np.ndarray,
) -> np.ndarray:
    best = radii.copy()
    highest = np.full(len(radii), np.inf)
    # No ball can have less than the constant at its centre.
    tried, active = np.zeros(len(radii)), np.flatnonzero(np.isfinite(radii))
    active = active[radii[active] > 0]
    for _ in range(_STEPS):
        if not len(active):
            break
        some = [(y[active], error[active]) for y, error in centres]
        classes = margins.values.shape[1]
        constants = network.pair_constants(some, tried[active], classes)
        rows = np.arange(len(active))
        subset = margins.of(active)
        certified = subset.radii(constants[rows, subset.predicted])
        at = tried[active]
        # Constants that grow with the ball certify no more than they do here.
        best[active] = np.maximum(best[active], np.minimum(at, certified))
        below = np.where(certified >= at, certified, at)
        highest[active] = np.minimum(highest[active], below)
        gaps = highest[active] - best[active]
        active = active[gaps > _GAIN * best[active]]
        tried[active] = np.sqrt(best[active] * highest[active])
    return best
