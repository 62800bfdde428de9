"""Merge: what a layer does with several inputs; what broadcasting repeats."""

import math
from collections.abc import Sequence

import numpy as np

Shape = tuple[int | None, ...]


class Merge:
    """What a layer does with several inputs.

    Args:
        kind: `"sum"`: the distances of the inputs add up, as in `Add`.
            `"stack"`: their squares do, as in `Concatenate`.
        source: The formula.
        factors: A factor per input, such as the root of how often
            broadcasting repeats it. `None`: 1 each.
        weights: Of a linear combination of inputs of one shape, what each is
            multiplied by. `None`: it is something else.
        axis: Of inputs side by side, the axis along which they are.
    """

    def __init__(
        self,
        kind: str,
        source: str,
        factors: list[float] | None = None,
        weights: list[float] | None = None,
        axis: int | None = None,
    ):
        self.kind = kind
        self.source = source
        self.factors = factors
        self.weights = weights
        self.axis = axis


def repetitions(
    shapes: Sequence[Shape], output_shape: Shape | None
) -> list[float] | None:
    """For each input, the root of how often broadcasting repeats it.

    Args:
        shapes: Shapes of the inputs, batch axis first.
        output_shape: Shape of the output.

    Returns:
        List of factors, `None` if an open axis hides them.
    """
    # A constant among the inputs shows in the output alone.
    known_output = [] if output_shape is None else [tuple(output_shape)]
    ends = [*(tuple(shape) for shape in shapes), *known_output]
    if all(shape == ends[0] for shape in ends):
        return [1.0] * len(shapes)
    if output_shape is None:
        return None
    sizes = [shape[1:] for shape in ends]
    # One sample may be repeated for all of a batch.
    if len({shape[0] for shape in ends}) > 1:
        sizes = ends
    known = [[n for n in size if n is not None] for size in sizes]
    if any(len(a) < len(b) for a, b in zip(known, sizes, strict=True)):
        return None
    total = math.prod(known[-1])
    return [math.sqrt(total / math.prod(size)) for size in known[:-1]]


def scaling_norm(scale: np.ndarray, shape: Shape | None) -> float | None:
    """The norm of `x -> scale * x` for a constant that may broadcast.

    No output depends on more than one input, so it is the largest norm of
    the factors with which one input appears.

    Args:
        scale: The constant.
        shape: Shape of `x`, batch axis first; `None` if not known.

    Returns:
        The norm, rounded up; `None` if it depends on what is not known, or
        the constant reaches the batch axis.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.pieces.merge import scaling_norm
    >>> round(scaling_norm(np.array([3.0, 4.0]), (None, 2)), 6)
    4.0
    >>> round(scaling_norm(np.array([3.0, 4.0]), (None, 1)), 6)
    5.0
    """
    scale = np.abs(np.asarray(scale, "float64"))
    if scale.size == 0 or not np.all(np.isfinite(scale)):
        return None
    if scale.size > 1 or scale.ndim >= len(shape or (None,)):
        if shape is None or scale.ndim > len(shape):
            return None
        sizes = (None,) * (len(shape) - scale.ndim)
        for axis, (n, x) in enumerate(
            zip(scale.shape, shape[len(sizes) :], strict=True)
        ):
            if n == 1 or n == x:
                continue
            if x != 1 or axis + len(sizes) == 0:
                return None
            largest = scale.max()
            if largest > 0:
                squares = ((scale / largest) ** 2).sum(axis, keepdims=True)
                scale = largest * np.sqrt(squares)
    return float(scale.max() * (1 + (scale.ndim + 1) * 1e-14))
