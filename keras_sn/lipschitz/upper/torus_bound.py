"""Bounds of convolutional chains: which torus, which multipliers, how long."""

import dataclasses
import math
import time

import numpy as np

from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.torus_cost import cost
from keras_sn.lipschitz.upper.torus_descent import Descent
from keras_sn.lipschitz.upper.torus_descent import top_of
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_recursion import Choice
from keras_sn.lipschitz.upper.torus_recursion import Recursion
from keras_sn.lipschitz.upper.torus_regions import Region
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.lipschitz.upper.torus_schedule import schedule
from keras_sn.lipschitz.upper.unrolled_chain import unrolled
from keras_sn.lipschitz.upper.unrolled_chain import width

# Steps of a descent that "auto" and "refined" take at most.
_FEW, _MANY = 40, 300
# Seconds that "auto" spends on a descent, and shortest ones worth the while.
_PATIENCE, _FEWEST = 3.0, 8
# Seconds of a recursion, about, up to which others are compared with it.
_CHEAP = 0.03
# Numbers of an image up to which it may be unrolled.
_WIDEST = 2048


@dataclasses.dataclass
class ChainBound:
    """What came of a chain.

    Attributes:
        bound: The bound, `inf` if nothing was proved.
        source: How it was found.
        left_out: Why something was not tried, or `None`.
        others_are_cheap: Whether other methods are cheap enough to compare.
    """

    bound: float
    source: str = ""
    left_out: str | None = None
    others_are_cheap: bool = True


def chain_bound(region: Region, effort: Effort) -> ChainBound:
    """Bounds a chain of convolutions.

    On a torus: zero padding is a mask, and a mask is an activation of slope
    0. So a chain on images embeds into the same chain on a torus that is a
    little larger, where every convolution is block diagonal: one covariance
    recursion for each frequency, with multipliers per channel that all of
    them share. Where images are small, unrolled too: one matrix, and a
    multiplier for each number of the image.

    Args:
        region: The `Region`.
        effort: The `Effort`.

    Returns:
        `ChainBound`.
    """
    plan, torus = region.plan, region.torus
    flat = None if effort.method == "closed_form" else _unrolled(region, effort)
    best = ChainBound(math.inf, left_out=region.left_out)
    if region.left_out is None:
        # What is unrolled gets tighter with time, and needs it more.
        share = 1.0 if flat is None else 0.3
        choice = _chosen(plan, torus, effort, share)
        best = ChainBound(
            Recursion(plan, torus).bound(choice),
            f"{_source(effort)} on a torus of {torus}",
            others_are_cheap=cost(plan, torus)[0] < _CHEAP,
        )
    if flat is not None:
        torus = Torus(())
        bound = Recursion(flat, torus).bound(_chosen(flat, torus, effort, 1.0))
        if bound < best.bound:
            source = f"{_source(effort)}, images unrolled"
            best = dataclasses.replace(best, bound=bound, source=source)
    return best


def _source(effort: Effort) -> str:
    return "LipSDP by descent" if effort.method == "refined" else "LipSDP"


def _unrolled(region: Region, effort: Effort) -> Schedule | None:
    """The chain unrolled, where that is affordable."""
    signals = region.plan.signals
    if max(map(width, signals.values())) > _WIDEST:
        return None
    operations, flat = unrolled(region.operations, signals)
    plan = schedule(operations, flat, region.entry, region.exit, masks=False)
    seconds, _ = cost(plan, Torus(()))
    time = effort.remaining if effort.method == "refined" else _PATIENCE
    return plan if _FEWEST * seconds < time else None


def _chosen(
    plan: Schedule, torus: Torus, effort: Effort, share: float
) -> Choice:
    """The multipliers to prove, as a function of the covariance.

    Args:
        plan: The `Schedule`.
        torus: The `Torus`.
        effort: The `Effort`.
        share: The share of the time left that may be used.
    """
    refined = effort.method == "refined"
    seconds, _ = cost(plan, torus)
    patience = share * effort.remaining - 4 * seconds
    if not refined:
        patience = min(patience, _PATIENCE)
    small = torus
    if not refined and _FEWEST * seconds > patience:
        small = _smaller(plan, torus, patience / _FEWEST)
    descent = Descent(plan, small)
    starts = [descent.formula(factor) for factor in (1.0, 0.25)]
    logs = min(starts, key=lambda start: descent(start)[0])
    steps = _MANY if refined else _FEW

    def on_step(step: int, value: float, _: np.ndarray) -> None:
        if refined and effort.progress is not None:
            effort.progress(step + 1, steps, math.exp(value / 2))

    if effort.method != "closed_form":
        logs, _ = minimize(
            descent,
            logs,
            iterations=steps,
            deadline=time.monotonic() + max(patience, 0.0),
            on_step=on_step,
            tolerance=1e-6 if refined else 1e-4,
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
    counts = [max(n // c, 1) for n, c in zip(torus.sizes, common, strict=True)]
    for largest in range(max(counts, default=1), 0, -1):
        smaller = Torus(
            tuple(
                min(n, c * min(count, largest))
                for n, c, count in zip(torus.sizes, common, counts, strict=True)
            )
        )
        if cost(plan, smaller)[0] <= seconds:
            break
    return smaller
