"""export_model: a serving artifact from any backend, checked, then placed."""

import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
from keras import ops

from keras_sn.models.export.artifacts import FORMATS
from keras_sn.models.export.artifacts import largest_difference
from keras_sn.models.export.artifacts import write_artifact
from keras_sn.models.files import check_target
from keras_sn.models.files import first_line
from keras_sn.models.files import remove
from keras_sn.models.files import written_whole
from keras_sn.models.folding import fold_model
from keras_sn.models.folding import wrappers_in
from keras_sn.models.graph_copy import check_built

# Where Keras has an exporter that serves any batch size, the better one first.
# A backend that is not the current one exports in a process of its own, from
# a `.keras` file.
_EXPORTERS = {
    "tf_saved_model": ("tensorflow", "jax"),
    "onnx": ("tensorflow", "torch"),
    "litert": ("tensorflow",),
    "openvino": ("tensorflow", "torch"),
    "torch": ("torch",),
}
_TOLERANCE = 1e-4
_BATCH_SIZES = (1, 7)
# Stands for an axis of any size when the artifact is tried.
_ANY_SIZE = 32


def export_model(
    model, path, format="tf_saved_model", folded=True, overwrite=True
):
    """Exports a model for serving, from any backend.

    The artifact is written beside `path`, loaded, compared with the model on
    random inputs, and takes its place in one step: whoever reads `path` finds
    the old artifact or the new one, also if the process is killed.

    Args:
        model: Built Sequential or Functional model.
        path: Where to put the artifact: a folder for `"tf_saved_model"` and
            `"openvino"` (`model.xml` and `model.bin` in it), a file that ends
            in `.onnx`, `.tflite` for `"litert"`, or `.pt2` for `"torch"`.
        format: One of those. What Keras cannot export on the current backend
            is exported by a process on another one, which needs that backend
            installed, and classes of your own importable.
        folded: Whether to export `fold_model(model)`, which computes the same
            without normalizing anew at each request.
        overwrite: Whether an artifact at `path` may be replaced.

    Returns:
        The path, as `pathlib.Path`.

    Raises:
        ValueError: If the model is not built, `format` is unknown or `path`
            is no place for it.
        RuntimeError: If no exporter can, or the artifact does not run or
            computes something else than the model.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_sn.models import export_model
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_model(model, folder + "/served").name
    'served'
    """
    path = pathlib.Path(path)
    _check_arguments(model, path, format)
    check_target(path, overwrite)
    samples = _samples(model)
    if folded and wrappers_in(model):
        model = fold_model(model)
    with written_whole(path, overwrite) as partial:
        _export_by_any(model, partial, format, samples)
    return path


def _export_by_any(model, path, format, samples):
    """Exports by the first exporter that can."""
    current = keras.backend.backend()
    # sorted() is stable: the current backend, which needs no process, first.
    routes = sorted(_EXPORTERS[format], key=lambda name: name != current)
    failures = []
    for backend in routes:
        try:
            if backend == current:
                export_here(model, path, format, samples)
            else:
                _export_elsewhere(model, path, format, samples, backend)
            return
        except RuntimeError as error:
            failures.append(str(error))
            remove(path)
    raise RuntimeError(" ".join(failures))


def export_here(model, path, format, samples):
    """Exports on the current backend and compares."""
    backend = keras.backend.backend()
    what = f"model '{model.name}' as {format} on {backend}"
    # The exporters and the engines that run artifacts raise what they like.
    try:
        # The exporters want a model that has been called.
        outputs_of(model, samples[0][0])
        write_artifact(model, path, format)
    except Exception as error:
        raise RuntimeError(
            f"Keras cannot export {what}: {first_line(error)}"
        ) from error
    try:
        worst = largest_difference(path, format, samples, packer(model))
    except Exception as error:
        raise RuntimeError(
            f"The export of {what} does not run: {first_line(error)}"
        ) from error
    if not worst <= _TOLERANCE:
        raise RuntimeError(
            f"The export of {what} differs from the model by {worst:.3g} of "
            f"the largest output; the limit is {_TOLERANCE:g}."
        )


def _export_elsewhere(model, path, format, samples, backend):
    """Exports by a process on another backend."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(os.path.join(folder, "model.keras"))
        arrays = {
            f"{i}_{kind}_{j}": array
            for i, pair in enumerate(samples)
            for kind, group in zip(("in", "out"), pair, strict=True)
            for j, array in enumerate(group)
        }
        np.savez(os.path.join(folder, "samples.npz"), **arrays)
        worker = [sys.executable, "-m", "keras_sn.models.export.worker"]
        result = subprocess.run(
            [*worker, folder, str(path.absolute()), format],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise RuntimeError(
            lines[-1]
            if lines
            else f"The process that exports on {backend} died with exit code "
            f"{result.returncode}."
        )


def read_samples(path):
    """The samples that `_export_elsewhere` stored."""
    samples = []
    with np.load(path) as arrays:
        while f"{len(samples)}_in_0" in arrays:
            pair = tuple(
                _numbered(arrays, f"{len(samples)}_{kind}_")
                for kind in ("in", "out")
            )
            samples.append(pair)
    return samples


def _numbered(arrays, prefix):
    count = sum(name.startswith(prefix) for name in arrays.files)
    return [arrays[f"{prefix}{j}"] for j in range(count)]


def _check_arguments(model, path, format):
    if format not in FORMATS:
        raise ValueError(
            f"`format` must be one of {list(FORMATS)}. "
            f"Received: format={format!r}"
        )
    check_built(model)
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"'{model.name}' ({type(model).__name__}) is no Sequential or "
            "Functional model, so the shapes of its inputs are not known. Put "
            "it into one: keras.Sequential([keras.Input(shape), layer])."
        )
    if path.suffix != FORMATS[format] and FORMATS[format]:
        raise ValueError(
            f"The path of a {format} artifact must end in "
            f"'{FORMATS[format]}'. Received: '{path}'"
        )


def _samples(model):
    """List of `(inputs, outputs)` of the model, lists of arrays."""
    fixed = model.inputs[0].shape[0]
    sizes = _BATCH_SIZES if fixed is None else (fixed,)
    rng = np.random.default_rng(0)
    samples = []
    for size in sizes:
        inputs = [_random(rng, x, size) for x in model.inputs]
        samples.append((inputs, outputs_of(model, inputs)))
    return samples


def outputs_of(model, inputs):
    """List of the outputs, as arrays, for a list of input arrays."""
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    outputs = model(packer(model)(tensors), training=False)
    return [
        ops.convert_to_numpy(ops.stop_gradient(x))
        for x in keras.tree.flatten(outputs)
    ]


def packer(model):
    """Function from a list of inputs to the structure that `model` takes."""
    if isinstance(model, keras.Sequential):
        return lambda inputs: inputs[0]
    structure = model.input
    return lambda inputs: keras.tree.pack_sequence_as(structure, inputs)


def _random(rng, tensor, size):
    shape = [_ANY_SIZE if n is None else n for n in tensor.shape[1:]]
    if keras.backend.is_float_dtype(tensor.dtype):
        return rng.standard_normal((size, *shape)).astype(tensor.dtype)
    # Valid as indices and as booleans alike.
    return rng.integers(0, 2, (size, *shape)).astype(tensor.dtype)
