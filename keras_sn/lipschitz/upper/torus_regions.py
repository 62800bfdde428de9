"""Parts of a graph that are chains on a torus, from one value to another."""

import dataclasses
import math
from collections.abc import Sequence

from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.upper.chains import split_into_chains
from keras_sn.lipschitz.upper.torus_cost import cost
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_grid import smallest_torus
from keras_sn.lipschitz.upper.torus_operations import Combination
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_operations import NotOnTorusError
from keras_sn.lipschitz.upper.torus_operations import Operation
from keras_sn.lipschitz.upper.torus_operations import Sloped
from keras_sn.lipschitz.upper.torus_reading import Reader
from keras_sn.lipschitz.upper.torus_reading import entry_signal
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.lipschitz.upper.torus_schedule import schedule

# Bytes at hand, and seconds that are over before anybody counts them.
_MEMORY, _INSTANT = 4e9, 0.1


@dataclasses.dataclass
class Region:
    """Steps between two values that are bounded together.

    Attributes:
        steps: The steps.
        entry: The value that they start from.
        exit: The value that they give.
        operations: What they do on a torus.
        plan: The `Schedule` of that.
        torus: The `Torus` that has room for it.
        left_out: Why that takes too long, or `None`.
    """

    steps: list[Step]
    entry: int
    exit: int
    operations: list[Operation]
    plan: Schedule
    torus: Torus
    left_out: str | None = None


def region_from(
    graph: Graph,
    steps: list[Step],
    uses: dict[int, int],
    seconds: float = math.inf,
) -> Region | None:
    """The largest region that starts with the first of some steps.

    Of what takes too long as a whole a shorter part is taken; if none is
    short enough, the whole with the reason to leave it out.

    Args:
        graph: The graph.
        steps: Steps of it that may belong to the region, in its order.
        uses: How often each value of the graph is used.
        seconds: How long its recursion may take.
    """
    first = steps[0]
    shapes = first.shapes
    if not isinstance(first.pieces, list) or len(first.inputs) != 1:
        return None
    if not shapes or len(shapes[0]) < 2:
        return None
    pieces = [
        piece
        for step in steps
        if isinstance(step.pieces, list)
        for piece in step.pieces
    ]
    (entry,) = first.inputs
    try:
        reader = Reader(entry, entry_signal(shapes[0], pieces))
    except NotOnTorusError:
        return None
    left = dict(uses)
    included: list[Step] = []
    operations: list[Operation] = []
    cuts: list[tuple[int, int, int]] = []
    for step in steps:
        if not all(value in reader.signals for value in step.inputs):
            continue
        try:
            operations.extend(reader.read(step))
        except NotOnTorusError:
            if not included:
                return None
            continue
        included.append(step)
        for value in step.inputs:
            left[value] -= 1
        live = [
            value
            for taken in included
            for value in taken.outputs
            if left.get(value, 0) > 0
        ]
        if live == step.outputs:
            cuts.append((len(included), len(operations), live[0]))
    largest = None
    for count, end, value in reversed(cuts):
        if not _worthwhile(operations[:end]):
            break
        try:
            plan = schedule(operations[:end], reader.signals, entry, value)
        except NotOnTorusError:
            continue
        torus = smallest_torus(operations[:end], reader.signals)
        region = Region(
            included[:count], entry, value, operations[:end], plan, torus
        )
        region.left_out = _too_much(plan, torus, seconds)
        if region.left_out is None:
            return region
        largest = largest or region
    return largest


def _too_much(plan: Schedule, torus: Torus, seconds: float) -> str | None:
    """Why a recursion is not affordable, `None` if it is."""
    needed, size = cost(plan, torus)
    if size > _MEMORY:
        return f"its torus of {torus} takes {size / 1e9:.0f} GB"
    if needed > max(seconds, _INSTANT):
        return f"its torus of {torus} takes about {needed:.0f} s"
    return None


def _worthwhile(operations: list[Operation]) -> bool:
    """Whether there is something that is gained by a torus."""
    linear = [op for op in operations if isinstance(op, Linear)]
    spatial = any(len(op.taps.positions) > 1 for op in linear)
    merges = any(
        isinstance(op, Combination) and len(op.sources) > 1 for op in operations
    )
    ends = any(op.taps.strides is None for op in linear)
    sloped = any(isinstance(op, Sloped) for op in operations)
    return (spatial or merges) and (sloped or ends) and len(linear) > 1


def uses_of(graph: Graph) -> dict[int, int]:
    """How often each value is used, as an output of the model too."""
    uses: dict[int, int] = {}
    for value in graph.outputs:
        uses[value] = uses.get(value, 0) + 1
    for step in graph.steps:
        for value in step.inputs:
            uses[value] = uses.get(value, 0) + 1
    return uses


def sections_of(
    graph: Graph, seconds: float = math.inf
) -> list[Region | list[Step]]:
    """A graph in regions and, for the rest of it, chains.

    Args:
        graph: The graph.
        seconds: How long the recursions of all regions may take.

    Returns:
        The sections, each behind those it depends on.
    """
    uses = uses_of(graph)
    position = {id(step): i for i, step in enumerate(graph.steps)}
    chains = {
        id(step): chain for chain in split_into_chains(graph) for step in chain
    }
    regions: list[Region] = []
    free = {id(step): step for step in graph.steps}
    for step in graph.steps:
        if id(step) not in free:
            continue
        behind = position[id(step)]
        candidates = [
            [
                other
                for other in steps
                if id(other) in free and position[id(other)] >= behind
            ]
            for steps in (graph.steps, chains[id(step)])
        ]
        found = [
            region_from(graph, steps, uses, seconds) for steps in candidates
        ]
        known = [region for region in found if region is not None]
        if known:
            regions.append(max(known, key=_merit))
            if regions[-1].left_out is None:
                seconds -= cost(regions[-1].plan, regions[-1].torus)[0]
            for taken in regions[-1].steps:
                del free[id(taken)]
    # What a region takes from outside is still needed outside of it.
    entries = [region.entry for region in regions]
    rest = Graph(graph.inputs, list(free.values()), graph.outputs + entries)
    return sorted(
        [*regions, *split_into_chains(rest)],
        key=lambda section: position[id(_steps(section)[0])],
    )


def shares_of(sections: Sequence[Region | list[Step]]) -> list[float]:
    """Of the time that is left before each section, the share it may use.

    Regions share it by the cost of a recursion. What is no region, or is left
    out, does not take long, and may use what there is.
    """
    shares, costs = [1.0] * len(sections), 0.0
    for i, section in reversed(list(enumerate(sections))):
        if isinstance(section, Region) and section.left_out is None:
            seconds, _ = cost(section.plan, section.torus)
            costs += seconds
            shares[i] = seconds / costs
    return shares


def _merit(region: Region) -> tuple[bool, int]:
    """Which one of two regions to prefer."""
    return region.left_out is None, len(region.steps)


def steps_before(sections: list[Region | list[Step]]) -> list[Step]:
    """The steps of all sections but the last."""
    return [step for section in sections[:-1] for step in _steps(section)]


def _steps(section: Region | list[Step]) -> list[Step]:
    return section.steps if isinstance(section, Region) else section
