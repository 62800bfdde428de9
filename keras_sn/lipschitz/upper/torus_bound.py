"""Bounds of convolutional chains: which torus, which multipliers, how long."""

import dataclasses
import math
import time

import numpy as np

from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.torus_descent import Descent
from keras_sn.lipschitz.upper.torus_descent import top_of
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_grid import smallest_torus
from keras_sn.lipschitz.upper.torus_recursion import Recursion
from keras_sn.lipschitz.upper.torus_schedule import Schedule

# Multiply-adds of complex numbers a second, and bytes at hand.
_SPEED, _MEMORY = 1.5e9, 4e9
# Evaluations that a descent of "auto" and of "refined" may take.
_FEW, _MANY = 40, 300
# Seconds that "auto" spends on the descent of a chain at most.
_PATIENCE = 3.0
# Seconds of a recursion, about, up to which others are compared with it.
_CHEAP = 0.03


@dataclasses.dataclass
class TorusBound:
    """What came of a chain.

    Attributes:
        bound: The bound, `inf` if nothing was proved.
        source: How it was found.
        left_out: Why it was not tried, or `None`.
        others_are_cheap: Whether other methods are cheap enough to compare.
    """

    bound: float
    source: str = ""
    left_out: str | None = None
    others_are_cheap: bool = True


def torus_bound(plan: Schedule, effort: Effort) -> TorusBound:
    """Bounds a chain on a torus.

    Zero padding is a mask, and a mask is an activation of slope 0. So a chain
    on images embeds into the same chain on a torus that is a little larger,
    where every convolution is block diagonal: one covariance recursion for
    each frequency, with multipliers per channel that all of them share. Of
    the multipliers several are tried; those that give the least are proved.

    Args:
        plan: The `Schedule` of the chain.
        effort: The `Effort`.

    Returns:
        `TorusBound`.
    """
    torus = smallest_torus(list(plan.linear.values()), plan.signals)
    seconds, size = cost(plan, torus)
    if size > _MEMORY:
        reason = f"its torus of {torus} takes {size / 1e9:.0f} GB"
        return TorusBound(math.inf, left_out=reason)
    if 3 * seconds > effort.remaining and seconds > 0.1:
        reason = f"its torus of {torus} takes about {seconds:.0f} s"
        return TorusBound(math.inf, left_out=reason)
    multipliers = _chosen(plan, torus, seconds, effort)
    recursion = Recursion(plan, torus)
    bound = recursion.bound(multipliers)
    refined = effort.method == "refined"
    source = "LipSDP by descent" if refined else "LipSDP"
    return TorusBound(
        bound,
        f"{source} on a torus of {torus}",
        others_are_cheap=seconds < _CHEAP,
    )


def cost(plan: Schedule, torus: Torus) -> tuple[float, float]:
    """Seconds of one recursion, about, and bytes that it takes."""
    work, largest = 0.0, 0.0
    channels = plan.signals[plan.entry].channels
    before = plan.signals[plan.entry].reduction
    ends = [
        *((stage.rows, stage.reduction) for stage in plan.stages),
        ([plan.exit], plan.signals[plan.exit].reduction),
    ]
    for rows, after in ends:
        outputs = sum(plan.signals[value].channels for value in rows)
        fine, coarse = (len(torus.points(r)) for r in (before, after))
        work += 2 * fine * channels * outputs * (channels + outputs)
        work += 6 * coarse * outputs**3
        largest = max(largest, 48.0 * max(fine * channels**2, coarse * outputs**2))
        channels, before = outputs, after
    return work / _SPEED, largest


def _chosen(plan: Schedule, torus: Torus, seconds: float, effort: Effort):
    """The multipliers to prove, as a function of the covariance."""
    refined = effort.method == "refined"
    patience = effort.remaining - 4 * seconds
    if not refined:
        patience = min(patience, _PATIENCE)
    evaluations = _MANY if refined else _FEW
    small = torus
    if not refined and evaluations * seconds > patience:
        small = _smaller(plan, torus, patience / evaluations)
    descent = Descent(plan, small)
    starts = [descent.formula(share) for share in (1.0, 0.25)]
    values = [descent(start)[0] for start in starts]
    start = starts[int(np.argmin(values))]

    def on_step(step: int, value: float, _: np.ndarray) -> None:
        if refined and effort.progress is not None:
            effort.progress(step + 1, evaluations, math.exp(value / 2))

    logs, value = minimize(
        descent,
        start,
        iterations=evaluations,
        deadline=time.monotonic() + max(patience, 0.0),
        on_step=on_step,
        tolerance=1e-9 if refined else 1e-4,
    )
    lambdas = descent.lambdas(logs)
    if small is torus:
        return lambda i, spread: lambdas[i]
    tops = descent.tops(logs)
    return lambda i, spread: lambdas[i] * (tops[i] / top_of(spread, lambdas[i]))


def _smaller(plan: Schedule, torus: Torus, seconds: float) -> Torus:
    """A coarser torus on which to look for multipliers."""
    steps = [signal.reduction for signal in plan.signals.values()]
    common = [
        math.lcm(*(step[axis] for step in steps if step is not None))
        for axis in range(len(torus.sizes))
    ]
    counts = [size // c for size, c in zip(torus.sizes, common, strict=True)]
    for largest in range(max(counts), 1, -1):
        sizes = tuple(
            c * min(count, largest)
            for c, count in zip(common, counts, strict=True)
        )
        if cost(plan, Torus(sizes))[0] <= seconds:
            return Torus(sizes)
    return Torus(tuple(c if s > 1 else 1 for c, s in zip(common, torus.sizes)))
