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
from keras_sn.fast_ops import traces_branches
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.momentum import RATE
from keras_sn.norms.momentum import converged
from keras_sn.norms.momentum import generic
from keras_sn.norms.momentum import momentum_step
from keras_sn.norms.power_iteration import block_dot
from keras_sn.norms.power_iteration import largest
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.power_iteration import unit

# Of a generic direction, in every step: what is orthogonal to u would else
# never be found. The gradient is off by as much.
_GENERIC = 3e-6
# Of it when a search begins anew.
_GENERIC_START = 0.3
# Training steps from a fresh state until momentum has gathered. In those other
# singular vectors overtake the first, of which u knows nothing, so inference
# searches.
SETTLED = 16
# The age of a state that belongs to its weights. Ages end at SETTLED.
FRESH = 1e6
# Squared angle by which v may turn from the last training step on. A singular
# value is off by no more than about that.
_TURN = 2e-3
# Weights up to this size are started from exactly, in float64.
_SMALL = 2**18


class State(NamedTuple):
    """What is kept of a weight from step to step.

    Attributes:
        u: Unit probes on the output side, `linear_map.probe_shape`.
        v: Unit probes on the input side, `A^T u` of the last step.
        previous: The `u` of one step earlier, in the scale of this one.
    """

    u: Array
    v: Array
    previous: Array


class Tracker:
    """Follows the norm of a map.

    Args:
        linear_map: `LinearMap` `A`.
    """

    def __init__(self, linear_map: LinearMap) -> None:
        self.linear_map = linear_map
        self._generic = Constant(generic(linear_map.probe_shape))

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
            v = np.zeros(self.linear_map.input_probe_shape)
            return State(start, v, start / RATE)
        start = start.astype(arrays[0].dtype)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            u = self._dominant(start, arrays)
            size = np.abs(u).sum(axis=1, keepdims=True)
            u = np.where(np.isfinite(size) & (size > 0), u, start)
            v = unit(self.linear_map.block_rmatvec(u, arrays))
        return State(u, np.where(np.isfinite(v), v, 0), u / RATE)

    def _dominant(self, start: np.ndarray, arrays: tuple) -> np.ndarray:
        """Probes along the dominant vector of each block; zero for none."""
        if arrays[0].dtype == "float32":
            return converged(self.linear_map, start, arrays)
        # So small that the exact answer costs nothing. No iteration finds it
        # where singular values nearly agree, as those of an orthogonal kernel.
        blocks = self.linear_map.blocks(values=arrays)
        if not np.isfinite(blocks).all():
            return 0 * start
        _, norms, adjoint = np.linalg.svd(blocks, full_matrices=False)
        u = np.where(norms[:, :1] > 0, adjoint[:, 0], 0)
        if np.iscomplexobj(u):
            u = np.concatenate([u.real, u.imag], axis=1)
        return u

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
        constants = tuple([held(value) for value in values])
        u = unit(state.u + _GENERIC * self._generic.tensor(state.u))
        new = State(u, state.v, state.previous)
        for _ in range(power_iterations - 1):
            _, new = self._step(new, constants, constants)
        norms, new = self._step(new, values, constants)
        kept = [
            where(norms > 0, fresh, old)
            for fresh, old in zip(new, state, strict=True)
        ]
        return largest(norms), State(*kept)

    def _step(self, state: State, values: tuple, constants: tuple):
        norms, *vectors = momentum_step(
            self.linear_map, state.u, state.previous, values, constants
        )
        return norms, State(*vectors)

    def observe(self, state: State, values: tuple, age: Array) -> Array:
        """The norm at inference: one product, unless the state is stale.

        Where the weights were replaced, or moved far since the last training
        step, the search begins anew: in an eager call on the host, in a graph
        behind a branch. (PyTorch's graphs have no branch: there the estimate
        of the product counts.)

        Args:
            state: `State` of tensors.
            values: The weights in the dtype of the state, differentiable.
            age: Scalar, training steps since the state was fresh, or `FRESH`.

        Returns:
            Scalar `sigma`, as for `follow`.
        """
        images = self.linear_map.block_rmatvec(state.u, values)
        norms, v = norms_and_directions(images)
        sigma = largest(norms)
        stale = self._stale(state, held(norms), v, age)
        is_stale = known(stale)
        if is_stale:
            return self._recovered_on_host(state, values)
        if is_stale is False or not traces_branches():
            return sigma
        return ops.cond(
            stale, lambda: self._recovered(state, values), lambda: sigma
        )

    def _stale(self, state: State, norms: Array, v: Array, age: Array) -> Array:
        """Whether the `v` of a block that may be the largest has turned."""
        apart = v - state.v
        turn = block_dot(apart, apart)
        if norms.shape[0] > 1:
            near = norms >= 0.9 * max_over(norms, None)
            turn = max_over(where(near, turn, 0.0), None)
        # A NaN is in the norm already.
        return (reshaped(turn, ()) > _TURN) | (age < SETTLED)

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


def older(age: Array) -> Array:
    """The age after a training step."""
    return where(age < SETTLED, age, where(age < FRESH, age - 1, 0 * age)) + 1


def _on_host(values: tuple) -> tuple[np.ndarray, ...] | None:
    """The weights as arrays; `None` while they have no values.

    Keras traces a `build` for its shapes, and initializes the variables in
    earnest afterwards.
    """
    try:
        arrays = [ops.convert_to_numpy(held(value)) for value in values]
    except (TypeError, NotImplementedError):
        return None
    small = sum(array.size for array in arrays) <= _SMALL
    wide = small or keras.backend.standardize_dtype(values[0].dtype) == (
        "float64"
    )
    dtype = "float64" if wide else "float32"
    return tuple(array.astype(dtype, copy=False) for array in arrays)
