"""Arrays or tensors: one formula serves NumPy and the backend."""

import types
from typing import Any

import keras
import numpy as np
from keras import ops

# Of float64: the distance from 1 to the next number, the smallest number.
EPS = float(np.finfo("float64").eps)
TINY = float(np.finfo("float64").tiny)
# NumPy knows no bfloat16; single precision holds all of either.
_NARROW = ("bfloat16", "float16")


def functions_of(values: object) -> types.ModuleType:
    """`numpy` for an array and `keras.ops` for a tensor, alike in names."""
    return np if isinstance(values, np.ndarray) else ops


def float64(value: Any) -> np.ndarray:
    """A weight as a float64 array, which loses nothing.

    Args:
        value: Tensor, variable or array of real numbers.

    Raises:
        ValueError: If it is complex.

    Example:

    >>> from keras_sn.linear_maps.arrays import float64
    >>> float64(np.ones(2, "float32"))
    array([1., 1.])
    """
    if not isinstance(value, np.ndarray):
        tensor = ops.convert_to_tensor(value)
        if keras.backend.standardize_dtype(tensor.dtype) in _NARROW:
            tensor = ops.cast(tensor, "float32")
        value = ops.convert_to_numpy(tensor)
    if np.iscomplexobj(value):
        raise ValueError(
            "The spectral norm of complex numbers is not supported. Pass the "
            "real matrix [[Re, -Im], [Im, Re]], which has the same norm. "
            f"Received an array of the dtype {value.dtype}."
        )
    return np.asarray(value, "float64")
