"""Norm bounds: what `norm_bound` may be, and the number that it is now."""

import math
import numbers
from typing import Any
from typing import TypeAlias

import keras
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.linear_maps.base import LinearMap

Schedule = keras.optimizers.schedules.LearningRateSchedule
# A float, "rms" or a schedule (Keras has no types for it).
NormBound: TypeAlias = Any

RMS = "rms"


def checked_norm_bound(norm_bound: Any, layer: Any) -> NormBound:
    """A bound as it is kept; a schedule may come as its config.

    Args:
        norm_bound: What the user passed.
        layer: The layer that is wrapped, for the message.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(norm_bound, dict):
        norm_bound = keras.saving.deserialize_keras_object(norm_bound)
    if isinstance(norm_bound, Schedule):
        return norm_bound
    if isinstance(norm_bound, str) and norm_bound == RMS:
        return norm_bound
    real = isinstance(norm_bound, numbers.Real)
    if not real or not 0 < norm_bound < math.inf:
        name = getattr(layer, "name", None)
        raise ValueError(
            "`norm_bound` must be a positive, finite number, 'rms', or a "
            "schedule of keras.optimizers.schedules. Received: "
            f"norm_bound={norm_bound!r} (wrapper of layer '{name}')"
        )
    return float(norm_bound)


def is_scheduled(norm_bound: NormBound) -> bool:
    """Whether a bound changes as the training goes on."""
    return isinstance(norm_bound, Schedule)


def bound_now(
    norm_bound: NormBound,
    linear_map: LinearMap,
    step: Array | None,
    dtype: str,
) -> float | Array:
    """The bound of a map: a float, or a scalar tensor if it is scheduled.

    Args:
        norm_bound: As `checked_norm_bound` returns it.
        linear_map: `LinearMap`.
        step: Training calls so far; for a schedule.
        dtype: Of the tensor.
    """
    if isinstance(norm_bound, Schedule):
        return ops.cast(norm_bound(step), dtype)
    if isinstance(norm_bound, str):
        return _rms_bound(linear_map)
    return norm_bound


def bound_config(norm_bound: NormBound) -> Any:
    """What a config holds of a bound."""
    if isinstance(norm_bound, Schedule):
        return keras.saving.serialize_keras_object(norm_bound)
    return norm_bound


def _rms_bound(linear_map: LinearMap) -> float:
    """`sqrt(outputs / inputs)`: root mean squares grow by at most one.

    The numbers of one block: of a strided convolution those that are read and
    written for one position of its output. An embedding looks up, so its
    input is one unit vector, of which the mean would say nothing.
    """
    inputs, outputs = linear_map.input_probe_shape[1], linear_map.probe_shape[1]
    if isinstance(linear_map.weights[0].layer, keras.layers.Embedding):
        inputs = 1
    return math.sqrt(outputs / inputs)
