"""VectorTracker: one vector for each block, with momentum."""

import numpy as np

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import held
from keras_sn.fast_ops import kept
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.momentum import RATE
from keras_sn.norms.momentum import converged
from keras_sn.norms.momentum import generic
from keras_sn.norms.momentum import momentum_step
from keras_sn.norms.momentum import turned
from keras_sn.norms.momentum import with_momentum
from keras_sn.norms.power_iteration import largest
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.power_iteration import unit
from keras_sn.norms.tracking import GENERIC
from keras_sn.norms.tracking import SETTLED
from keras_sn.norms.tracking import Settle
from keras_sn.norms.tracking import State
from keras_sn.norms.tracking import Tracker

# Squared angle by which v may turn from the last training step on. A singular
# value is off by no more than about that.
_TURN = 2e-3


class VectorTracker(Tracker):
    """Follows the norm of a map by one vector for each block.

    The state is `u`, the unit probes on the output side; `v = A^T u` of the
    last step; and the `u` of one step earlier, in the scale of this one.

    Args:
        linear_map: `LinearMap` `A`.
    """

    def __init__(self, linear_map: LinearMap) -> None:
        super().__init__(linear_map)
        self.shapes = {
            "vector_u": linear_map.probe_shape,
            "vector_v": linear_map.input_probe_shape,
            "previous_u": linear_map.probe_shape,
        }

    def _start(self, arrays: tuple[np.ndarray, ...] | None) -> State:
        start = generic(self.linear_map.probe_shape)
        if arrays is None:
            v = np.zeros(self.linear_map.input_probe_shape)
            return start, v, start / RATE
        start = start.astype(arrays[0].dtype)
        u = self._dominant(start, arrays)
        size = np.abs(u).sum(axis=1, keepdims=True)
        u = np.where(np.isfinite(size) & (size > 0), u, start)
        v = unit(self.linear_map.block_rmatvec(u, arrays))
        return u, np.where(np.isfinite(v), v, 0), u / RATE

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

    def belongs(self, state: State, u: Array, values: tuple) -> State:
        pulled = self.linear_map.block_rmatvec(u, values)
        return u, unit(pulled), u / RATE

    def follow(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, State]:
        v, settle = self.lead(state, values, power_iterations)
        # The product that gives u is also the one to differentiate.
        image = self.linear_map.block_matvec(v, values)
        norms, direction = norms_and_directions(image)
        return largest(norms), settle(held(norms), direction)

    def lead(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, Settle]:
        constants = tuple([held(value) for value in values])
        u, _, previous = state
        u = unit(u + GENERIC * self._generic.tensor(u))
        for _ in range(power_iterations - 1):
            _, u, _, previous = momentum_step(
                self.linear_map, u, previous, constants, constants
            )
        v = unit(self.linear_map.block_rmatvec(u, constants))

        def settle(norms: Array, direction: Array) -> State:
            new, before = with_momentum(direction, u, previous)
            return [
                where(norms > 0, fresh, old)
                for fresh, old in zip((new, v, before), state, strict=True)
            ]

        return v, settle

    def _look(
        self, state: State, values: tuple, age: Array
    ) -> tuple[Array, Array]:
        u, v_before, _ = state
        norms, v = norms_and_directions(
            self.linear_map.block_rmatvec(kept(u), values)
        )
        # While momentum gathers, other singular vectors overtake the first, of
        # which u knows nothing. (A NaN is in the norm already.)
        stale = turned(held(norms), v - v_before) > _TURN
        return largest(norms), stale | (age < SETTLED)
