"""Checks of the arguments that several layers have."""

import math
import numbers
from typing import Any


def check_norm_bound(norm_bound: Any) -> float:
    """The bound as a float; raises `ValueError` unless it is one."""
    real = isinstance(norm_bound, numbers.Real)
    if not real or not 0 < norm_bound < math.inf:
        raise ValueError(
            "`norm_bound` must be a positive, finite number. Received: "
            f"norm_bound={norm_bound!r}"
        )
    return float(norm_bound)


def check_count(name: str, value: Any) -> int:
    """A positive integer, or `ValueError`."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}"
        )
    return int(value)


def check_counts(name: str, value: Any, rank: int) -> tuple[int, ...]:
    """A positive integer for each of `rank` axes, or `ValueError`.

    Args:
        name: Name of the argument, for the message.
        value: One integer for all axes, or one for each.
        rank: Number of axes.
    """
    values = (value,) * rank if isinstance(value, numbers.Integral) else value
    if (
        not isinstance(values, (list, tuple))
        or len(values) != rank
        or not all(isinstance(n, int) and n > 0 for n in values)
    ):
        raise ValueError(
            f"`{name}` takes a positive integer, or a tuple of {rank}. "
            f"Received: {name}={value!r}"
        )
    return tuple(int(n) for n in values)
