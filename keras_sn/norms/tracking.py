"""Tracking: the norm of weights that move, from a state that follows them.

A training step turns the state towards the dominant singular vector by one
product each way. At inference one product tells the norm, and whether the
state still belongs to the weights.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import Constant
from keras_sn.fast_ops import held
from keras_sn.fast_ops import known
from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import stacked_rows
from keras_sn.fast_ops import tiny
from keras_sn.fast_ops import traces_branches
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.norms.conjugate_iteration import NOISE
from keras_sn.norms.conjugate_iteration import best_angle
from keras_sn.norms.conjugate_iteration import converged
from keras_sn.norms.conjugate_iteration import generic
from keras_sn.norms.conjugate_iteration import precision
from keras_sn.norms.conjugate_iteration import rotated
from keras_sn.norms.power_iteration import block_dot
from keras_sn.norms.power_iteration import largest
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.power_iteration import unit

# Of a generic direction, in every step: what is orthogonal to u would else
# never be found. The gradient is off by as much.
_GENERIC = 3e-6
# Of it when a search begins anew.
_GENERIC_START = 0.3
# Training steps from a fresh state until the direction of ascent has settled.
# In those other singular vectors overtake the first, of which u knows nothing,
# so inference searches.
SETTLED = 16
# Squared angle by which v may turn since the last step. A singular value is
# off by no more than about that.
_TURN = 1e-3
# The same before the first step, when only rounding turns it.
_NO_TURN = 1e-6
# Float64 where it costs nothing.
_SMALL = 2**18


class State(NamedTuple):
    """What is kept of a weight from step to step.

    Attributes:
        u: Unit probes on the output side, `linear_map.probe_shape`.
        v: Unit probes on the input side, `A^T u` of the last step.
        direction: Unit probe across `u` in which to look for a better one;
            `None` for a map of several blocks, of which each watches for the
            others.
    """

    u: Array
    v: Array
    direction: Array | None


class Tracker:
    """Follows the norm of a map.

    Args:
        linear_map: `LinearMap`.
    """

    def __init__(self, linear_map: LinearMap) -> None:
        self.linear_map = linear_map
        self._generic = Constant(generic(linear_map.probe_shape))
        # A matrix takes two probes in one product.
        self.conjugate = (
            isinstance(linear_map, MatrixMap) and linear_map.num_blocks == 1
        )

    def start(self, values: tuple | None = None) -> State:
        """The state of given weights, computed on the host.

        From fixed numbers, so it is the same on every backend, and none
        compiles for it.

        Args:
            values: The weights; `None`: as they are.

        Returns:
            `State` of arrays; in a generic direction where a block is zero or
            not finite, or the weights have no values yet.
        """
        values = self.linear_map.values() if values is None else values
        start = generic(self.linear_map.probe_shape)
        arrays = _on_host(values)
        if arrays is None:
            return self._state(start, None)
        start = start.astype(arrays[0].dtype)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            u = converged(self.linear_map, start, arrays)
        size = np.abs(u).sum(axis=1, keepdims=True)
        u = np.where(np.isfinite(size) & (size > 0), u, start)
        return self._state(u, arrays)

    def _state(self, u: np.ndarray, arrays: tuple | None) -> State:
        direction = None
        if self.conjugate:
            # Any direction across u.
            direction = np.roll(u, 1, axis=1)
            direction = direction - block_dot(u, direction) * u
            size = float(np.linalg.norm(direction))
            direction = direction / size if size > 1e-6 else 0 * u
        if arrays is None:
            return State(
                u, np.zeros(self.linear_map.input_probe_shape), direction
            )
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            v = unit(self.linear_map.block_rmatvec(u, arrays))
        return State(u, np.where(np.isfinite(v), v, 0), direction)

    def follow(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, State]:
        """A training step.

        Args:
            state: `State` of tensors.
            values: The weights in the dtype of the state, differentiable.
            power_iterations: Number of products each way.

        Returns:
            `(sigma, state)`. `sigma` is a scalar, differentiable in `values`
            with the singular vectors held constant: `d sigma = u v^T`. The
            state carries no gradient. A weight with a NaN gives a NaN
            `sigma`. Blocks that are zero or have a NaN keep their state.
        """
        step = self._conjugate_step if self.conjugate else self._power_step
        constants = tuple([held(value) for value in values])
        u = unit(state.u + _GENERIC * self._generic.tensor(state.u))
        new = State(u, state.v, state.direction)
        for _ in range(power_iterations - 1):
            _, new = step(new, constants, constants)
        norms, new = step(new, values, constants)
        kept = [
            None if fresh is None else where(norms > 0, fresh, old)
            for fresh, old in zip(new, state, strict=True)
        ]
        return largest(norms), State(*kept)

    def _power_step(self, state: State, values: tuple, constants: tuple):
        v = unit(self.linear_map.block_rmatvec(state.u, constants))
        # The product that gives u is also the one to differentiate.
        image = self.linear_map.block_matvec(v, values)
        norms, u = norms_and_directions(image)
        return norms, State(u, v, None)

    def _conjugate_step(self, state: State, values: tuple, constants: tuple):
        """The best vector in a plane, and the next plane.

        As in `conjugate_iteration`, but of weights that change: the images
        of both vectors are computed anew.
        """
        pulled = self.linear_map.block_rmatvec(
            stacked_rows(state.u, state.direction), constants
        )
        cosine, sine = _best_angle_of(pulled)
        u, moved = rotated(cosine, sine, state.u, state.direction)
        pulled, moved_pulled = rotated(cosine, sine, pulled[:1], pulled[1:])
        drift = block_dot(u, u) ** -0.5
        u, pulled = u * drift, pulled * drift
        v = unit(pulled)
        size = block_dot(v, pulled)
        moved_pulled = moved_pulled / (size + tiny(size))
        # The product that gives sigma is also the one to differentiate.
        images = self.linear_map.block_matvec(
            stacked_rows(v, moved_pulled), values
        )
        norms, _ = norms_and_directions(images[:1])
        images = held(images) / (size + tiny(size))
        residual = images[:1] - u
        # Conjugate: <direction, (1 - A A^T / sigma^2) moved> = 0.
        curved = moved - images[1:]
        curvature = block_dot(moved, curved)
        share = -block_dot(residual, curved) / where(
            curvature > 0, curvature, 1.0
        )
        direction = residual + where(curvature > 0, share, 0.0) * moved
        direction = direction - block_dot(u, direction) * u
        length = block_dot(direction, direction) ** 0.5
        # What is left at the end is rounding, and no direction.
        is_one = length > NOISE[precision(u)]
        factor = where(is_one, 1 / where(is_one, length, 1.0), 0.0)
        return norms, State(u, v, direction * factor)

    def observe(self, state: State, values: tuple, age: Array) -> Array:
        """The norm at inference: one product, unless the state is stale.

        Where the weights were replaced, or moved far since the last training
        step, the search begins anew: in an eager call on the host, in a graph
        behind a branch. (PyTorch's graphs have no branch: there the estimate
        of the product counts.)

        Args:
            state: `State` of tensors.
            values: The weights in the dtype of the state, differentiable.
            age: Scalar, training steps since the state was fresh.

        Returns:
            Scalar `sigma`, as for `follow`.
        """
        norms, turn = self._observed(state, values)
        sigma = largest(norms)
        limit = where(age < 1, 0 * turn + _NO_TURN, -1.0)
        limit = where(age < SETTLED, limit, _TURN)
        # Not `turn > limit`, which would let a NaN pass.
        stale = ~(turn <= limit)
        is_stale = known(stale)
        if is_stale is False:
            return sigma
        if is_stale:
            return self._recovered_on_host(state, values)
        if not traces_branches():
            return sigma
        return ops.cond(
            stale, lambda: self._recovered(state, values), lambda: sigma
        )

    def _observed(self, state: State, values: tuple) -> tuple[Array, Array]:
        """Norm of each block, and how far `v` has turned, a scalar."""
        if state.direction is None:
            images = self.linear_map.block_rmatvec(state.u, values)
            norms, v = norms_and_directions(images)
            apart = v - state.v
            turn = block_dot(apart, apart)
            constant = held(norms)
            near = constant >= 0.9 * max_over(constant, None)
            turn = max_over(where(near, turn, 0.0), None)
            return norms, reshaped(turn, ())
        images = self.linear_map.block_rmatvec(
            stacked_rows(state.u, state.direction), values
        )
        cosine, sine = _best_angle_of(held(images))
        best, _ = rotated(cosine, sine, images[:1], images[1:])
        norms, _ = norms_and_directions(best)
        apart = unit(held(images[:1])) - state.v
        return norms, reshaped(block_dot(apart, apart), ())

    def _recovered(self, state: State, values: tuple) -> Array:
        constants = tuple([held(value) for value in values])
        start = state.u + _GENERIC_START * self._generic.tensor(state.u)
        u = held(converged(self.linear_map, unit(start), constants))
        return self._norm_along(u, values)

    def _recovered_on_host(self, state: State, values: tuple) -> Array:
        u = ops.cast(self.start(values).u, state.u.dtype)
        return self._norm_along(u, values)

    def _norm_along(self, u: Array, values: tuple) -> Array:
        norms, _ = norms_and_directions(
            self.linear_map.block_rmatvec(u, values)
        )
        return largest(norms)


def _best_angle_of(images: Array) -> tuple[Array, Array]:
    """`best_angle` of two rows, whatever their size."""
    images = images / (max_over(abs(images), None) + tiny(images))
    first, second = images[:1], images[1:]
    return best_angle(
        block_dot(first, first),
        block_dot(first, second),
        block_dot(second, second),
    )


def _on_host(values: tuple) -> tuple[np.ndarray, ...] | None:
    """The weights as arrays; `None` while they have no values.

    Keras traces a `build` for its shapes, and initializes the variables in
    earnest afterwards.
    """
    try:
        arrays = [ops.convert_to_numpy(held(value)) for value in values]
    except (TypeError, NotImplementedError, RuntimeError):
        return None
    small = sum(array.size for array in arrays) <= _SMALL
    wide = small or keras.backend.standardize_dtype(values[0].dtype) == (
        "float64"
    )
    dtype = "float64" if wide else "float32"
    return tuple(array.astype(dtype, copy=False) for array in arrays)
