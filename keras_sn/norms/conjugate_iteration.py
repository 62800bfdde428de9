"""Conjugate iteration: the dominant singular vector of each block, to the end.

Locally optimal as LOBPCG is: each step takes the best vector in the span of
the last one and of a direction, which is the residual made conjugate to the
direction before. It needs the same two products as a power iteration and gets
in twenty steps where that gets in thousands.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import tiny
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.power_iteration import block_dot
from keras_sn.norms.power_iteration import unit

MOST_STEPS = 60
# Fewer steps may see a plateau: the start is far from every singular vector.
_LEAST_STEPS = 6
# Largest relative growth of sigma in a step that ends the iteration. Products
# in TF32 are off by 5e-4 in each entry, which moves their norm by less.
_GROWTH = {"float32": 1e-5, "float64": 1e-11}
# Largest residual that is rounding, relative to sigma^2.
NOISE = {"float32": 1e-5, "float64": 1e-13}


class _Search(NamedTuple):
    """Unit probes `u`, a unit direction across, and `A^T` of both."""

    u: Array
    direction: Array
    pulled: Array
    pulled_direction: Array
    norms: Array
    growth: Array
    steps: Array


def converged(linear_map: LinearMap, u: Array, values: tuple) -> Array:
    """The dominant left singular vector of each block.

    Guarantee: an estimate. From a generic start, sigma is within 1e-4 for
    random matrices of any size, whose largest singular values nearly agree.

    Args:
        linear_map: `LinearMap` `A`.
        u: Where to start, unit probes `(blocks, n)` in a direction that is
            orthogonal to none that matters; an array or a tensor.
        values: The weights, arrays or tensors as `u`, as constants.

    Returns:
        Unit probes like `u`.

    Reference:

    - [Knyazev, 2001](https://doi.org/10.1137/S1064827500366124)
    """
    # Squares of entries such as 1e30 and 1e-30 must stay within the dtype.
    scale = 1 / (
        max_over(abs(linear_map.block_rmatvec(u, values)), -1) + tiny(u)
    )

    def pull(probes: Array) -> Array:
        return linear_map.block_rmatvec(probes, values) * scale

    def push(probes: Array) -> Array:
        return linear_map.block_matvec(probes, values) * scale

    pulled = pull(u)
    norms = block_dot(pulled, pulled) ** 0.5
    nothing = 0 * u
    start = _Search(
        u,
        nothing,
        pulled,
        0 * pulled,
        norms,
        0 * max_over(norms, None) + 1,
        0 * max_over(norms, None),
    )
    limit = _GROWTH[precision(u)]

    def goes_on(*search: Array) -> Array:
        growth, steps = search[-2], search[-1]
        more = (growth > limit) | (steps < _LEAST_STEPS)
        return (more & (steps < MOST_STEPS))[0, 0]

    def step(*search: Array) -> tuple:
        return tuple(_step(_Search(*search), pull, push))

    search = tuple(start)
    if isinstance(u, np.ndarray):
        with np.errstate(invalid="ignore", over="ignore"):
            while goes_on(*search):
                search = step(*search)
    else:
        search = ops.while_loop(goes_on, step, search)
    return search[0]


def _step(search: _Search, pull, push) -> _Search:
    u, direction, pulled, across, norms, _, steps = search
    cosine, sine = best_angle(
        block_dot(pulled, pulled),
        block_dot(pulled, across),
        block_dot(across, across),
    )
    u, moved = rotated(cosine, sine, u, direction)
    pulled, moved_pulled = rotated(cosine, sine, pulled, across)
    drift = block_dot(u, u) ** -0.5
    u, pulled = u * drift, pulled * drift
    square = block_dot(pulled, pulled)
    residual = push(pulled) - square * u
    residual_pulled = pull(residual)
    # Conjugate: <direction, (sigma^2 - A A^T) moved> = 0.
    overlap = square * block_dot(residual, moved)
    overlap = overlap - block_dot(residual_pulled, moved_pulled)
    curvature = square * block_dot(moved, moved)
    curvature = curvature - block_dot(moved_pulled, moved_pulled)
    share = -overlap / where(curvature > 0, curvature, 1.0)
    share = where(curvature > 0, share, 0.0)
    direction = residual + share * moved
    across = residual_pulled + share * moved_pulled
    # What is left at the end is rounding, and no direction.
    noise = NOISE[precision(u)] * square
    direction, across = _across(u, pulled, direction, across, noise)
    top = square**0.5
    growth = max_over((top - norms) / (max_over(top, None) + tiny(top)), None)
    return _Search(u, direction, pulled, across, top, growth, steps + 1)


def best_angle(first: Array, mixed: Array, second: Array):
    """Cosine and sine of the combination of two vectors of largest norm.

    Args:
        first: Square of the norm of the image of the first.
        mixed: Inner product of the images.
        second: Square of the norm of the image of the second.
    """
    spread, twice = first - second, 2 * mixed
    length = (spread * spread + twice * twice) ** 0.5
    # Of the two forms of the half angle, the one that does not cancel.
    down = where(spread > 0, length + spread, length - spread)
    down = where(down > 0, down, 1.0)
    slope = twice / down
    near = (1 + slope * slope) ** -0.5
    far = slope * near
    sign = where(twice < 0, 0 * far - 1, 0 * far + 1)
    cosine = where(spread < 0, sign * far, near)
    sine = where(spread < 0, sign * near, far)
    return cosine, sine


def rotated(cosine: Array, sine: Array, first: Array, second: Array):
    """Two vectors turned towards one another, and what is left across."""
    return cosine * first + sine * second, cosine * second - sine * first


def _across(
    u: Array, pulled: Array, direction: Array, across: Array, noise: Array
):
    """The part of a direction across `u`, of norm one, and its image.

    Zero where it is below the noise.
    """
    overlap = block_dot(u, direction)
    direction = direction - overlap * u
    across = across - overlap * pulled
    norm = block_dot(direction, direction) ** 0.5
    factor = where(norm > noise, 1 / where(norm > noise, norm, 1.0), 0.0)
    return direction * factor, across * factor


def precision(array: Array) -> str:
    return "float64" if "64" in str(array.dtype) else "float32"


def generic(shape: tuple) -> np.ndarray:
    """Unit probes in a direction like no other, the same on every backend."""
    rows = np.random.default_rng(0).standard_normal(shape)
    return unit(rows)
