"""Losses of optimal transport, for networks of a known Lipschitz constant."""

from typing import Any

import keras
from keras import ops

from keras_sn.losses.labels import class_weights


@keras.saving.register_keras_serializable(package="keras_sn")
class KantorovichRubinstein(keras.losses.Loss):
    """Minus the difference of the mean outputs of two classes.

    The largest difference that a 1-Lipschitz network reaches is the
    Wasserstein-1 distance of the two classes, so a network that is held to
    the constant 1 and trained with this loss estimates that distance, as the
    critic of a Wasserstein GAN.

    With several outputs each is a critic of its own, one class against the
    rest.

    Args:
        reduction: As in other Keras losses. Each batch is divided into its
            classes; their means are exact with `"sum_over_batch_size"`.
        name: Name of the loss.
        dtype: As in other Keras losses.

    Call arguments:
        y_true: Labels 0 and 1, or -1 and 1; `(batch,)` or as `y_pred`.
        y_pred: Outputs `(batch, outputs)`.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import KantorovichRubinstein
    >>> loss = KantorovichRubinstein()
    >>> outputs = np.array([[2.0], [4.0], [-1.0]], "float32")
    >>> float(loss(np.array([1, 1, 0]), outputs))
    -4.0

    Reference:

    - [Arjovsky et al., 2017](https://arxiv.org/abs/1701.07875)
    - [Serrurier et al., 2021](https://arxiv.org/abs/2006.06520)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "kantorovich_rubinstein",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        signs, weights = class_weights(y_true, y_pred)
        return ops.mean(-signs * weights * y_pred, axis=-1)


@keras.saving.register_keras_serializable(package="keras_sn")
class HingeKantorovichRubinstein(keras.losses.Loss):
    """Hinge loss, regularized by the Kantorovich-Rubinstein difference.

    `alpha * E relu(margin - y f(x)) - (E f(x | 1) - E f(x | -1))`, with labels
    `y` in {-1, 1}. It classifies with a 1-Lipschitz network, for which the
    difference alone is no classifier: its output divided by the Lipschitz
    constant is a certified radius.

    Args:
        alpha: Weight of the hinge loss; larger ones prefer accuracy,
            smaller ones robustness.
        margin: Margin of the hinge loss.
        reduction: As in other Keras losses.
        name: Name of the loss.
        dtype: As in other Keras losses.

    Call arguments:
        y_true: Labels 0 and 1, or -1 and 1; `(batch,)` or as `y_pred`.
        y_pred: Outputs `(batch, outputs)`; several are one class against the
            rest each.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import HingeKantorovichRubinstein
    >>> loss = HingeKantorovichRubinstein(alpha=10.0)
    >>> float(loss(np.array([1, 0]), np.array([[0.5], [-2.0]], "float32")))
    0.0

    Reference:

    - [Serrurier et al., 2021](https://arxiv.org/abs/2006.06520)
    """

    def __init__(
        self,
        alpha: float = 10.0,
        margin: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "hinge_kantorovich_rubinstein",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if alpha < 0 or margin < 0:
            raise ValueError(
                "`alpha` and `margin` must not be negative. Received: "
                f"alpha={alpha}, margin={margin}"
            )
        self.alpha = alpha
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        signs, weights = class_weights(y_true, y_pred)
        hinge = ops.relu(self.margin - signs * y_pred)
        return ops.mean(self.alpha * hinge - signs * weights * y_pred, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "margin": self.margin,
        }
