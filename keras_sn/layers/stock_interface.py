"""What programs and files of the stock layer rely on: names, order, state."""

from typing import Any

import keras
import numpy as np

from keras_sn.layers.normalized_weight import NormalizedWeight
from keras_sn.linear_maps.weights import unique_keys
from keras_sn.norms.tracking import FRESH


class StockInterface(keras.layers.Wrapper):
    """Attributes, the order of weights, and weight files of the stock layer."""

    _normalized: list[NormalizedWeight]
    _age: keras.Variable
    # Only of a wrapper that has a schedule, or doesn't update in every call.
    _calls: keras.Variable | None = None

    @property
    def vector_u(self) -> keras.Variable:
        """The state `u` of the normalized weight, if there is just one."""
        return self._only("vectors_u").u

    @property
    def vectors_u(self) -> dict[str, keras.Variable]:
        """Dict `{path of the weight: u}`."""
        keys = unique_keys(weight.path for weight in self._normalized)
        variables = [weight.u for weight in self._normalized]
        return dict(zip(keys, variables, strict=True))

    @property
    def gains(self) -> dict[str, keras.Variable]:
        """Dict `{path of the weight: its gain}`, empty without `gain`."""
        learned = [w for w in self._normalized if w.gain is not None]
        keys = unique_keys(weight.path for weight in learned)
        return dict(zip(keys, [w.gain for w in learned], strict=True))

    @property
    def kernel(self) -> keras.Variable:
        """The normalized weight as it is stored, if there is just one."""
        return self._only("layer").variable

    @property
    def kernel_shape(self) -> tuple:
        """The shape of `kernel`."""
        return tuple(self.kernel.shape)

    def _only(self, instead: str) -> NormalizedWeight:
        if len(self._normalized) != 1:
            raise AttributeError(
                f"Layer '{self.name}' normalizes {len(self._normalized)} "
                f"weights; see `{instead}`."
            )
        return self._normalized[0]

    @property
    def weights(self) -> list[keras.Variable]:
        """The variables in the order of the stock layer: kernel, u, others.

        Not those of the state that follow from the others; they are among
        `variables`, and saved.
        """
        state = {id(v) for v in self.state_variables()}
        weights = [v for v in super().weights if id(v) not in state]
        kernels = {id(weight.variable) for weight in self._normalized}
        first = next((i for i, v in enumerate(weights) if id(v) in kernels), 0)
        vectors = [weight.u for weight in self._normalized]
        # Trainable variables keep their order, which optimizers rely on.
        return [*weights[: first + 1], *vectors, *weights[first + 1 :]]

    def state_variables(self) -> list[keras.Variable]:
        """All variables of the wrapper's own state, `u` among them."""
        if not self._normalized:
            return []
        variables = [
            v for weight in self._normalized for v in (weight.u, *weight.hidden)
        ]
        counters = [self._age, self._calls]
        return [*variables, *[v for v in counters if v is not None]]

    def load_own_variables(self, store: Any) -> None:
        if _is_stock(store):
            weight = self._only("layer")
            weight.variable.assign(store["0"])
            weight.refresh()
            self._age.assign(FRESH)
            self.take_vector_u(np.asarray(store["1"][...]))
        else:
            super().load_own_variables(store)

    def take_vector_u(self, vector_u: np.ndarray) -> None:
        """Takes the `vector_u` of a stock layer with the same kernel.

        Where its power iteration has not converged, inference searches, as
        after the first steps of training. Where the two layers normalize
        different matrices (groups, depthwise), nothing changes.
        """
        weight = self._only("vectors_u")
        if tuple(vector_u.shape) != tuple(weight.u.shape):
            return
        converged = weight.start_from(vector_u)
        self._age.assign(FRESH if converged else 0.0)


def _is_stock(store: Any) -> bool:
    """Whether what was saved is the state of the stock wrapper.

    It stores the kernel next to its `vector_u`; ours, at least three.
    """
    return len(store.keys()) == 2
