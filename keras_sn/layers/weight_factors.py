"""WeightFactors: the numbers that a wrapper scales its weights by."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import where
from keras_sn.layers.norm_bounds import NormBound
from keras_sn.layers.norm_bounds import bound_now
from keras_sn.layers.norm_bounds import is_scheduled
from keras_sn.layers.normalized_weight import NormalizedWeight
from keras_sn.layers.stock_interface import StockInterface
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.tracking import FRESH
from keras_sn.norms.tracking import older


class WeightFactors(StockInterface):
    """The state of a wrapper, and what follows from it: a factor per weight.

    Attributes:
        power_iterations, norm_bound, mode, gain, update_every: Arguments of
            `SpectralNormalization`.
    """

    power_iterations: int
    norm_bound: NormBound
    mode: str
    gain: bool
    update_every: int

    def _add_state(self, maps: list[LinearMap]) -> None:
        """The variables, for the maps whose weights are normalized."""
        self._normalized = [
            NormalizedWeight(
                linear_map, self, self._suffix(linear_map, maps), self.gain
            )
            for linear_map in maps
        ]
        # Training steps since the state was fresh.
        self._age = self._counter(FRESH, "float32", "age")
        if self.update_every > 1 or is_scheduled(self.norm_bound):
            self._calls = self._counter(0, "int32", "training_calls")

    def _counter(self, start: float, dtype: str, name: str) -> keras.Variable:
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(start),
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def _suffix(self, linear_map: LinearMap, maps: list[LinearMap]) -> str:
        if len(maps) == 1:
            return ""
        path = linear_map.path.removeprefix(self.layer.path or "")
        return "_" + path.strip("/").replace("/", "_")

    def _follows(self, training: bool | None) -> bool:
        """Whether a call updates the state; a frozen wrapper's never does."""
        return bool(training) and self.trainable

    def _step(self) -> Array | None:
        """Training calls until the last update; `None`: nobody asks."""
        if self._calls is None:
            return None
        calls = self._calls.value
        return calls - calls % self.update_every

    def _due(self) -> Array | None:
        """Whether the next training call updates the state.

        Returns:
            Boolean scalar; `None`: every call does.
        """
        if self._calls is None or self.update_every == 1:
            return None
        return self._calls.value % self.update_every == 0

    def _count(self, due: Array | None) -> None:
        """Counts a training call."""
        if self._calls is not None:
            self._calls.assign(self._calls.value + 1)
        age = self._age.value
        grown = older(age)
        self._age.assign(grown if due is None else where(due, grown, age))

    def _bound_of(self, weight: NormalizedWeight, step: Array | None) -> Any:
        return bound_now(self.norm_bound, weight.linear_map, step, weight.dtype)

    def _lead(self) -> tuple[Array, Callable, Callable]:
        """A training call of a layer that multiplies with its only weight.

        Returns:
            `(v, settle, factor_of)`, see `RiddenProduct`.
        """
        (weight,) = self._normalized
        bound = self._bound_of(weight, self._step())
        due = self._due()
        self._count(due)
        v, settle = weight.lead(self.power_iterations, due)

        def factor_of(sigma: Array) -> Array:
            return weight.factor_of(sigma, bound, self.mode)

        return v, settle, factor_of

    def _factors(self, training: bool | None) -> list:
        """The factor of each weight; follows the weights in training."""
        age, step = self._age.value, self._step()
        follows = self._follows(training)
        due = self._due() if follows else None
        factors = [
            weight.factor(
                self._bound_of(weight, step),
                self.mode,
                self.power_iterations if follows else None,
                age,
                due,
            )
            for weight in self._normalized
        ]
        if follows:
            self._count(due)
        return factors

    def bound_and_gain(self, variable: keras.Variable) -> tuple[float, float]:
        """The bound of a normalized weight at present, and its gain.

        The norm that is applied is at most the bound times `abs(gain)`.

        Args:
            variable: The weight.

        Returns:
            Two floats, the gain 1.0 where none is learned.
        """
        (weight,) = (w for w in self._normalized if w.variable is variable)
        bound = self._bound_of(weight, self._step())
        gain = 1.0 if weight.gain is None else _number(weight.gain)
        return _number(bound), gain


def _number(value: Any) -> float:
    return float(np.asarray(ops.convert_to_numpy(value), "float64"))
