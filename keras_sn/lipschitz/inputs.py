"""Inputs of a model as arrays, in the order and the dtypes that it takes."""

from typing import Any

import keras
import numpy as np

from keras_sn.keras_access import inputs_in_order


def input_arrays(model: keras.layers.Layer, x: Any) -> list[np.ndarray]:
    """Inputs as arrays, in the order and the dtypes that a model takes."""
    tensors = getattr(model, "inputs", None)
    if not tensors:
        arrays = keras.tree.flatten(x)
        return [np.asarray(array, "float32") for array in arrays]
    arrays = inputs_in_order(model, x) if _is_structure(x) else [x]
    # NumPy knows no bfloat16.
    dtypes = [
        "float32" if tensor.dtype == "bfloat16" else tensor.dtype
        for tensor in tensors
    ]
    return [
        np.asarray(array, dtype)
        for array, dtype in zip(arrays, dtypes, strict=True)
    ]


class Balls:
    """Balls around inputs.

    Args:
        arrays: Inputs, as from `input_arrays`.
        radius: Radius of all, or of each.

    Raises:
        ValueError: If the radii do not fit the inputs.

    Attributes:
        arrays: The inputs.
        radii: Float64 array `(batch,)`.
    """

    def __init__(
        self, arrays: list[np.ndarray], radius: float | np.ndarray | None
    ):
        if any(array.ndim == 0 for array in arrays) or radius is None:
            raise ValueError(
                "A local bound takes both `x`, inputs with a batch axis, and "
                f"`radius`. Received: radius={radius}, x of shapes "
                f"{[array.shape for array in arrays]}"
            )
        self.arrays = arrays
        given = np.asarray(radius, "float64")
        if given.shape not in ((), (len(self),)) or not np.all(given >= 0):
            raise ValueError(
                "`radius` must be a number that is not negative, or one for "
                f"each of {len(self)} inputs. Received: radius={radius}"
            )
        self.radii = np.broadcast_to(given, (len(self),))

    def __len__(self) -> int:
        return len(self.arrays[0])


def _is_structure(x: Any) -> bool:
    """Whether it is several arrays, not the rows of one."""
    if isinstance(x, (list, tuple)):
        return any(np.ndim(part) > 0 for part in x)
    return isinstance(x, dict)
