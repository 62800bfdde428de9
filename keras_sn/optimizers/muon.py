"""Muon: orthogonalised momentum for every layer with a linear map."""

import dataclasses
import re
import weakref
from typing import Any

import keras
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import held
from keras_sn.keras_access import variable_index
from keras_sn.norms.orthogonalization import STEEP
from keras_sn.norms.orthogonalization import orthogonalize
from keras_sn.norms.orthogonalization import polar_express
from keras_sn.optimizers.matrices import Matrices
from keras_sn.optimizers.matrices import matrices_of

_METHODS = ("polar_express", "newton_schulz")


@keras.saving.register_keras_serializable(package="keras_sn")
class Muon(keras.optimizers.Optimizer):
    """Orthogonalised momentum for kernels, AdamW for the other weights.

    A step of a kernel is its momentum with all singular values brought to 1:
    the steepest descent in the spectral norm. `keras.optimizers.Muon` takes
    such steps for variables with two axes, and AdamW for all others, so for
    every convolution and attention layer. An optimizer sees variables, not
    what they are for; this one is given the model, whose layers say which
    matrices a kernel holds (`keras_sn.linear_maps`): one for each group of a
    convolution, all heads of an attention kernel side by side, one for each
    batch index of an `EinsumDense`. Layers in a `SpectralNormalization` too.
    Embeddings, the scales of normalization layers and biases take AdamW.

    A step is scaled to `sqrt(outputs / inputs)` in the norm of the layer's
    own map, at most, so that features change by as much in layers of all
    widths, and one learning rate fits models of all sizes.

    The arrangement of the matrices is part of the configuration, so a
    compiled model is saved, loaded and trained on as with other optimizers.

    Args:
        learning_rate: A float, a
            `keras.optimizers.schedules.LearningRateSchedule`, or a callable:
            the norm of a step.
        model: The model to be trained. It must be built before the optimizer
            is, so before training starts.
        momentum: Decay rate of the momentum.
        nesterov: Whether a step looks ahead along the momentum.
        method: `"polar_express"`: polynomials that come nearest to 1.
            `"newton_schulz"`: those of the first Muon, between 0.7 and 1.2.
        steps: Number of polynomials.
        adamw_learning_rate_ratio: Learning rate of AdamW by that of the
            matrices.
        beta_1: Decay rate of AdamW's first moment.
        beta_2: Decay rate of its second moment.
        epsilon: Small number in its denominator.
        exclude_layers: List of regular expressions. Weights of a path that
            one is found in take AdamW.
        weight_decay: Decoupled weight decay, times the learning rate.
        name: Name of the optimizer.
        **kwargs: `clipnorm`, `use_ema`, `gradient_accumulation_steps` and so
            on, as in other Keras optimizers.

    Example:

    >>> import keras, keras_sn
    >>> import numpy as np
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, activation="relu"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(2)])
    >>> model.compile(keras_sn.optimizers.Muon(0.02, model=model), "mse")
    >>> _ = model.fit(np.ones((8, 8, 8, 1)), np.ones((8, 2)), verbose=0)

    Reference:

    - [Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/)
    - [Amsel et al., 2025](https://arxiv.org/abs/2505.16932)
    - [Yang et al., 2023](https://arxiv.org/abs/2310.17813)
    """

    def __init__(
        self,
        learning_rate: Any = 0.02,
        model: keras.Model | None = None,
        momentum: float = 0.95,
        nesterov: bool = True,
        method: str = "polar_express",
        steps: int = 5,
        adamw_learning_rate_ratio: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        exclude_layers: list[str] | None = None,
        weight_decay: float | None = 0.004,
        name: str = "muon",
        **kwargs: Any,
    ) -> None:
        arrangement = kwargs.pop("arrangement", None)
        super().__init__(
            learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        if method not in _METHODS:
            raise ValueError(
                f"`method` must be one of {list(_METHODS)}. Received: "
                f"method={method!r}"
            )
        self.momentum = momentum
        self.nesterov = nesterov
        self.method = method
        self.steps = steps
        self.adamw_learning_rate_ratio = adamw_learning_rate_ratio
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.exclude_layers = exclude_layers or []
        # The model holds the optimizer, not the other way round.
        self.find_model = (
            (lambda: None) if model is None else weakref.ref(model)
        )
        self.arrangement = _Arrangement(arrangement)

    def build(self, variables: list) -> None:
        """Creates the variables of the optimizer.

        Args:
            variables: The variables to train.

        Raises:
            ValueError: If the optimizer was not given the model, or that is
                not the model of these variables.
        """
        if self.built:
            return
        super().build(variables)
        known = self._arranged(variables)
        if known is None:
            raise ValueError(
                "`keras_sn.optimizers.Muon` learns from the model's layers "
                "which matrices its weights hold. Give it the model: "
                "`model.compile(Muon(learning_rate, model=model), ...)`."
            )
        if not any(known):
            raise ValueError(
                "None of the variables to train is a kernel of the model that "
                "`keras_sn.optimizers.Muon` was given. Received variables: "
                f"{[v.path for v in variables]}"
            )
        self.arrangement = _Arrangement(known)
        self.momentums: list[keras.Variable] = []
        self.velocities: list[keras.Variable | None] = []
        for variable, matrices in zip(variables, known, strict=True):
            self.momentums.append(
                self.add_variable_from_reference(variable, "momentum")
            )
            velocity = None
            if matrices is None:
                velocity = self.add_variable_from_reference(
                    variable, "velocity"
                )
            self.velocities.append(velocity)

    def _arranged(self, variables: list) -> list[Matrices | None] | None:
        """The matrices in each variable; `None` if nothing is known."""
        if self.arrangement.matrices is not None:
            return self.arrangement.matrices
        model = self.find_model()
        if model is None:
            return None
        known = matrices_of(model, variables)
        return [
            None if self._is_excluded(variable.path) else matrices
            for variable, matrices in zip(variables, known, strict=True)
        ]

    def _is_excluded(self, path: str) -> bool:
        return any(re.search(pattern, path) for pattern in self.exclude_layers)

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Updates a variable.

        Args:
            gradient: Its gradient.
            variable: The variable.
            learning_rate: Scalar tensor.
        """
        index = variable_index(self, variable)
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        velocity = self.velocities[index]
        if velocity is None:
            step = self._step_of_matrices(gradient, index)
        else:
            step = self._step_of_adam(gradient, index)
            rate = rate * self.adamw_learning_rate_ratio
        self.assign_sub(variable, rate * step)

    def _step_of_matrices(self, gradient: Array, index: int) -> Array:
        """The step of a kernel, by one of norm 1 for each of its matrices."""
        momentum = self.momentums[index]
        self.assign(
            momentum,
            self.momentum * momentum + (1 - self.momentum) * gradient,
        )
        direction = held(momentum.value)
        if self.nesterov:
            direction = (
                self.momentum * direction + (1 - self.momentum) * gradient
            )
        linear_map, scale = self.arrangement.maps[index]
        wide = ops.cast(direction, "float32")
        matrices = orthogonalize(
            linear_map.matrices((wide,)), self._coefficients()
        )
        step = scale * linear_map.weight_of(matrices)
        return ops.cast(step, momentum.dtype)

    def _coefficients(self) -> tuple:
        if self.method == "newton_schulz":
            return (STEEP,) * self.steps
        return polar_express(self.steps)

    def _step_of_adam(self, gradient: Array, index: int) -> Array:
        momentum, velocity = self.momentums[index], self.velocities[index]
        assert velocity is not None  # `update_step` saw it
        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        squares = gradient * gradient
        self.assign_add(velocity, (squares - velocity) * (1 - self.beta_2))
        count = ops.cast(self.iterations + 1, gradient.dtype)
        first = held(momentum.value) / (1 - self.beta_1**count)
        second = held(velocity.value) / (1 - self.beta_2**count)
        return first / (ops.sqrt(second) + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        model = self.find_model()
        known = self.arrangement.matrices
        if known is None and model is not None and model.built:
            known = self._arranged(model.trainable_variables)
        arrangement: list[dict | None] | None = None
        if known is not None:
            arrangement = [
                None if one is None else dataclasses.asdict(one)
                for one in known
            ]
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "method": self.method,
            "steps": self.steps,
            "adamw_learning_rate_ratio": self.adamw_learning_rate_ratio,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "exclude_layers": self.exclude_layers,
            "arrangement": arrangement,
        }


def _nothing() -> None:
    """Where no model was given."""


class _Arrangement:
    """The matrices in each variable, in an object that Keras does not track.

    Args:
        matrices: List of `Matrices`, or of their configurations, with `None`
            for other variables; `None` if it is not known yet.
    """

    def __init__(self, matrices: list | None) -> None:
        self.matrices: list[Matrices | None] | None = None
        if matrices is not None:
            self.matrices = [
                Matrices.of_config(one) if isinstance(one, dict) else one
                for one in matrices
            ]
        self.maps = {
            index: (one.linear_map(), one.scale)
            for index, one in enumerate(self.matrices or [])
            if one is not None
        }
