"""Tori: how large they have to be, their frequencies, and which ones alias."""

import dataclasses
import functools
import math

import numpy as np

from keras_sn.linear_maps.frequencies import half_grid
from keras_sn.lipschitz.upper.torus_maps import Sizes
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_operations import Operation
from keras_sn.lipschitz.upper.torus_operations import Signal
from keras_sn.lipschitz.upper.torus_operations import sources_of

Reduction = Sizes | None


class Torus:
    """The tori of a chain, one for each resolution.

    Args:
        sizes: Positions per axis at the entry of the chain.
    """

    def __init__(self, sizes: Sizes):
        self.sizes = sizes

    def at(self, reduction: Reduction) -> Sizes:
        """Positions per axis, so much coarser; one each at the end."""
        if reduction is None:
            return (1,) * len(self.sizes)
        return tuple(
            max(size // factor, 1)
            for size, factor in zip(self.sizes, reduction, strict=True)
        )

    def points(self, reduction: Reduction) -> np.ndarray:
        """Frequencies, one of each conjugate pair, `(points, axes)`."""
        return half_points(self.at(reduction))

    def __str__(self) -> str:
        return " x ".join(map(str, self.sizes))


def smallest_torus(
    operations: list[Operation], signals: dict[int, Signal]
) -> Torus:
    """The least torus on which a chain does what it does on its images.

    On each torus there is room for the image, and beside it for what padding
    reads: nothing comes in from the other side.

    Args:
        operations: The operations of the chain.
        signals: The `Signal` of each value.
    """
    involved = {op.target for op in operations}
    involved.update(value for op in operations for value in sources_of(op))
    signals = {value: signals[value] for value in involved}
    linear = [
        op
        for op in operations
        if isinstance(op, Linear) and signals[op.source].sizes
    ]
    axes = max(len(signal.sizes) for signal in signals.values())
    needed, common = np.ones(axes, "int64"), np.ones(axes, "int64")
    moving = np.zeros(axes, dtype=bool)
    for op in linear:
        before, after = signals[op.source], signals[op.target]
        strides = op.taps.strides or (2,) * axes
        moving |= op.taps.positions.any(axis=0) | (np.array(strides) > 1)
        for axis, (low, high) in enumerate(op.taps.reads(after.sizes)):
            size, factor = before.sizes[axis], _factors(before)[axis]
            room = max(size + max(-low, 0), high + 1)
            needed[axis] = max(needed[axis], room * factor)
    for signal in signals.values():
        for axis, size in enumerate(signal.sizes):
            factor = _factors(signal)[axis]
            needed[axis] = max(needed[axis], size * factor)
            common[axis] = np.lcm(common[axis], factor)
    # Where nothing moves along an axis, each position is a chain of its own.
    sizes = np.where(moving, -(-needed // common) * common, 1)
    return Torus(tuple(map(int, sizes)))


def _factors(signal: Signal) -> Sizes:
    assert signal.reduction is not None
    return signal.reduction


@functools.lru_cache(maxsize=64)
def half_points(sizes: Sizes) -> np.ndarray:
    """`half_grid`, kept."""
    return half_grid(sizes)


@dataclasses.dataclass(frozen=True)
class Aliases:
    """Which frequencies of a fine torus meet in one of a coarse torus.

    Attributes:
        index: Integers `(coarse, met)`, among the fine half of frequencies.
        conjugate: Booleans, whether it is the other one of the pair.
        counts: How often each of the fine ones is met.
    """

    index: np.ndarray
    conjugate: np.ndarray
    counts: np.ndarray


@functools.lru_cache(maxsize=64)
def aliases(fine: Sizes, coarse: Sizes) -> Aliases:
    """The `Aliases` of two tori, the sizes of one divisible by the other's."""
    where_fine, other_fine = _halves(fine)
    where_coarse, other_coarse = _halves(coarse)
    everything = np.array(list(np.ndindex(fine))).reshape(
        math.prod(fine), len(fine)
    )
    folded = np.ravel_multi_index(
        tuple((everything % np.array(coarse)).T), coarse
    )
    kept = np.flatnonzero(~other_coarse[folded])
    order = kept[np.argsort(where_coarse[folded[kept]], kind="stable")]
    shape = len(half_points(coarse)), math.prod(fine) // math.prod(coarse)
    index = where_fine[order].reshape(shape)
    counts = np.bincount(index.ravel(), minlength=len(half_points(fine)))
    return Aliases(index, other_fine[order].reshape(shape), counts)


def _halves(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Of each frequency: which one of the half, and whether conjugate."""
    half = half_points(sizes)
    where = np.empty(math.prod(sizes), dtype="int64")
    other = np.ones(math.prod(sizes), dtype=bool)
    shape = np.array(sizes)
    opposite = np.ravel_multi_index(tuple(((-half) % shape).T), sizes)
    own = np.ravel_multi_index(tuple(half.T), sizes)
    where[opposite] = np.arange(len(half))
    where[own] = np.arange(len(half))
    other[own] = False
    return where, other
