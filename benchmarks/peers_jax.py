"""A model of pure functions on JAX, as Flax and Equinox give it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.subjects import Subject

RATE = 1e-4
# (parameters, state, inputs, training) -> (outputs, state)
Apply = Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]


class JaxSubject(Subject):
    """A model without Keras.

    Args:
        name: Which variant it is.
        base: The plain variant of the same framework.
        apply: The model.
        parameters: What is trained.
        state: What else the model carries from step to step.
        inputs: The batch.
    """

    def __init__(
        self,
        name: str,
        base: str,
        apply: Apply,
        parameters: Any,
        state: Any,
        inputs: jax.Array,
    ) -> None:
        super().__init__(name, base)
        self.parameters = parameters
        self.state = state
        self.inputs = inputs

        def outputs(parameters, state, inputs):
            return apply(parameters, state, inputs, False)[0]

        def step(parameters, state, inputs, targets):
            def loss(parameters):
                found, updated = apply(parameters, state, inputs, True)
                return jnp.mean((found - targets) ** 2), updated

            (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(
                parameters
            )
            moved = jax.tree.map(
                lambda p, g: p - RATE * g, parameters, gradient
            )
            return value, moved, updated

        self._outputs = outputs
        self._predict = jax.jit(outputs)
        # Given away, as Keras does.
        self._step = jax.jit(step, donate_argnums=(0, 1))
        shape = outputs(parameters, state, inputs).shape
        self.targets = jax.random.normal(jax.random.key(1), shape)

    def train(self) -> None:
        loss, self.parameters, self.state = self._step(
            self.parameters, self.state, self.inputs, self.targets
        )
        float(loss)

    def predict(self) -> None:
        np.asarray(self._predict(self.parameters, self.state, self.inputs))

    def call(self) -> None:
        np.asarray(self._outputs(self.parameters, self.state, self.inputs))

    def reload(self) -> None:
        """What is saved and loaded are the arrays: nothing changes."""
