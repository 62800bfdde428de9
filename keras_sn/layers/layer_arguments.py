"""Checks of the arguments that several layers have."""

import math
import numbers
from typing import Any

import keras


def refusal(
    layer: keras.layers.Layer, demand: str, **received: Any
) -> ValueError:
    """The error of an argument that a layer cannot take.

    Args:
        layer: The layer, which the message names.
        demand: A sentence that says what it takes.
        **received: The arguments it got.
    """
    values = ", ".join(f"{name}={value!r}" for name, value in received.items())
    return ValueError(
        f"Layer '{layer.name}' ({type(layer).__name__}): {demand} "
        f"Received: {values}"
    )


def check_norm_bound(layer: keras.layers.Layer, norm_bound: Any) -> float:
    """The bound as a float; raises `ValueError` unless it is one."""
    real = isinstance(norm_bound, numbers.Real)
    if not real or not 0 < norm_bound < math.inf:
        raise refusal(
            layer,
            "`norm_bound` must be a positive, finite number.",
            norm_bound=norm_bound,
        )
    return float(norm_bound)


def check_count(layer: keras.layers.Layer, name: str, value: Any) -> int:
    """A positive integer, or `ValueError`."""
    if not isinstance(value, numbers.Integral) or value < 1:
        demand = f"`{name}` must be a positive integer."
        raise refusal(layer, demand, **{name: value})
    return int(value)


def check_counts(
    layer: keras.layers.Layer, name: str, value: Any, rank: int
) -> tuple[int, ...]:
    """A positive integer for each of `rank` axes, or `ValueError`.

    Args:
        layer: The layer, for the message.
        name: Name of the argument.
        value: One integer for all axes, or one for each.
        rank: Number of axes.
    """
    values = (value,) * rank if isinstance(value, numbers.Integral) else value
    if (
        not isinstance(values, (list, tuple))
        or len(values) != rank
        or not all(isinstance(n, numbers.Integral) for n in values)
        or min(int(n) for n in values) < 1
    ):
        demand = f"`{name}` takes a positive integer, or a tuple of {rank}."
        raise refusal(layer, demand, **{name: value})
    return tuple(int(n) for n in values)
