"""Tracking: the norm of weights that move, from a state that follows them.

A training step turns the state towards the dominant singular vector by one
product each way. At inference one product tells the norm, and whether the
state still belongs to the weights.
"""

import abc
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_sn.circumstances import in_one_call
from keras_sn.circumstances import known
from keras_sn.circumstances import traces_branches
from keras_sn.fast_ops import Array
from keras_sn.fast_ops import Constant
from keras_sn.fast_ops import at_most
from keras_sn.fast_ops import held
from keras_sn.fast_ops import kept
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.momentum import converged
from keras_sn.norms.momentum import generic
from keras_sn.norms.power_iteration import largest
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.power_iteration import unit

# Of a generic direction, in every step: what is orthogonal to the state would
# else never be found. The gradient is off by as much.
GENERIC = 3e-6
# Of it when a search begins anew.
_GENERIC_START = 0.3
# Training steps from a fresh state until momentum has gathered.
SETTLED = 16
# The age of a state that belongs to its weights. Ages end at SETTLED.
FRESH = 1e6
# Weights up to this size are small: in float64, an exact answer is quick.
SMALL = 2**18

# What is kept of a weight from step to step; `u` first, then what belongs to
# it. Which tensors they are is the tracker's own matter.
State = Sequence[Array]
Settle = Callable[[Array, Array], State]


class Tracker(abc.ABC):
    """Follows the norm of a map.

    Args:
        linear_map: `LinearMap` `A`.

    Attributes:
        shapes: Dict of name and shape of each tensor of a state; the first is
            `vector_u`, `linear_map.probe_shape`, unit vectors on the output
            side.
    """

    shapes: dict[str, tuple[int, ...]]

    def __init__(self, linear_map: LinearMap) -> None:
        self.linear_map = linear_map
        self._generic = Constant(generic(linear_map.probe_shape))
        self._look_at_once: Callable | None = None

    def start(self, values: tuple | None = None) -> State:
        """The state of given weights, computed on the host.

        From fixed numbers, so it is the same on every backend, and none
        compiles for it.

        Args:
            values: The weights; `None`: as they are.

        Returns:
            State of arrays; in a generic direction where a block is zero or
            not finite, or the weights have no values yet.
        """
        values = self.linear_map.values() if values is None else values
        arrays = _on_host(values)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return self._start(arrays)

    def __getstate__(self) -> dict:
        # What is compiled belongs to the process, and cannot be copied.
        return {**self.__dict__, "_look_at_once": None}

    @abc.abstractmethod
    def _start(self, arrays: tuple[np.ndarray, ...] | None) -> State:
        """The state of weights on the host; `None`: of none known."""

    @abc.abstractmethod
    def belongs(self, state: State, u: Array, values: tuple) -> State:
        """The state around another `u`, of the same weights."""

    @abc.abstractmethod
    def follow(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, State]:
        """A training step.

        Args:
            state: State of tensors.
            values: The weights in the dtype of the state, differentiable.
            power_iterations: Number of products each way.

        Returns:
            `(sigma, state)`. `sigma` is a scalar, differentiable in `values`
            with the singular vectors held constant: `d sigma = u v^T`. The
            state carries no gradient. A weight with a NaN gives a NaN
            `sigma`. Blocks that are zero or have a NaN keep their state.
        """

    @abc.abstractmethod
    def lead(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, Settle]:
        """A training step by somebody who multiplies with the weights anyway.

        Args:
            state: State of tensors.
            values: The weights in the dtype of the state.
            power_iterations: Number of products each way.

        Returns:
            `(v, settle)`: unit vectors on the input side, of which `sigma` is
            the norm of the image, and a function from the norm of that image
            and its direction to the new state.
        """

    @abc.abstractmethod
    def _look(
        self, state: State, values: tuple, age: Array
    ) -> tuple[Array, Array]:
        """`(sigma, stale)`, by one product with the weights."""

    def observe(self, state: State, values: tuple, age: Array) -> Array:
        """The norm at inference: one product, unless the state is stale.

        Where the weights were replaced, or moved far since the last training
        step, the search begins anew: in an eager call on the host, in a graph
        behind a branch. (PyTorch's graphs have no branch: there the estimate
        of the product counts.)

        Args:
            state: State of tensors.
            values: The weights in the dtype of the state, differentiable.
            age: Scalar, training steps since the state was fresh, or `FRESH`.

        Returns:
            Scalar `sigma`, as for `follow`.
        """
        if self._look_at_once is None:
            self._look_at_once = in_one_call(self._look)
        sigma, stale = self._look_at_once(tuple(state), values, age)
        is_stale = known(stale)
        if is_stale:
            return self._recovered_on_host(state, values)
        if is_stale is False or not traces_branches():
            return sigma
        return ops.cond(
            stale, lambda: self._recovered(state, values), lambda: sigma
        )

    def input_side(self, state: State) -> Array:
        """The unit vectors on the input side that a state holds."""
        return state[list(self.shapes).index("vector_v")]

    def along(self, state: State, values: tuple) -> Array:
        """The norm of what the weights make of those vectors, as `follow`."""
        v = kept(self.input_side(state))
        image = self.linear_map.block_matvec(v, values)
        return largest(norms_and_directions(image)[0])

    def _recovered(self, state: State, values: tuple) -> Array:
        constants = tuple([held(value) for value in values])
        start = state[0] + _GENERIC_START * self._generic.tensor(state[0])
        u = held(converged(self.linear_map, unit(start), constants))
        return self._norm_along(u, values)

    def _recovered_on_host(self, state: State, values: tuple) -> Array:
        u = ops.cast(self.start(values)[0], state[0].dtype)
        return self._norm_along(u, values)

    def _norm_along(self, u: Array, values: tuple) -> Array:
        norms, _ = norms_and_directions(
            self.linear_map.block_rmatvec(u, values)
        )
        return largest(norms)


def older(age: Array) -> Array:
    """The age after a training step."""
    return at_most(age % FRESH + 1, SETTLED)


def _on_host(values: tuple) -> tuple[np.ndarray, ...] | None:
    """The weights as arrays; `None` while they have no values.

    Keras traces a `build` for its shapes, and initializes the variables in
    earnest afterwards.
    """
    try:
        arrays = [ops.convert_to_numpy(held(value)) for value in values]
    except (TypeError, NotImplementedError):
        return None
    small = sum(array.size for array in arrays) <= SMALL
    wide = small or keras.backend.standardize_dtype(values[0].dtype) == (
        "float64"
    )
    dtype = "float64" if wide else "float32"
    return tuple(array.astype(dtype, copy=False) for array in arrays)
