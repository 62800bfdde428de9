"""What a chain on a torus is made of: values, linear maps, sums, slopes."""

import dataclasses

from keras_sn.lipschitz.upper.torus_maps import Sizes
from keras_sn.lipschitz.upper.torus_maps import Taps


class NotOnTorusError(Exception):
    """Why something cannot be part of a chain on a torus."""


@dataclasses.dataclass(frozen=True)
class Signal:
    """A value of the graph.

    Attributes:
        sizes: Sizes of the image, `()` where there is one position.
        channels: Number of channels.
        last: Whether the channels are the last axis.
        reduction: By how much positions are further apart than at the entry
            of the chain, per axis; `None` behind the end of the images.
        flat: Whether it is flattened, positions before channels.
    """

    sizes: Sizes
    channels: int
    last: bool
    reduction: Sizes | None
    flat: bool = False


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear map between two values."""

    source: int
    target: int
    taps: Taps


@dataclasses.dataclass(frozen=True)
class Combination:
    """A sum of values times numbers, or values side by side."""

    sources: tuple[int, ...]
    target: int
    weights: tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class Sloped:
    """An activation, slopes in an interval."""

    source: int
    target: int
    low: float
    high: float


Operation = Linear | Combination | Sloped


def sources_of(operation: Operation) -> tuple[int, ...]:
    """The values that it takes."""
    if isinstance(operation, Combination):
        return operation.sources
    return (operation.source,)
