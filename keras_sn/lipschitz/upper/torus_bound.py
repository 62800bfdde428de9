"""Bounds of convolutional chains: which torus, which multipliers, how long."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np

from keras_sn.lipschitz.upper.covariance import pair_squares
from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.torus_cost import cost
from keras_sn.lipschitz.upper.torus_descent import Descent
from keras_sn.lipschitz.upper.torus_descent import top_of
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_recursion import Choice
from keras_sn.lipschitz.upper.torus_recursion import Recursion
from keras_sn.lipschitz.upper.torus_recursion import bound_of
from keras_sn.lipschitz.upper.torus_regions import Region
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.lipschitz.upper.torus_schedule import schedule
from keras_sn.lipschitz.upper.unrolled_chain import unrolled
from keras_sn.lipschitz.upper.unrolled_chain import width
from keras_sn.norms.proofs import EPS

# Steps of a descent that "auto" and "refined" take at most.
_FEW, _MANY = 40, 300
# How sharply "refined" tells the largest value of all frequencies from others.
_EXPONENTS = (24.0, 100.0, 400.0)
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
    best = ChainBound(math.inf, left_out=region.left_out)
    for name, spread in _covariances(region, effort):
        bound = bound_of(spread)
        if bound < best.bound:
            by = " by descent" if effort.method == "refined" else ""
            best.bound, best.source = bound, f"LipSDP{by}{name}"
    if region.left_out is None:
        seconds, _ = cost(region.plan, region.torus)
        best.others_are_cheap = seconds < _CHEAP
    return best


def chain_pairs(region: Region, effort: Effort) -> np.ndarray | None:
    """Bounds of the constants of all differences of two outputs.

    Args:
        region: The `Region`.
        effort: The `Effort`.

    Returns:
        Array `(outputs, outputs)`; `None` if the outputs are images, or
        nothing was proved.
    """
    if region.plan.signals[region.exit].sizes:
        return None
    squares = [
        pair_squares(spread[0])
        for _, spread in _covariances(region, effort)
        if spread is not None
    ]
    if not squares:
        return None
    return np.sqrt(np.min(squares, axis=0)) * (1 + 2 * EPS)


def _covariances(
    region: Region, effort: Effort
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Where the chain was bounded, and the covariance of its outputs."""
    flat = None if effort.method == "closed_form" else _unrolled(region, effort)
    if region.left_out is None:
        plan, torus = region.plan, region.torus
        # What is unrolled gets tighter with time, and needs it more.
        share = 1.0 if flat is None else 0.3
        for spread in _proved(plan, torus, effort, share):
            yield f" on a torus of {torus}", spread
    if flat is not None:
        for spread in _proved(flat, Torus(()), effort, 1.0):
            yield ", images unrolled", spread


def _proved(
    plan: Schedule, torus: Torus, effort: Effort, share: float
) -> Iterator[np.ndarray | None]:
    """What one choice of the multipliers proves, and what a better one does.

    Args:
        plan: The `Schedule`.
        torus: The `Torus`.
        effort: The `Effort`.
        share: The share of the time left that may be used.
    """
    choice = _quickly(plan, torus, effort, share)
    yield Recursion(plan, torus).outputs(choice)
    affordable = share * effort.remaining > _FEWEST * cost(plan, torus)[0]
    if effort.method == "refined" and affordable:
        better = _refined(plan, torus, effort, share, choice)
        yield Recursion(plan, torus).outputs(better)


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


def _quickly(
    plan: Schedule, torus: Torus, effort: Effort, share: float
) -> Choice:
    """Multipliers by a short descent, on a coarser torus where that is long."""
    small = torus
    if _FEWEST * cost(plan, torus)[0] > _PATIENCE:
        small = _smaller(plan, torus, _PATIENCE / _FEWEST)
    # A number of steps, not a time: the same bound on each machine.
    affordable = int(_PATIENCE / max(cost(plan, small)[0], 1e-9))
    descent = Descent(plan, small)
    logs = _lowest(descent, _formulas(descent))
    if effort.method != "closed_form":
        logs, _ = minimize(
            descent,
            logs,
            iterations=max(min(_FEW, affordable), 1),
            deadline=_deadline(plan, torus, effort, share),
            tolerance=1e-4,
        )
    lambdas = descent.lambdas(logs)
    if small is torus:
        return lambda i, spread: lambdas[i]
    tops = descent.tops(logs)
    return lambda i, spread: lambdas[i] * (tops[i] / top_of(spread, lambdas[i]))


def _refined(
    plan: Schedule,
    torus: Torus,
    effort: Effort,
    share: float,
    choice: Choice,
) -> Choice:
    """Multipliers by a long descent, from given ones if they are better."""
    stage = 0

    def on_step(step: int, value: float, _: np.ndarray) -> None:
        if effort.progress is not None:
            steps = len(_EXPONENTS) * _MANY
            done = stage * _MANY + step + 1
            effort.progress(done, steps, math.exp(value / 2))

    descent = Descent(plan, torus)
    starts = _formulas(descent)
    with contextlib.suppress(np.linalg.LinAlgError):
        starts.append(descent.logs(choice))
    deadline = _deadline(plan, torus, effort, share)
    logs = _lowest(descent, starts)
    for stage, exponent in enumerate(_EXPONENTS):
        if stage and time.monotonic() > deadline:
            break
        descent.exponent = exponent
        logs, _ = minimize(
            descent,
            logs,
            iterations=_MANY,
            deadline=deadline,
            on_step=on_step,
            tolerance=1e-6,
        )
    lambdas = descent.lambdas(logs)
    return lambda i, spread: lambdas[i]


def _formulas(descent: Descent) -> list[np.ndarray]:
    return [descent.formula(share) for share in (1.0, 0.25)]


def _lowest(descent: Descent, starts: list[np.ndarray]) -> np.ndarray:
    return min(starts, key=lambda start: descent(start)[0])


def _deadline(
    plan: Schedule, torus: Torus, effort: Effort, share: float
) -> float:
    """When to be back, so that there is time for the proof."""
    patience = share * effort.remaining - 4 * cost(plan, torus)[0]
    return time.monotonic() + max(patience, 0.0)


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
