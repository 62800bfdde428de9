"""What the steps of a graph are on a torus: linear maps, sums, slopes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.pieces.base import Flatten
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.pieces.merge import Shape
from keras_sn.lipschitz.pieces.spatial import Averaging
from keras_sn.lipschitz.pieces.spatial import GlobalAveraging
from keras_sn.lipschitz.pieces.spatial import Margins
from keras_sn.lipschitz.upper import torus_maps
from keras_sn.lipschitz.upper.torus_maps import Sizes
from keras_sn.lipschitz.upper.torus_maps import Taps
from keras_sn.lipschitz.upper.torus_operations import Combination
from keras_sn.lipschitz.upper.torus_operations import Linear
from keras_sn.lipschitz.upper.torus_operations import NotOnTorusError
from keras_sn.lipschitz.upper.torus_operations import Operation
from keras_sn.lipschitz.upper.torus_operations import Signal
from keras_sn.lipschitz.upper.torus_operations import Sloped


def entry_signal(shape: Shape, pieces: Sequence[Piece]) -> Signal:
    """The signal of a value of known shape.

    Args:
        shape: Its shape, batch axis first.
        pieces: What follows; the first to know the channel axis tells it.

    Raises:
        NotOnTorusError: If the size is not known.
    """
    sizes = tuple(size for size in shape[1:] if size is not None)
    if len(sizes) < len(shape) - 1 or not sizes:
        raise NotOnTorusError("The input size is not known.")
    if len(sizes) == 1:
        return Signal((), sizes[0], True, None)
    last = next(filter(None, map(_channel_axis, pieces)), -1) != 1
    *spatial, channels = sizes if last else (*sizes[1:], sizes[0])
    return Signal(tuple(spatial), channels, last, (1,) * len(spatial))


def _channel_axis(piece: Piece) -> int | None:
    if piece.axes is not None:
        return piece.axes[0]
    return getattr(piece, "axis", None)


class Reader:
    """Reads steps as operations.

    Args:
        entry: Number of the value that the chain starts from.
        signal: Its `Signal`.

    Attributes:
        signals: The `Signal` of each value read so far.
    """

    def __init__(self, entry: int, signal: Signal):
        self.signals = {entry: signal}
        self.count = 0

    def read(self, step: Step) -> list[Operation]:
        """The operations of a step, whose sources have been read.

        Raises:
            NotOnTorusError: If it is something else.
        """
        if len(step.outputs) != 1:
            raise NotOnTorusError("It has several outputs.")
        operations: list[Operation] = []
        if isinstance(step.pieces, Merge):
            operations = [self._merge(step.pieces, step)]
        else:
            (value,) = step.inputs
            for piece in step.pieces:
                for operation in self._piece(piece, value):
                    operations.append(operation)
                    value = operation.target
            if value == step.inputs[0]:
                operations = [self._alias(value)]
        # What it gives has a number of its own in the graph.
        last = operations[-1]
        target = step.outputs[0]
        self.signals[target] = self.signals.pop(last.target)
        operations[-1] = dataclasses.replace(last, target=target)
        return operations

    def _new(self, signal: Signal) -> int:
        self.count += 1
        self.signals[-self.count] = signal
        return -self.count

    def _alias(self, value: int, **changes) -> Combination:
        signal = dataclasses.replace(self.signals[value], **changes)
        return Combination((value,), self._new(signal), (1.0,))

    def _merge(self, merge: Merge, step: Step) -> Combination:
        signals = [self.signals[value] for value in step.inputs]
        first = signals[0]
        if any(signal.flat for signal in signals):
            raise NotOnTorusError("It merges what is flattened.")
        sources = tuple(step.inputs)
        if merge.weights is not None:
            if any(signal != first for signal in signals):
                raise NotOnTorusError("It merges different shapes.")
            weights = tuple(merge.weights)
            return Combination(sources, self._new(first), weights)
        if merge.axis is None:
            raise NotOnTorusError(f"{step.name} does not merge linearly.")
        channels = sum(signal.channels for signal in signals)
        wide = dataclasses.replace(first, channels=channels)
        along_channels = _is_channel_axis(merge.axis, first)
        if not along_channels or any(
            dataclasses.replace(signal, channels=channels) != wide
            for signal in signals
        ):
            raise NotOnTorusError(f"{step.name} merges along other axes.")
        return Combination(sources, self._new(wide), None)

    def _piece(self, piece: Piece, value: int) -> list[Operation]:
        signal = self.signals[value]
        if isinstance(piece, Identity):
            return []
        if isinstance(piece, Slope):
            return [self._slope(piece, value, signal)]
        if isinstance(piece, Flatten):
            return [self._flatten(piece, value, signal)]
        if signal.flat:
            return [self._behind_flatten(piece, value, signal)]
        axis = _channel_axis(piece)
        if axis is None or not _is_channel_axis(axis, signal):
            raise NotOnTorusError(f"{piece.source}: not a map of a chain.")
        if isinstance(piece, GlobalAveraging):
            return [self._mean(piece, value, signal)]
        if isinstance(piece, Averaging):
            return self._average(piece, value, signal)
        return [self._linear(piece, value, signal)]

    def _slope(self, piece: Slope, value: int, signal: Signal) -> Operation:
        target = self._new(signal)
        if piece.low != piece.high:
            return Sloped(value, target, piece.low, piece.high)
        axes = len(signal.sizes)
        taps = torus_maps.factor_taps(piece.low, signal.channels, axes)
        return Linear(value, target, taps)

    def _flatten(self, piece: Flatten, value: int, signal: Signal) -> Operation:
        if not signal.sizes:
            return self._alias(value)
        if piece.channel_of is None or signal.flat:
            raise NotOnTorusError("Flatten of an unknown shape.")
        return self._alias(value, flat=True)

    def _behind_flatten(self, piece, value: int, signal: Signal) -> Operation:
        if not isinstance(piece, Matrix) or piece.channel_of is not None:
            raise NotOnTorusError(f"{piece.source}: not a map of a chain.")
        taps = torus_maps.flattened_taps(piece, signal.sizes, signal.channels)
        after = Signal((), taps.outputs, True, None)
        return Linear(value, self._new(after), taps)

    def _mean(self, piece, value: int, signal: Signal) -> Operation:
        if not signal.sizes:
            raise NotOnTorusError("A mean over positions behind the images.")
        taps = torus_maps.mean_taps(signal.sizes, signal.channels)
        after = Signal((), signal.channels, True, None)
        return Linear(value, self._new(after), taps)

    def _average(self, piece, value: int, signal: Signal) -> list[Operation]:
        self._check_placement(piece, signal)
        window, sizes = piece.placement.window, piece.placement.sizes
        taps = torus_maps.averaging_taps(piece, signal.channels)
        after = _behind(taps, signal, window.output_size(sizes))
        factor = torus_maps.largest_edge_factor(piece)
        if factor > 1 and piece.repeats_edges:
            raise NotOnTorusError(
                "Average pooling that repeats the edges of its input."
            )
        pooled = Linear(value, self._new(after), taps)
        if factor == 1:
            return [pooled]
        # Its windows at the edge are averages of fewer positions.
        edged = Sloped(pooled.target, self._new(after), 1.0, factor)
        return [pooled, edged]

    def _linear(self, piece, value: int, signal: Signal) -> Operation:
        axes = len(signal.sizes)
        sizes = signal.sizes
        if isinstance(piece, Kernel):
            self._check_placement(piece, signal)
            taps = torus_maps.kernel_taps(piece)
            assert piece.placement is not None
            sizes = piece.placement.window.output_size(sizes)
        elif isinstance(piece, Margins):
            starts = tuple(-before for before, _ in piece.margins)
            taps = torus_maps.shift_taps(starts, signal.channels)
            sizes = tuple(
                size + before + after
                for size, (before, after) in zip(
                    sizes, piece.margins, strict=True
                )
            )
        elif isinstance(piece, Diagonal) or (
            isinstance(piece, Matrix) and piece.channel_of is None
        ):
            taps = torus_maps.pointwise_taps(piece, axes)
        else:
            raise NotOnTorusError(f"{piece.source}: not a map of a chain.")
        if taps.inputs != signal.channels:
            raise NotOnTorusError("Channels do not fit.")
        if not np.all(np.isfinite(taps.array)):
            raise NotOnTorusError("Its weights are not finite.")
        return Linear(value, self._new(_behind(taps, signal, sizes)), taps)

    def _check_placement(self, piece, signal: Signal) -> None:
        placement = piece.placement
        if placement is None or placement.sizes != signal.sizes:
            raise NotOnTorusError(
                f"{piece.source}: not on an image of known size."
            )


def _behind(taps: Taps, signal: Signal, sizes: Sizes) -> Signal:
    """The signal behind a map that leaves an image."""
    if min(sizes, default=1) < 1:
        raise NotOnTorusError("No positions are left.")
    if signal.reduction is None:
        return dataclasses.replace(signal, channels=taps.outputs)
    reduction = tuple(
        before * stride
        for before, stride in zip(
            signal.reduction, taps.strides or (), strict=True
        )
    )
    return Signal(sizes, taps.outputs, signal.last, reduction)


def _is_channel_axis(axis: int, signal: Signal) -> bool:
    if not signal.sizes:
        return axis in (-1, 1)
    axis = axis % (len(signal.sizes) + 2)
    return axis == (len(signal.sizes) + 1 if signal.last else 1)


def _reordered(piece: Diagonal | Matrix) -> bool:
    """Whether its inputs are those of a `Flatten`."""
    return getattr(piece, "channel_of", None) is not None
