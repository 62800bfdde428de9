"""MeanTracker: the mean of the norms of a kernel's two reshapes."""

import numpy as np

from keras_sn.fast_ops import Array
from keras_sn.linear_maps.both_reshapes import BothReshapes
from keras_sn.norms.tracking import Settle
from keras_sn.norms.tracking import State
from keras_sn.norms.tracking import Tracker


class MeanTracker(Tracker):
    """Follows `(|R| + |R'|) / 2`, by a tracker for each of the two.

    The state is that of the one, then that of the other.

    Args:
        linear_map: `BothReshapes`.
        first: Tracker of `linear_map.first`.
        other: Tracker of `linear_map.other`.

    Reference:

    - [Lin et al., 2021](https://arxiv.org/abs/2009.02773)
    """

    def __init__(
        self, linear_map: BothReshapes, first: Tracker, other: Tracker
    ) -> None:
        super().__init__(linear_map)
        self.first = first
        self.other = other
        self.shapes = {
            **first.shapes,
            **{f"other_{name}": s for name, s in other.shapes.items()},
        }

    def _split(self, state: State) -> tuple[State, State]:
        count = len(self.first.shapes)
        return state[:count], state[count:]

    def _start(self, arrays: tuple[np.ndarray, ...] | None) -> State:
        return [*self.first._start(arrays), *self.other._start(arrays)]

    def belongs(self, state: State, u: Array, values: tuple) -> State:
        first, other = self._split(state)
        return [*self.first.belongs(first, u, values), *other]

    def follow(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, State]:
        first, other = self._split(state)
        one, first = self.first.follow(first, values, power_iterations)
        two, other = self.other.follow(other, values, power_iterations)
        return 0.5 * (one + two), [*first, *other]

    def along(self, state: State, values: tuple) -> Array:
        first, other = self._split(state)
        one = self.first.along(first, values)
        return 0.5 * (one + self.other.along(other, values))

    def lead(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, Settle]:
        raise NotImplementedError("No one vector has the mean of two norms.")

    def _look(
        self, state: State, values: tuple, age: Array
    ) -> tuple[Array, Array]:
        first, other = self._split(state)
        one, stale = self.first._look(first, values, age)
        two, stale_too = self.other._look(other, values, age)
        return 0.5 * (one + two), stale | stale_too

    def _recovered(self, state: State, values: tuple) -> Array:
        first, other = self._split(state)
        one = self.first._recovered(first, values)
        return 0.5 * (one + self.other._recovered(other, values))

    def _recovered_on_host(self, state: State, values: tuple) -> Array:
        first, other = self._split(state)
        one = self.first._recovered_on_host(first, values)
        return 0.5 * (one + self.other._recovered_on_host(other, values))
