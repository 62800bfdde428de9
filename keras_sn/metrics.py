"""Metrics of certified robustness, and of the distance of two classes."""

import math
from typing import Any

import keras
from keras import ops

from keras_sn.losses.labels import binary
from keras_sn.losses.labels import class_weights
from keras_sn.losses.labels import one_hot


@keras.saving.register_keras_serializable(package="keras_sn")
class CertifiedAccuracy(keras.metrics.Mean):
    """Share of samples that are right, and stay so within a radius.

    A sample counts if its true logit exceeds every other one by more than
    `sqrt(2) lipschitz radius`: then no input within `radius` in the l2 norm
    changes the prediction, if `lipschitz` bounds the constant of the network
    from its inputs to its logits. `keras_sn.lipschitz.certified_radius` gives
    the tighter radius of single samples, from a bound for each pair of
    classes.

    Of one logit for two classes, its sign has to be right by more than
    `lipschitz radius`.

    Args:
        radius: Radius in the l2 norm.
        lipschitz: Upper bound of the Lipschitz constant of the network, for
            instance `lipschitz_bound(model).upper` or the budget it is held
            to.
        name: Name of the metric.
        dtype: As in other Keras metrics.

    Example:

    >>> import numpy as np
    >>> from keras_sn.metrics import CertifiedAccuracy
    >>> metric = CertifiedAccuracy(radius=0.5, lipschitz=1.0)
    >>> logits = np.array([[2.0, 0.0], [0.5, 0.0]], "float32")
    >>> metric.update_state(np.array([0, 0]), logits)
    >>> float(metric.result())
    0.5

    Reference:

    - [Tsuzuku et al., 2018](https://arxiv.org/abs/1802.04034)
    """

    def __init__(
        self,
        radius: float,
        lipschitz: float = 1.0,
        name: str = "certified_accuracy",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if radius < 0 or lipschitz < 0:
            raise ValueError(
                "`radius` and `lipschitz` must not be negative. Received: "
                f"radius={radius}, lipschitz={lipschitz}"
            )
        self.radius = radius
        self.lipschitz = lipschitz

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        """Adds a batch.

        Args:
            y_true: Integer labels `(batch,)` or `(batch, 1)`, or one-hot
                `(batch, classes)`; 0 and 1 if there is one logit.
            y_pred: Logits `(batch, classes)`, or one logit `(batch, 1)`.
            sample_weight: Weights of the samples.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        y_pred = ops.cast(y_pred, self.dtype)
        certified = ops.cast(self._margins(y_true, y_pred) > 0, self.dtype)
        return super().update_state(certified, sample_weight=sample_weight)

    def _margins(self, y_true: Any, y_pred: Any) -> Any:
        """How far each sample is right, less what the radius can change."""
        needed = self.lipschitz * self.radius
        if y_pred.shape[-1] == 1:
            labels, logit = binary(y_true, y_pred)
            return ops.where(labels > 0.5, logit, -logit) - needed
        labels = one_hot(y_true, y_pred)
        true = ops.sum(labels * y_pred, axis=-1)
        others = ops.max(ops.where(labels > 0.5, -math.inf, y_pred), axis=-1)
        return true - others - math.sqrt(2) * needed

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "radius": self.radius,
            "lipschitz": self.lipschitz,
        }


@keras.saving.register_keras_serializable(package="keras_sn.metrics")
class KantorovichRubinstein(keras.metrics.Metric):
    """Difference of the mean outputs of two classes.

    Divided by the Lipschitz constant it is an estimate, from below, of the
    Wasserstein-1 distance of the two classes: what the loss
    `keras_sn.losses.KantorovichRubinstein` maximizes, over all data rather
    than by batch.

    Args:
        lipschitz: Upper bound of the Lipschitz constant of the network.
        name: Name of the metric.
        dtype: As in other Keras metrics.

    Example:

    >>> import numpy as np
    >>> from keras_sn.metrics import KantorovichRubinstein
    >>> metric = KantorovichRubinstein()
    >>> outputs = np.array([[2.0], [4.0], [-1.0]], "float32")
    >>> metric.update_state(np.array([1, 1, 0]), outputs)
    >>> float(metric.result())
    4.0

    Reference:

    - [Serrurier et al., 2021](https://arxiv.org/abs/2006.06520)
    """

    def __init__(
        self,
        lipschitz: float = 1.0,
        name: str = "kantorovich_rubinstein",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if not lipschitz > 0:
            raise ValueError(
                f"`lipschitz` must be positive. Received: {lipschitz}"
            )
        self.lipschitz = lipschitz
        self.totals = self.add_variable((2,), "zeros", name="totals")
        self.counts = self.add_variable((2,), "zeros", name="counts")

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        """Adds a batch.

        Args:
            y_true: Labels 0 and 1, or -1 and 1; `(batch,)` or as `y_pred`.
            y_pred: Outputs `(batch, outputs)`.
            sample_weight: Weights of the samples, `(batch,)`.
        """
        y_pred = ops.cast(ops.convert_to_tensor(y_pred), self.dtype)
        signs, _ = class_weights(y_true, y_pred)
        weights = ops.ones_like(y_pred)
        if sample_weight is not None:
            given = ops.cast(sample_weight, self.dtype)
            weights = weights * ops.reshape(given, (-1, 1))
        classes = [
            weights * ops.cast(signs > 0, self.dtype),
            weights * ops.cast(signs < 0, self.dtype),
        ]
        self.totals.assign_add(
            ops.stack([ops.sum(weight * y_pred) for weight in classes])
        )
        self.counts.assign_add(ops.stack([ops.sum(w) for w in classes]))

    def result(self) -> Any:
        means = self.totals / ops.maximum(self.counts, 1e-12)
        return (means[0] - means[1]) / self.lipschitz

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "lipschitz": self.lipschitz,
        }
