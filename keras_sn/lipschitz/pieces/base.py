"""Pieces: what a layer does, as far as its Lipschitz constant is concerned."""

import math

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
    """

    def __init__(
        self,
        constant,
        source,
        guarantee=EXACT,
        reason=None,
        channelwise=False,
        axes=None,
    ):
        self._constant = constant
        self.source = source
        self._guarantee = guarantee
        self.reason = reason
        self.channelwise = channelwise
        self.axes = axes

    @property
    def constant(self):
        return self._constant

    @property
    def bounded(self):
        """Whether the constant is finite, which is cheaper to tell."""
        return math.isfinite(self.constant)

    @property
    def guarantee(self):
        return self._guarantee if math.isfinite(self.constant) else NONE

    def __repr__(self):
        return f"<{type(self).__name__} {self.constant:.6g} ({self.source})>"


class Identity(Piece):
    """Nothing at all at inference, such as dropout."""

    def __init__(self, source="identity at inference"):
        super().__init__(1.0, source, channelwise=True)


class Slope(Piece):
    """An activation that acts on each number alone, slopes in an interval.

    Args:
        low: Infimum of `(f(x) - f(y)) / (x - y)`.
        high: Its supremum.
        source: The formula.
    """

    def __init__(self, low, high, source):
        super().__init__(max(abs(low), abs(high)), source, channelwise=True)
        self.low = float(low)
        self.high = float(high)

    def after(self, other):
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


class Flatten(Piece):
    """`Flatten`: isometric; remembers where each channel goes.

    Args:
        channel_of: Integers, the channel of each entry of the output; `None`
            if the shape is not known.
        axis: The channel axis of the input.
    """

    def __init__(self, channel_of, axis):
        super().__init__(1.0, "isometry")
        self.channel_of = channel_of
        self.axis = axis


class Merge:
    """What a layer does with several inputs.

    Args:
        kind: `"sum"`: the distances of the inputs add up, as in `Add`.
            `"stack"`: their squares do, as in `Concatenate`.
        source: The formula.
        factors: A factor per input, such as the root of how often
            broadcasting repeats it. `None`: 1 each.
    """

    def __init__(self, kind, source, factors=None):
        self.kind = kind
        self.source = source
        self.factors = factors


def repetitions(shapes, output_shape):
    """For each input, the root of how often broadcasting repeats it.

    Args:
        shapes: Shapes of the inputs, batch axis first.
        output_shape: Shape of the output.

    Returns:
        List of factors, `None` if an open axis hides them.
    """
    if shapes is None or all(s[1:] == shapes[0][1:] for s in shapes):
        return [1.0] * len(shapes or [None])
    sizes = [s[1:] for s in [*shapes, output_shape or (None, None)]]
    if any(None in size for size in sizes):
        return None
    total = math.prod(sizes[-1])
    return [math.sqrt(total / math.prod(size)) for size in sizes[:-1]]


def unbounded(reason, way_out=None):
    """The piece of a layer that has no Lipschitz constant, or none known."""
    if way_out:
        reason = f"{reason} {way_out}"
    return Piece(math.inf, "no finite constant", NONE, reason=reason)
