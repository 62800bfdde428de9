"""Curves of activations: their values, and their slopes on an interval."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

# A derivative in float64 is off by no more than that, and beyond that number
# it is what it is at infinity.
_LOSS, _FAR = 1e-13, 1e100


@dataclasses.dataclass
class Curve:
    """An activation as a function of each number.

    Attributes:
        value: The function, good to a few roundings of `1 + |x|`.
        breaks: Where the derivative turns or jumps, in rising order.
        slopes: The derivative between these, one function more; each is
            monotone there and has limits at the breaks.
        loss: How far what these give may be off.
    """

    value: Function
    breaks: tuple[float, ...]
    slopes: tuple[Function, ...]
    loss: float = 0.0

    def between(
        self, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest slope on intervals.

        Args:
            low: Array of lower ends.
            high: Array of upper ends.

        Returns:
            Arrays `(least, largest)`; they hold all `(f(x) - f(y)) / (x - y)`
            with both points inside, since slopes of chords are means of
            derivatives.
        """
        low, high = np.clip(low, -_FAR, _FAR), np.clip(high, -_FAR, _FAR)
        least = np.full(low.shape, np.inf)
        largest = np.full(low.shape, -np.inf)
        ends = (-np.inf, *self.breaks, np.inf)
        for slope, left, right in zip(
            self.slopes, ends, ends[1:], strict=False
        ):
            # Where only a break is touched, the other side counts too.
            inside = (low <= right) & (high >= left)
            first = slope(np.clip(low, left, right))
            last = slope(np.clip(high, left, right))
            smaller, larger = np.minimum(first, last), np.maximum(first, last)
            least = np.where(inside, np.minimum(least, smaller), least)
            largest = np.where(inside, np.maximum(largest, larger), largest)
        return least - self.loss, largest + self.loss


def line(slope: float | np.ndarray) -> Function:
    """A slope that is the same everywhere."""
    return lambda x: np.broadcast_to(slope, x.shape)


def broken_line(
    value: Function, breaks: tuple[float, ...], *slopes: float | np.ndarray
) -> Curve:
    """The curve of a function that is linear between breaks."""
    return Curve(value, breaks, tuple(line(slope) for slope in slopes))


def smooth(
    value: Function, slope: Function, breaks: tuple[float, ...] = ()
) -> Curve:
    """The curve of a function with one formula for its derivative."""
    return Curve(value, breaks, (slope,) * (len(breaks) + 1), _LOSS)


def relu(
    negative_slope: float | np.ndarray = 0.0, max_value: float | None = None
) -> Curve:
    """The curve of relu, leaky relu and PReLU; the slopes may be an array."""

    def value(x: np.ndarray) -> np.ndarray:
        above = np.maximum(x, 0)
        if max_value is not None:
            above = np.minimum(above, max_value)
        return above + negative_slope * np.minimum(x, 0)

    if max_value is None:
        return broken_line(value, (0.0,), negative_slope, 1.0)
    return broken_line(value, (0.0, max_value), negative_slope, 1.0, 0.0)


def elu(alpha: float = 1.0, scale: float = 1.0) -> Curve:
    """The curve of elu, and of selu with its scale."""

    def value(x: np.ndarray) -> np.ndarray:
        below = alpha * np.expm1(np.minimum(x, 0))
        return scale * np.where(x > 0, x, below)

    return Curve(
        value,
        (0.0,),
        (lambda x: scale * alpha * np.exp(np.minimum(x, 0)), line(scale)),
        _LOSS,
    )


def rescaled(scale: float, offset: float) -> Curve:
    """The curve of `scale * x + offset`."""
    return broken_line(lambda x: scale * x + offset, (), scale)


def _logistic(x):
    # The smaller of the two never overflows.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _density(x):
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


_erfc = np.vectorize(math.erfc, otypes=[float])


def _normal(x):
    return _erfc(-x / math.sqrt(2)) / 2


_ROOT, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh_slope(x):
    # Beyond, it is 0 and 1 to the last bit.
    x = np.clip(x, -40.0, 40.0)
    inner = np.tanh(_ROOT * (x + _CUBIC * x**3))
    growth = _ROOT * (1 + 3 * _CUBIC * x**2)
    return (1 + inner) / 2 + x / 2 * (1 - inner) * (1 + inner) * growth


def _silu_slope(x):
    s = _logistic(x)
    return s + x * s * _logistic(-x)


def _mish_slope(x):
    t = np.tanh(_softplus(x))
    bend = (1 - t) * (1 + t) * _logistic(x)
    return t + np.where(np.abs(x) < 400, x * bend, 0.0)


def _gelu_slope(x):
    x = np.clip(x, -100.0, 100.0)
    return _normal(x) + x * _density(x)


def _squareplus_slope(x):
    return (1 + x / np.hypot(x, 2)) / 2


# Where their derivatives turn: numbers at which the second one vanishes.
_SILU_TURN = 2.399357280520547
_MISH_TURNS = (-2.2563763963607931, 1.4905711794854285)
_GELU_TANH_TURN = 1.4185040087908284

CURVES: dict[str, Curve] = {
    "relu": relu(),
    "relu6": relu(0.0, 6.0),
    "leaky_relu": relu(0.2),
    "hard_tanh": broken_line(
        lambda x: np.clip(x, -1, 1), (-1.0, 1.0), 0.0, 1.0, 0.0
    ),
    "hard_sigmoid": broken_line(
        lambda x: np.clip(x / 6 + 0.5, 0, 1), (-3.0, 3.0), 0.0, 1 / 6, 0.0
    ),
    "sparse_sigmoid": broken_line(
        lambda x: np.clip((x + 1) / 2, 0, 1), (-1.0, 1.0), 0.0, 0.5, 0.0
    ),
    "soft_shrink": broken_line(
        lambda x: x - np.clip(x, -0.5, 0.5), (-0.5, 0.5), 1.0, 0.0, 1.0
    ),
    "hard_silu": Curve(
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        (-3.0, 3.0),
        (line(0.0), lambda x: x / 3 + 0.5, line(1.0)),
        _LOSS,
    ),
    "sparse_plus": Curve(
        lambda x: np.where(x > 1, x, (np.clip(x, -1, 1) + 1) ** 2 / 4),
        (-1.0, 1.0),
        (line(0.0), lambda x: (x + 1) / 2, line(1.0)),
        _LOSS,
    ),
    "squareplus": smooth(lambda x: (x + np.hypot(x, 2)) / 2, _squareplus_slope),
    "tanh_shrink": smooth(
        lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2, (0.0,)
    ),
    "elu": elu(),
    "celu": elu(),
    "selu": elu(1.6732632423543772, 1.0507009873554805),
    "tanh": smooth(
        np.tanh,
        lambda x: (1 - np.tanh(x)) * (1 + np.tanh(x)),
        (0.0,),
    ),
    "sigmoid": smooth(
        _logistic, lambda x: _logistic(x) * _logistic(-x), (0.0,)
    ),
    "softplus": smooth(_softplus, _logistic),
    "log_sigmoid": smooth(lambda x: -_softplus(-x), lambda x: _logistic(-x)),
    "softsign": smooth(
        lambda x: x / (1 + np.abs(x)),
        lambda x: (1 + np.abs(x)) ** -2.0,
        (0.0,),
    ),
    "silu": smooth(
        lambda x: x * _logistic(x), _silu_slope, (-_SILU_TURN, _SILU_TURN)
    ),
    "gelu": smooth(
        lambda x: x * _normal(x),
        _gelu_slope,
        (-math.sqrt(2), math.sqrt(2)),
    ),
    "gelu_tanh": smooth(
        lambda x: x / 2 * (1 + np.tanh(_ROOT * (x + _CUBIC * x**3))),
        _gelu_tanh_slope,
        (-_GELU_TANH_TURN, _GELU_TANH_TURN),
    ),
    "mish": smooth(
        lambda x: x * np.tanh(_softplus(x)), _mish_slope, _MISH_TURNS
    ),
}
CURVES["swish"], CURVES["hard_swish"] = CURVES["silu"], CURVES["hard_silu"]
