"""Chains on small images unrolled: matrices between all numbers of images."""

import dataclasses
import math

import numpy as np

from keras_sn.lipschitz.upper.torus_maps import Taps
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_operations import Operation
from keras_sn.lipschitz.upper.torus_operations import Signal


def unrolled(
    operations: list[Operation], signals: dict[int, Signal]
) -> tuple[list[Operation], dict[int, Signal]]:
    """A chain of which every position is a channel of its own.

    Nothing is given away at the edges of images, and each number has a
    multiplier of its own; but what was a matrix of channels for each
    frequency is one of channels times positions.

    Args:
        operations: The operations of the chain.
        signals: The `Signal` of each value.

    Returns:
        `(operations, signals)`.
    """
    changed = []
    for op in operations:
        if isinstance(op, Linear):
            taps = _matrix(op, signals)
            op = dataclasses.replace(op, taps=taps)
        changed.append(op)
    flat = {
        value: Signal((), width(signal), True, None)
        for value, signal in signals.items()
    }
    return changed, flat


def width(signal: Signal) -> int:
    """How many numbers a signal has."""
    return signal.channels * math.prod(signal.sizes)


def _matrix(op: Linear, signals: dict[int, Signal]) -> Taps:
    """The map between all numbers, channels before positions."""
    source, target = signals[op.source].sizes, signals[op.target].sizes
    if not source:
        return op.taps
    taps = op.taps
    axes = len(source)
    strides = np.array(taps.strides or (1,) * axes)
    outputs = np.array(list(np.ndindex(target or (1,) * axes)))
    matrix = np.zeros(
        (taps.outputs, len(outputs), taps.inputs, math.prod(source))
    )
    for entries, position in zip(taps.array, taps.positions, strict=True):
        read = outputs * strides + position
        inside = np.all((read >= 0) & (read < source), axis=1)
        rows = np.flatnonzero(inside)
        columns = np.ravel_multi_index(tuple(read[inside].T), source)
        entries = np.diag(entries) if taps.diagonal else entries
        matrix[:, rows, :, columns] = entries
    array = matrix.reshape(1, taps.outputs * len(outputs), -1)
    return Taps(array, np.zeros((1, 0), "int64"), (), taps.error)
