"""Metrics of certified robustness."""

import math

import keras
from keras import ops

from keras_sn.losses import one_hot


@keras.saving.register_keras_serializable(package="keras_sn")
class CertifiedAccuracy(keras.metrics.Mean):
    """Share of samples that are right, and stay so within a radius.

    A sample counts if its true logit exceeds every other one by more than
    `sqrt(2) lipschitz radius`: then no input within `radius` in the l2 norm
    changes the prediction, if `lipschitz` bounds the constant of the network
    from its inputs to its logits. `keras_sn.lipschitz.certified_radius` gives
    the tighter radius of single samples, from a bound for each pair of
    classes.

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
        self, radius, lipschitz=1.0, name="certified_accuracy", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        if radius < 0 or lipschitz < 0:
            raise ValueError(
                "`radius` and `lipschitz` must not be negative. Received: "
                f"radius={radius}, lipschitz={lipschitz}"
            )
        self.radius = radius
        self.lipschitz = lipschitz

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Integer labels `(batch,)` or `(batch, 1)`, or one-hot
                `(batch, classes)`.
            y_pred: Logits `(batch, classes)`.
            sample_weight: Weights of the samples.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        y_pred = ops.cast(y_pred, self.dtype)
        labels = one_hot(y_true, y_pred)
        true = ops.sum(labels * y_pred, axis=-1)
        largest = math.inf
        others = ops.max(ops.where(labels > 0.5, -largest, y_pred), axis=-1)
        needed = math.sqrt(2) * self.lipschitz * self.radius
        certified = ops.cast(true - others > needed, self.dtype)
        return super().update_state(certified, sample_weight=sample_weight)

    def get_config(self):
        return {
            "name": self.name,
            "dtype": self.dtype,
            "radius": self.radius,
            "lipschitz": self.lipschitz,
        }
