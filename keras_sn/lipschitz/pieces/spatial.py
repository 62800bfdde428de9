"""Spatial pieces: what acts along the axes of an image of known size."""

import dataclasses

from keras_sn.linear_maps.window import Window
from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement


@dataclasses.dataclass(frozen=True)
class Placement:
    """A window on an image of known size.

    Attributes:
        window: How it slides.
        sizes: Sizes of the image, per axis.
    """

    window: Window
    sizes: tuple[int, ...]


class Averaging(Piece):
    """Average pooling, each channel alone.

    Args:
        constant: Upper bound of its norm.
        guarantee: How good that is.
        axis: The channel axis.
        placement: `Placement`; `None` if the size is not known.
        repeats_edges: Whether what lies outside of the image counts as the
            nearest position in it, instead of not at all.
    """

    cancels = False

    def __init__(
        self,
        constant: float,
        guarantee: str,
        axis: int,
        placement: Placement | None,
        repeats_edges: bool = False,
    ):
        super().__init__(
            constant,
            "prod |A_i|",
            guarantee,
            channelwise=True,
            axes=(axis, axis),
        )
        self.placement = placement
        self.repeats_edges = repeats_edges


class GlobalAveraging(Piece):
    """The mean over all positions, each channel alone.

    Args:
        constant: Upper bound of its norm.
        source: The formula.
        guarantee: How good it is.
        axes: The channel axis of input and output.
    """

    cancels = False

    def __init__(
        self,
        constant: float,
        source: str,
        guarantee: str = EXACT,
        axes: tuple[int, int] = (-1, -1),
    ):
        super().__init__(
            constant, source, guarantee, channelwise=True, axes=axes
        )


class Margins(Rearrangement):
    """Zeros around an image, or less of it.

    Args:
        source: The formula.
        axis: The channel axis.
        margins: Pairs per axis, positions before and behind the image;
            negative where they are cut off.
    """

    def __init__(
        self, source: str, axis: int, margins: tuple[tuple[int, int], ...]
    ):
        super().__init__(source, channelwise=True, axes=(axis, axis))
        self.margins = margins
