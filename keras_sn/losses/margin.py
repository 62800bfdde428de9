"""LipschitzMarginCrossentropy: trains for a certified margin."""

import math
from typing import Any

import keras
from keras import ops

from keras_sn.losses.labels import binary
from keras_sn.losses.labels import one_hot


@keras.saving.register_keras_serializable(package="keras_sn")
class LipschitzMarginCrossentropy(keras.losses.Loss):
    """Crossentropy of logits after the worst shift within a radius.

    A network with Lipschitz constant `L` can change a difference of two
    logits by no more than `sqrt(2) L radius` when its input moves by
    `radius`. So that much is added to every logit but the true one (Lipschitz
    margin training), and what is minimised is an upper bound of the
    crossentropy at the worst input in the ball. With a `temperature` the
    loss is `t * crossentropy(logits / t)`, which weighs margins against
    fit.

    Args:
        radius: Radius in the l2 norm to train for.
        lipschitz: The constant of the network, for one that is held to it by
            normalization.
        temperature: Positive number; smaller ones concentrate on samples
            that are not certified yet.
        reduction: As in other Keras losses.
        name: Name of the loss.
        dtype: As in other Keras losses.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`, or one-hot
            `(batch, classes)`. Labels 0 and 1 if there is one logit.
        y_pred: Logits `(batch, classes)`, or one logit `(batch, 1)` for two
            classes, which moves by no more than `L radius`.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import LipschitzMarginCrossentropy
    >>> loss = LipschitzMarginCrossentropy(radius=0.5, lipschitz=1.0)
    >>> logits = np.array([[2.0, 0.0], [0.5, 0.0]], "float32")
    >>> round(float(loss(np.array([0, 0]), logits)), 4)
    0.5223

    Reference:

    - [Tsuzuku et al., 2018](https://arxiv.org/abs/1802.04034)
    - [Prach & Lampert, 2022](https://arxiv.org/abs/2208.03160)
    """

    def __init__(
        self,
        radius: float = 0.5,
        lipschitz: float = 1.0,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "lipschitz_margin_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if radius < 0 or lipschitz < 0 or not temperature > 0:
            raise ValueError(
                "`radius` and `lipschitz` must not be negative and "
                f"`temperature` must be positive. Received: radius={radius}, "
                f"lipschitz={lipschitz}, temperature={temperature}"
            )
        self.radius = radius
        self.lipschitz = lipschitz
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        if y_pred.shape[-1] == 1:
            return self._of_one_logit(y_true, y_pred)
        y_true = one_hot(y_true, y_pred)
        shift = math.sqrt(2) * self.lipschitz * self.radius
        logits = (y_pred + shift * (1 - y_true)) / self.temperature
        return self.temperature * ops.categorical_crossentropy(
            y_true, logits, from_logits=True
        )

    def _of_one_logit(self, y_true: Any, y_pred: Any) -> Any:
        """The crossentropy of both classes, at the worst of each."""
        y_true, logit = binary(y_true, y_pred)
        shift = self.lipschitz * self.radius
        t = self.temperature
        if_one = ops.softplus((shift - logit) / t)
        if_zero = ops.softplus((shift + logit) / t)
        return t * (y_true * if_one + (1 - y_true) * if_zero)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "radius": self.radius,
            "lipschitz": self.lipschitz,
            "temperature": self.temperature,
        }
