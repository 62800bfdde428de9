"""Pieces: what a layer does, as far as its Lipschitz constant is concerned."""

import math

import numpy as np

from keras_sn.lipschitz.pieces.curves import Curve

# How good a constant is.
EXACT = "exact"
UPPER = "upper bound"
NONE = "none"


class Piece:
    """A map with one input of which a Lipschitz constant is known.

    Args:
        constant: Upper bound of the Lipschitz constant in the l2 norm, `inf`
            if there is none or none is known.
        source: The formula, or who stated it.
        guarantee: `"exact"`: no smaller constant holds. `"upper bound"`:
            proved, perhaps not the smallest. `"none"` where it is `inf`.
        reason: Why it is `inf`, and what to do about it.
        channelwise: Whether channel `c` of the output depends on channel `c`
            of the input alone, with this same constant.
        axes: The channel axis of input and output, if channelwise; `None`
            where any axis is as good as any other.

    Attributes:
        roundings: How often a computation in floating point rounds a number
            on its way, sums aside.
        terms: Of how many numbers it takes sums; `None`: perhaps of all.
        cancels: Whether those may be sums of numbers of both signs, larger
            than what they come to.
    """

    roundings: float = 4.0
    cancels: bool = True
    terms: int | None = None

    def __init__(
        self,
        constant: float | None,
        source: str,
        guarantee: str = EXACT,
        reason: str | None = None,
        channelwise: bool = False,
        axes: tuple[int, int] | None = None,
    ):
        self._constant = constant
        self.source = source
        self._guarantee = guarantee
        self.reason = reason
        self.channelwise = channelwise
        self.axes = axes

    @property
    def constant(self) -> float:
        """Upper bound of the Lipschitz constant."""
        assert self._constant is not None
        return self._constant

    @property
    def bounded(self) -> bool:
        """Whether the constant is finite, which is cheaper to tell."""
        return math.isfinite(self.constant)

    @property
    def guarantee(self) -> str:
        """How good the constant is."""
        return self._guarantee if math.isfinite(self.constant) else NONE

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.constant:.6g} ({self.source})>"


class Identity(Piece):
    """Nothing at all at inference, such as dropout."""

    roundings = 0.0
    terms = 1

    def __init__(self, source: str = "identity at inference"):
        super().__init__(1.0, source, channelwise=True)


class Rearrangement(Piece):
    """The numbers of the input in another order or shape, some of them.

    Each at most once, so the constant is one.
    """

    roundings = 0.0
    terms = 1

    def __init__(
        self,
        source: str = "isometry",
        channelwise: bool = False,
        axes: tuple[int, int] | None = None,
    ):
        super().__init__(1.0, source, channelwise=channelwise, axes=axes)


class Slope(Piece):
    """An activation that acts on each number alone, slopes in an interval.

    Args:
        low: Infimum of `(f(x) - f(y)) / (x - y)`.
        high: Its supremum.
        source: The formula.
        curve: The function itself, for slopes near an input; `None` where it
            is not known.
    """

    terms = 1

    def __init__(
        self, low: float, high: float, source: str, curve: Curve | None = None
    ):
        super().__init__(max(abs(low), abs(high)), source, channelwise=True)
        self.low = float(low)
        self.high = float(high)
        self.curve = curve

    def after(self, other: "Slope") -> "Slope":
        """The composition of this one after another."""
        products = [
            a * b
            for a in (self.low, self.high)
            for b in (other.low, other.high)
        ]
        source = f"{other.source}; {self.source}"
        # Widened by what rounding the products may lose.
        return Slope(
            min(products) - 1e-15 * abs(min(products)),
            max(products) + 1e-15 * abs(max(products)),
            source,
        )


class Flatten(Rearrangement):
    """`Flatten`: isometric; remembers where each channel goes.

    Args:
        channel_of: Integers, the channel of each entry of the output; `None`
            if the shape is not known.
        axis: The channel axis of the input.
    """

    def __init__(self, channel_of: np.ndarray | None, axis: int | None):
        super().__init__()
        self.channel_of = channel_of
        self.axis = axis


def unbounded(reason: str, way_out: str | None = None) -> Piece:
    """The piece of a layer that has no Lipschitz constant, or none known."""
    if way_out:
        reason = f"{reason} {way_out}"
    return Piece(math.inf, "no finite constant", NONE, reason=reason)
