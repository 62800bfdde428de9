"""NormalizedWeight: one weight of a wrapped layer, and the state it needs."""

import functools
from collections.abc import Callable

import keras
from keras import ops

from keras_sn.circumstances import full_precision
from keras_sn.circumstances import in_one_call
from keras_sn.circumstances import known
from keras_sn.circumstances import same_for_all
from keras_sn.circumstances import traces_branches
from keras_sn.fast_ops import Array
from keras_sn.fast_ops import has_gradient
from keras_sn.fast_ops import held
from keras_sn.fast_ops import quotient_of_equals
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.weights import VariableWeight
from keras_sn.norms.host_norm import SMALLEST_NORM
from keras_sn.norms.power_iteration import largest
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.trackers import tracker_of
from keras_sn.norms.tracking import State

# By how much the norm along a converged u may fall short.
_CONVERGED = 1e-3


class NormalizedWeight:
    """The linear map of a weight, with the variables that track its norm.

    Args:
        linear_map: `LinearMap`; scaling its first weight scales the map.
        owner: The layer to add the variables to.
        suffix: Ends the names of the variables.
        gain: Whether to add a number to learn, which the weight is
            multiplied with.

    Attributes:
        variable: The variable that is normalized.
        u: The variable `vector_u`, unit probes on the output side. (The
            stock layer has it too.)
        hidden: The other variables, see `keras_sn.norms.tracking`.
        gain: The variable to learn, or `None`.
    """

    def __init__(
        self,
        linear_map: LinearMap,
        owner: keras.layers.Layer,
        suffix: str,
        gain: bool = False,
    ) -> None:
        self.linear_map = linear_map
        self.tracker = tracker_of(linear_map)
        weight = linear_map.weights[0]
        assert isinstance(weight, VariableWeight)  # `select_maps` sees to it
        self.variable = weight.variable
        wide = self.variable.dtype == "float64"
        self.dtype = "float64" if wide else "float32"
        self._start: State | None = None
        shapes = self.tracker.shapes
        last = len(shapes) - 1
        variables = [
            owner.add_weight(
                shape=shape,
                initializer=self._initializer(part, part == last),
                dtype=self.dtype,
                trainable=False,
                autocast=False,
                # Every replica computes the same from the same weights.
                aggregation="only_first_replica",
                name=name + suffix,
            )
            for part, (name, shape) in enumerate(shapes.items())
        ]
        self.u, *self.hidden = variables
        self.gain: keras.Variable | None = None
        if gain:
            self.gain = owner.add_weight(
                shape=(),
                initializer="ones",
                dtype=self.dtype,
                autocast=False,
                name="gain" + suffix,
            )

    def _initializer(self, part: int, last: bool):
        # Variables are initialized in the order of their creation, so this
        # sees the kernel also where initialization is deferred.
        def initialize(shape, dtype):
            if part == 0 or self._start is None:
                self._start = self.tracker.start()
            array = self._start[part]
            if last:
                self._start = None
            return ops.convert_to_tensor(array, dtype)

        return initialize

    @property
    def path(self) -> str:
        return self.linear_map.path

    def _state(self) -> State:
        return [variable.value for variable in (self.u, *self.hidden)]

    def _assign(self, state: State) -> None:
        for variable, value in zip((self.u, *self.hidden), state, strict=True):
            variable.assign(value)

    def factor(
        self,
        norm_bound: float | Array,
        mode: str,
        power_iterations: int | None,
        age: Array,
        due: Array | None = None,
    ) -> Array:
        """The number to scale the weight by.

        Args:
            norm_bound: The norm asked for.
            mode: `"normalize"` or `"clip"`.
            power_iterations: Steps to follow the weight by, which updates the
                state; `None`: only look.
            age: Scalar, training steps since the state was fresh.
            due: Boolean scalar, whether to follow at all or to go by the
                state as it is; `None`: always.

        Returns:
            Scalar tensor, differentiable in the weight.
        """
        values = self._values()
        with full_precision(values[0]):
            if power_iterations is None:
                sigma = self.tracker.observe(self._state(), values, age)
            elif due is not None:
                state = self._followed_if(due, values, power_iterations)
                self._assign(state)
                sigma = self.tracker.along(state, values)
            else:
                sigma, state = self.tracker.follow(
                    self._state(), values, power_iterations
                )
                self._assign(state)
        return self.factor_of(sigma, norm_bound, mode)

    def factor_of(
        self, sigma: Array, norm_bound: float | Array, mode: str
    ) -> Array:
        """The number to scale a weight of norm `sigma` by."""
        factor = normalization_factor(sigma, norm_bound, mode)
        return factor if self.gain is None else factor * self.gain.value

    def _followed_if(
        self, due: Array, values: tuple, power_iterations: int
    ) -> State:
        """The state after a step if one is due, else as it is."""
        values = tuple([held(value) for value in values])
        state = self._state()

        def follow() -> State:
            return self.tracker.follow(state, values, power_iterations)[1]

        is_due = known(due)
        if is_due is not None:
            return follow() if is_due else state
        if traces_branches():
            return ops.cond(due, follow, lambda: state)
        pairs = zip(follow(), state, strict=True)
        return [where(due, fresh, old) for fresh, old in pairs]

    def lead(
        self, power_iterations: int, due: Array | None = None
    ) -> tuple[Array, Callable[[Array, Array], None]]:
        """Follows the weight, for a layer that multiplies with it anyway.

        Returns:
            `(v, settle)`: the vector whose image has the norm, and a function
            of the norm of that image and its direction that updates the
            state. Samples that are mapped (`vmap`) share them. (`due`: as for
            `factor`.)
        """
        values = tuple([held(value) for value in self._values()])
        if due is not None:
            with full_precision(values[0]):
                state = self._followed_if(due, values, power_iterations)
            self._assign(state)
            return self.tracker.input_side(state), lambda norm, direction: None
        with full_precision(values[0]):
            v, settle = self.tracker.lead(
                self._state(), values, power_iterations
            )

        def update(norm: Array, direction: Array) -> None:
            norm, direction = same_for_all(norm), same_for_all(direction)
            self._assign(settle(norm, direction))

        return v, update

    def _values(self) -> tuple:
        return tuple(
            [ops.cast(value, self.dtype) for value in self.linear_map.values()]
        )

    def refresh(self) -> None:
        """Computes the state anew."""
        for variable, array in zip(
            (self.u, *self.hidden), self.tracker.start(), strict=True
        ):
            variable.assign(ops.cast(array, self.dtype))

    def start_from(self, u: Array) -> bool:
        """Takes another `u`, and computes what belongs to it.

        Returns:
            Whether that `u` is converged: whether it gives the norm that the
            `u` before it gave, which must belong to the weight.
        """
        before = self._norm_along_u()
        self.u.assign(u)
        values = tuple([held(value) for value in self._values()])
        self._assign(self.tracker.belongs(self._state(), self.u.value, values))
        return self._norm_along_u() >= (1 - _CONVERGED) * before

    def _norm_along_u(self) -> float:
        values = tuple([held(value) for value in self._values()])
        norms, _ = norms_and_directions(
            self.linear_map.block_rmatvec(self.u.value, values)
        )
        return float(ops.convert_to_numpy(largest(norms)))


def normalization_factor(
    sigma: Array, norm_bound: float | Array, mode: str
) -> Array:
    """The factor that takes a weight of norm `sigma` to the bound.

    A zero weight keeps a finite factor, a NaN stays a NaN.

    Args:
        sigma: Scalar tensor.
        norm_bound: The norm asked for.
        mode: `"normalize"`: to the bound; `"clip"`: at most the bound. Then
            the factor carries no gradient: with one, that of the weight would
            have no part along its top singular vectors, so that a weight
            outside of the bound could never come back.

    Returns:
        Scalar tensor, differentiable in `sigma` up to the third time.
    """
    return _factor_in_one_call(mode)(sigma, norm_bound)


@functools.cache
def _factor_in_one_call(mode: str) -> Callable[..., Array]:
    return in_one_call(functools.partial(_factor, mode))


def _factor(mode: str, sigma: Array, norm_bound: float | Array) -> Array:
    # Of a NaN no comparison is true, so it must be what is left: also behind
    # a `not`, which TensorFlow rewrites into the opposite comparison.
    sigma = where(sigma <= SMALLEST_NORM, 0 * sigma + 1.0, sigma)
    constant = held(sigma) if has_gradient(sigma) else sigma
    factor = norm_bound / constant
    if mode == "clip":
        return where(constant <= norm_bound, 0 * factor + 1.0, factor)
    if sigma is constant:
        return factor
    return factor * quotient_of_equals(constant, sigma)
