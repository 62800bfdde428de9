"""Power iteration with momentum: the dominant singular vector of each block.

`x <- A A^T x / |A A^T x| - beta previous`: what is orthogonal to the dominant
vector shrinks by `sqrt(beta)` in a step where a plain iteration leaves
`(s2 / s1)^2` of it, at the same two products.
"""

import numpy as np
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.power_iteration import block_dot
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.power_iteration import unit

# Below the 1/4 at which it would oscillate. Of the values tried (0 to 0.249),
# weights that move fast are followed best by this one.
MOMENTUM = 0.24
# By this much a dominant vector grows in a step then.
RATE = (1 + (1 - 4 * MOMENTUM) ** 0.5) / 2
_MOST_STEPS = 100
# Squared angle by which u may turn in the last step. (In TF32, products are
# off by more, and the number of steps ends the search.)
_SETTLED = {"float32": 1e-9, "float64": 1e-20}


def momentum_step(
    linear_map: LinearMap,
    u: Array,
    previous: Array,
    values: tuple,
    constants: tuple,
) -> tuple[Array, Array, Array, Array]:
    """One step, by one product each way.

    Args:
        linear_map: `LinearMap` `A`.
        u: Unit probes on the output side.
        previous: Those of one step earlier, in the scale of `u`.
        values: The weights, differentiable.
        constants: The same as constants.

    Returns:
        `(norms, u, v, previous)`: the norm of each block, `(blocks, 1)`,
        differentiable with the singular vectors held constant, and the
        vectors, which carry no gradient.
    """
    v = unit(linear_map.block_rmatvec(u, constants))
    # The product that gives u is also the one to differentiate.
    norms, ahead = norms_and_directions(linear_map.block_matvec(v, values))
    new, previous = with_momentum(ahead, u, previous)
    return norms, new, v, previous


def with_momentum(ahead: Array, u: Array, previous: Array) -> tuple:
    """The next `u`, and the one before it in its scale.

    Args:
        ahead: Unit probes, where a step without momentum leads.
        u: Where it began.
        previous: The probes one step earlier, in the scale of `u`.
    """
    ahead = ahead - MOMENTUM * previous
    scale = block_dot(ahead, ahead) ** -0.5
    return ahead * scale, u * scale


def converged(linear_map: LinearMap, u: Array, values: tuple) -> Array:
    """The dominant left singular vector of each block.

    Guarantee: an estimate. From a generic start, sigma is within 1e-4 for
    Gaussian matrices, whose largest singular values nearly agree, of 1024
    rows and columns.

    Args:
        linear_map: `LinearMap`.
        u: Where to start: unit probes, orthogonal to nothing that matters; an
            array or a tensor.
        values: The weights, arrays or tensors as `u`, as constants.

    Returns:
        Unit probes like `u`.

    Reference:

    - [De Sa et al., 2017](https://arxiv.org/abs/1707.02670)
    """
    limit = _SETTLED["float64" if "64" in str(u.dtype) else "float32"]
    one = reshaped(max_over(0 * u, None) + 1, ())

    def goes_on(u: Array, previous: Array, turn: Array, steps: Array) -> Array:
        return (turn > limit) & (steps < _MOST_STEPS)

    def step(u: Array, previous: Array, turn: Array, steps: Array) -> tuple:
        norms, new, _, previous = momentum_step(
            linear_map, u, previous, values, values
        )
        return new, previous, turned(norms, new - u), steps + 1

    state = (u, u / RATE, one, one)
    if isinstance(u, np.ndarray):
        while goes_on(*state):
            state = step(*state)
    else:
        state = ops.while_loop(goes_on, step, state)
    return state[0]


def turned(norms: Array, apart: Array) -> Array:
    """Squared angle by which the largest blocks have turned, a scalar.

    Args:
        norms: The norm of each block, `(blocks, 1)`.
        apart: Difference of two unit probes of each.
    """
    turn = block_dot(apart, apart)
    if norms.shape[0] > 1:
        near = norms >= 0.9 * max_over(norms, None)
        turn = max_over(where(near, turn, 0.0), None)
    return reshaped(turn, ())


def generic(shape: tuple) -> np.ndarray:
    """Unit probes in a direction like no other, the same on every backend."""
    return unit(np.random.default_rng(0).standard_normal(shape))
