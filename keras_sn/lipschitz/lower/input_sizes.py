"""The shapes of inputs to search with: a size for every open axis."""

from typing import Any

import keras
import numpy as np

from keras_sn.keras_access import inputs_in_order
from keras_sn.lipschitz.lower.pullback import Arrays
from keras_sn.lipschitz.lower.pullback import evaluate
from keras_sn.lipschitz.tracing import build_shapes

# Sizes of open axes in turn: the first one that a model takes is used.
_SIZES = (8, 16, 32, 64, 128, 256)
# More numbers than that make a search too slow.
_MOST_NUMBERS = 2**22


def declared_shapes(
    model: keras.layers.Layer,
) -> list[tuple[int | None, ...]] | None:
    """Shapes of the inputs of a model or layer, batch axis first.

    Returns:
        `None` if an input is no floating-point tensor or the shape is not
        known.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return build_shapes(model)
    kinds = [keras.backend.standardize_dtype(x.dtype) for x in inputs]
    if not all("float" in kind for kind in kinds):
        return None
    return [tuple(tensor.shape) for tensor in inputs]


def data_arrays(model: keras.layers.Layer, data: Any) -> Arrays:
    """Data as arrays in the order of the model's inputs."""
    several = isinstance(data, dict) or (
        isinstance(data, (list, tuple)) and any(np.ndim(x) for x in data)
    )
    if several and getattr(model, "inputs", None):
        data = inputs_in_order(model, data)
    elif several:
        data = keras.tree.flatten(data)
    else:
        data = [data]
    arrays = [np.asarray(array, "float64") for array in data]
    if not len(arrays[0]):
        raise ValueError("`data` has no samples.")
    return arrays


def working_shapes(
    model: keras.layers.Layer, declared: list[tuple[int | None, ...]]
) -> list[tuple[int, ...]]:
    """Shapes without the batch axis that the model takes.

    Raises:
        ValueError: If an axis is open and no size that was tried works.
    """
    if all(n is not None for shape in declared for n in shape[1:]):
        return [tuple(n or 1 for n in shape[1:]) for shape in declared]
    reason = "too large"
    for size in _SIZES:
        shapes = [tuple(n or size for n in shape[1:]) for shape in declared]
        if sum(int(np.prod(shape)) for shape in shapes) > _MOST_NUMBERS:
            break
        batch = declared[0][0] or 1
        arrays = [np.zeros((batch, *shape), "float32") for shape in shapes]
        try:
            outputs = evaluate(model, arrays)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            continue
        if all(output.size for output in outputs):
            return shapes
        reason = "the output is empty"
    raise ValueError(
        f"No size of its open axes up to {_SIZES[-1]} works ({reason}). Pass "
        "`data` of a size that does."
    )
