"""Samples of a model, inputs and outputs, that an artifact is compared on."""

import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Arrays = list[np.ndarray]
Sample = tuple[Arrays, Arrays]

_BATCH_SIZES = (1, 7)
# Sizes to try for axes of any size: some models crop, or have valid kernels.
_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 16, 8, 4)
# Entries of one input, above which a size is not worth trying.
_MOST_ENTRIES = 2**24


def make_samples(
    model: keras.Model,
    inputs: Any = None,
    input_size: int | None = None,
) -> list[Sample]:
    """List of `(inputs, outputs)` of the model, lists of arrays.

    Args:
        model: Model with `inputs`.
        inputs: Array, or list or dict of arrays as the model takes them;
            `None`: random.
        input_size: Size of the axes of random inputs that may have any size;
            `None`: one that works.

    Raises:
        ValueError: If the model does not run on these inputs.
    """
    if inputs is not None:
        batches = _batches_of(model, keras.tree.flatten(inputs))
        return [(batch, _outputs(model, batch)) for batch in batches]
    failures = []
    for size in _sizes(model, input_size):
        try:
            return [
                (batch, _outputs(model, batch))
                for batch in _random_batches(model, size)
            ]
        # Whatever layers and backends raise for a shape that is too small.
        except Exception as error:
            failures.append(error)
    raise ValueError(
        f"Model '{model.name}' does not run on random inputs of shape "
        f"{[_shape(x, 1, size) for x in model.inputs]}: {failures[-1]} Pass "
        "inputs that it takes as `samples`, or a size for its open axes as "
        "`input_size`."
    ) from failures[-1]


def random_inputs(
    model: keras.Model, count: int, input_size: int | None = None
) -> Arrays:
    """Random inputs of a model, one array for each.

    Args:
        model: Model with `inputs`.
        count: Number of samples; a fixed batch size of the model goes first.
        input_size: Size of axes that may have any; `None`: 32.
    """
    rng = np.random.default_rng(0)
    size = _SIZES[0] if input_size is None else input_size
    return [_random(rng, x, count, size) for x in model.inputs]


def load_samples(path: str | os.PathLike[str]) -> Arrays:
    """The arrays of an `.npz` or `.npy` file, in their order.

    Raises:
        ValueError: If there is no such file, or it holds something else.
    """
    try:
        loaded = np.load(path)
    except FileNotFoundError as error:
        raise ValueError(f"There is no file '{path}'.") from error
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"'{path}' is no .npz or .npy file.") from error
    if isinstance(loaded, np.ndarray):
        return [loaded]
    with loaded:
        return [loaded[name] for name in loaded.files]


def outputs_of(model: keras.Model, inputs: Sequence[np.ndarray]) -> Arrays:
    """List of the outputs, as arrays, for a list of input arrays."""
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    outputs = model(packer(model)(tensors), training=False)
    return [
        _as_numpy(ops.stop_gradient(x)) for x in keras.tree.flatten(outputs)
    ]


def packer(model: keras.Model) -> Callable[[list], Any]:
    """Function from a list of inputs to the structure that `model` takes."""
    if isinstance(model, keras.Sequential):
        return lambda inputs: inputs[0]
    structure = model.input
    return lambda inputs: keras.tree.pack_sequence_as(structure, inputs)


def _outputs(model: keras.Model, inputs: Arrays) -> Arrays:
    outputs = outputs_of(model, inputs)
    if not all(x.size for x in outputs):
        raise ValueError(f"The outputs are empty: {[x.shape for x in outputs]}")
    return outputs


def _as_numpy(tensor: Any) -> np.ndarray:
    array = ops.convert_to_numpy(tensor)
    # NumPy's own types do not include bfloat16.
    return array if array.dtype.kind in "biuf" else array.astype("float32")


def _batches_of(model: keras.Model, arrays: Arrays) -> list[Arrays]:
    if len(arrays) != len(model.inputs):
        raise ValueError(
            f"`samples` must hold one array for each of the "
            f"{len(model.inputs)} inputs of model '{model.name}'. Received: "
            f"{len(arrays)} arrays."
        )
    arrays = [
        np.asarray(array).astype(_dtype(tensor))
        for array, tensor in zip(arrays, model.inputs, strict=True)
    ]
    if model.inputs[0].shape[0] is not None or len(arrays[0]) == 1:
        return [arrays]
    return [[array[:1] for array in arrays], arrays]


def _sizes(model: keras.Model, input_size: int | None) -> Iterator[int]:
    if input_size is not None:
        yield input_size
        return
    for size in _SIZES:
        entries = [np.prod(_shape(x, 1, size)) for x in model.inputs]
        if size == _SIZES[0] or max(entries) <= _MOST_ENTRIES:
            yield size
        if not any(None in x.shape[1:] for x in model.inputs):
            return


def _random_batches(model: keras.Model, size: int) -> Iterator[Arrays]:
    fixed = model.inputs[0].shape[0]
    rng = np.random.default_rng(0)
    for count in _BATCH_SIZES if fixed is None else (fixed,):
        yield [_random(rng, x, count, size) for x in model.inputs]


def _random(
    rng: np.random.Generator,
    tensor: keras.KerasTensor,
    count: int,
    size: int,
) -> np.ndarray:
    shape = _shape(tensor, count, size)
    if keras.backend.is_float_dtype(tensor.dtype):
        return rng.standard_normal(shape).astype(_dtype(tensor))
    # Valid as indices and as booleans alike.
    return rng.integers(0, 2, shape).astype(_dtype(tensor))


def _dtype(tensor: keras.KerasTensor) -> str:
    # NumPy has no bfloat16; Keras casts to it.
    return "float32" if tensor.dtype == "bfloat16" else tensor.dtype


def _shape(tensor: keras.KerasTensor, count: int, size: int) -> tuple[int, ...]:
    batch, *rest = tensor.shape
    return (
        count if batch is None else batch,
        *(size if n is None else n for n in rest),
    )
