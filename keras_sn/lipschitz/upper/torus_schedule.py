"""The order of a chain's operations: linear maps joined, activations apart."""

import dataclasses

from keras_sn.lipschitz.upper.torus_grid import Reduction
from keras_sn.lipschitz.upper.torus_operations import Combination
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_operations import NotOnTorusError
from keras_sn.lipschitz.upper.torus_operations import Operation
from keras_sn.lipschitz.upper.torus_operations import Signal
from keras_sn.lipschitz.upper.torus_operations import Sloped
from keras_sn.lipschitz.upper.torus_operations import sources_of


@dataclasses.dataclass
class Stage:
    """A linear map of the state, and activations of part of what it gives.

    The state is what is still needed of the chain, values side by side.

    Attributes:
        rows: Values that the map gives, side by side: those before an
            activation, then those that stay as they are.
        state: What those are called behind the activations.
        slopes: The slopes `(low, high)` of each; `None` of what stays.
        reduction: The `reduction` of those values.
    """

    rows: list[int]
    state: list[int]
    slopes: list[tuple[float, float] | None]
    reduction: Reduction


@dataclasses.dataclass
class Schedule:
    """A chain in stages.

    Attributes:
        entry: The value that it starts from.
        exit: The value that it gives.
        stages: List of `Stage`.
        linear: The linear operations by the value that they give.
        signals: The `Signal` of each value.
    """

    entry: int
    exit: int
    stages: list[Stage]
    linear: dict[int, Linear | Combination]
    signals: dict[int, Signal]


def schedule(
    operations: list[Operation],
    signals: dict[int, Signal],
    entry: int,
    exit: int,
    masks: bool = True,
) -> Schedule:
    """Puts the operations of a chain in stages.

    Args:
        operations: The operations.
        signals: The `Signal` of each value.
        entry: The value that the chain starts from.
        exit: The value that it gives.
        masks: Whether to put masks in front of what pads with zeros.

    Raises:
        NotOnTorusError: If values of different resolution meet.
    """
    if masks:
        operations, signals = with_masks(operations, signals)
    plan = Schedule(entry, exit, [], {}, signals)
    waiting, known = list(operations), {entry}
    while waiting:
        ready = [op for op in waiting if known.issuperset(sources_of(op))]
        linear = [op for op in ready if not isinstance(op, Sloped)]
        chosen: list = [op for op in linear if not _is_coarser(op, signals)]
        sloped = [op for op in ready if isinstance(op, Sloped)]
        if not chosen and sloped:
            rest = [op for op in waiting if op not in sloped]
            plan.stages.append(_stage(sloped, rest, known, signals, exit))
            # What was behind an activation is known as such from now on.
            known = set(plan.stages[-1].state)
            waiting = rest
            continue
        chosen = chosen or linear
        for op in chosen:
            plan.linear[op.target] = op
            known.add(op.target)
        waiting = [op for op in waiting if op not in chosen]
    return plan


def _is_coarser(operation: Operation, signals: dict[int, Signal]) -> bool:
    """Whether what it gives is of a coarser resolution."""
    before = signals[sources_of(operation)[0]]
    return signals[operation.target].reduction != before.reduction


def _stage(
    sloped: list[Sloped],
    waiting: list[Operation],
    known: set[int],
    signals: dict[int, Signal],
    exit: int,
) -> Stage:
    needed = {source for op in waiting for source in sources_of(op)} | {exit}
    kept = sorted(known & needed)
    rows = [*(op.source for op in sloped), *kept]
    reductions = {signals[value].reduction for value in rows}
    if len(reductions) > 1:
        raise NotOnTorusError("Branches of different resolution side by side.")
    return Stage(
        rows,
        [*(op.target for op in sloped), *kept],
        [*((op.low, op.high) for op in sloped), *(None for _ in kept)],
        reductions.pop(),
    )


def with_masks(
    operations: list[Operation], signals: dict[int, Signal]
) -> tuple[list[Operation], dict[int, Signal]]:
    """The operations, with masks where padding needs zeros to read.

    Zero padding reads zeros outside of the image. On the torus something
    else may be there, until a mask takes it away: an activation of slope 1
    inside of the image and 0 outside. An activation that may have the slope 0
    is a mask already.
    """
    signals = dict(signals)
    masked: list[Operation] = []
    wanted = _wanted_clean(operations, signals)
    clean = {value for value, s in signals.items() if s.reduction is None}
    clean.add(sources_of(operations[0])[0])
    renamed: dict[int, int] = {}
    for op in operations:
        if isinstance(op, Sloped):
            low, high = op.low, op.high
            if op.source not in clean and op.target in wanted:
                low, high = min(low, 0.0), max(high, 0.0)
                op = dataclasses.replace(op, low=low, high=high)
            if op.source in clean or low <= 0 <= high:
                clean.add(op.target)
        elif isinstance(op, Combination):
            if clean.issuperset(op.sources):
                clean.add(op.target)
        elif _reads_outside(op, signals):
            if op.source not in clean:
                mask = renamed.get(op.source)
                if mask is None:
                    mask = max(signals) + 1
                    renamed[op.source] = mask
                    signals[mask] = signals[op.source]
                    masked.append(Sloped(op.source, mask, 0.0, 1.0))
                op = dataclasses.replace(op, source=mask)
            if _stays_inside(op, signals):
                clean.add(op.target)
        elif op.source in clean and _stays_inside(op, signals):
            clean.add(op.target)
        masked.append(op)
    return masked, signals


def _wanted_clean(
    operations: list[Operation], signals: dict[int, Signal]
) -> set[int]:
    """The values that padding reads, as far as no mask stands between."""
    wanted: set[int] = set()
    for op in reversed(operations):
        if isinstance(op, Linear):
            passes = _stays_inside(op, signals) and op.target in wanted
            if _reads_outside(op, signals) or passes:
                wanted.add(op.source)
        elif isinstance(op, Combination) and op.target in wanted:
            wanted.update(op.sources)
    return wanted


def _reads_outside(op: Linear, signals: dict[int, Signal]) -> bool:
    sizes = signals[op.source].sizes
    if not sizes:
        return False
    reads = op.taps.reads(signals[op.target].sizes)
    return any(
        low < 0 or high >= size
        for (low, high), size in zip(reads, sizes, strict=True)
    )


def _stays_inside(op: Linear, signals: dict[int, Signal]) -> bool:
    """Whether an image that is zero outside gives one that is.

    So it is where outputs outside of the image read outside alone.
    """
    source, strides = signals[op.source].sizes, op.taps.strides
    if strides is None:
        return False
    first, last = op.taps.positions.min(axis=0), op.taps.positions.max(axis=0)
    return all(
        a + stride * after >= before and b < stride
        for a, b, stride, before, after in zip(
            first, last, strides, source, signals[op.target].sizes, strict=True
        )
    )
