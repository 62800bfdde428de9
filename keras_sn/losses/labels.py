"""Labels in the forms that Keras users have them in."""

from typing import Any

from keras import ops


def one_hot(y_true: Any, y_pred: Any) -> Any:
    """Labels as one-hot rows in the dtype and shape of the predictions.

    Args:
        y_true: Integers `(batch,)` or `(batch, 1)`, or rows `(batch, classes)`.
        y_pred: `(batch, classes)`.
    """
    y_true = ops.convert_to_tensor(y_true)
    classes = y_pred.shape[-1]
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == classes:
        return ops.cast(y_true, y_pred.dtype)
    labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
    return ops.one_hot(labels, classes, dtype=y_pred.dtype)


def binary(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels 0 and 1 and the logits they belong to, both `(batch,)`.

    Args:
        y_true: `(batch,)` or `(batch, 1)`.
        y_pred: `(batch, 1)`.

    Raises:
        ValueError: If labels have more than one number per sample.
    """
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) > 1 and y_true.shape[-1] != 1:
        raise ValueError(
            "A single logit takes labels 0 and 1, one per sample. Received: "
            f"y_true of shape {tuple(y_true.shape)}, y_pred of shape "
            f"{tuple(y_pred.shape)}"
        )
    y_true = ops.reshape(ops.cast(y_true, y_pred.dtype), (-1,))
    return y_true, ops.reshape(y_pred, (-1,))


def class_weights(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels in {-1, 1}, and weights that make a mean that of the classes.

    Args:
        y_true: Labels 0 and 1, or -1 and 1, in the shape of the predictions
            or without their last axis of size 1.
        y_pred: `(batch, ...)`.

    Returns:
        `(signs, weights)` in the shape of the predictions. The mean over the
        batch of `weights * values` is the mean of the values with sign 1 plus
        that of those with sign -1; of a class that is missing it is zero.
    """
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    if len(y_true.shape) < len(y_pred.shape):
        y_true = ops.expand_dims(y_true, -1)
    signs = ops.where(y_true > 0, ops.ones_like(y_true), -1.0)
    signs = ops.broadcast_to(signs, ops.shape(y_pred))
    positive = ops.cast(signs > 0, y_pred.dtype)
    share = ops.mean(positive, axis=0, keepdims=True)
    shares = positive * share + (1 - positive) * (1 - share)
    return signs, 1 / ops.maximum(shares, 1e-12)
