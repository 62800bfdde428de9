"""export_model: a serving artifact from any backend, checked, then placed."""

import importlib.util
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_sn.keras_access import all_layers
from keras_sn.models.export.artifacts import FORMATS
from keras_sn.models.export.artifacts import largest_difference
from keras_sn.models.export.artifacts import write_artifact
from keras_sn.models.export.processes import export_elsewhere
from keras_sn.models.export.samples import Sample
from keras_sn.models.export.samples import make_samples
from keras_sn.models.export.samples import outputs_of
from keras_sn.models.export.samples import packer
from keras_sn.models.files import check_target
from keras_sn.models.files import first_line
from keras_sn.models.files import remove
from keras_sn.models.files import written_whole
from keras_sn.models.folding import folded_view
from keras_sn.models.folding import is_foldable
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
# Of the largest output, by the lowest precision that the model computes in.
# Roundings of half precision add up over layers; those seen reach 0.01.
_TOLERANCES = {"float16": 0.02, "bfloat16": 0.05}
_TOLERANCE = 1e-4


def export_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str | None = None,
    folded: bool = True,
    overwrite: bool = True,
    samples: Any = None,
    input_size: int | None = None,
    tolerance: float | None = None,
) -> pathlib.Path:
    """Exports a model for serving, from any backend.

    The artifact is written beside `path`, loaded, compared with the model,
    and takes its place in one step: whoever reads `path` finds
    the old artifact or the new one, also if the process is killed.

    Args:
        model: Built Sequential or Functional model.
        path: Where to put the artifact: a folder for `"tf_saved_model"` and
            `"openvino"` (`model.xml` and `model.bin` in it), a file that ends
            in `.onnx`, `.tflite` for `"litert"`, or `.pt2` for `"torch"`.
        format: One of those; `None`: by the suffix of `path`, a path without
            one is a `"tf_saved_model"`. What Keras cannot export on the
            current backend is exported by a process on another one, which
            needs that backend installed, and classes of your own registered
            there.
        folded: Whether to export `fold_model(model)`, which computes the same
            without normalizing anew at each request.
        overwrite: Whether an artifact at `path` may be replaced.
        samples: Inputs to compare on: an array, or arrays as the model takes
            them. `None`: random ones.
        input_size: Size of the axes of random inputs that may have any size;
            `None`: one that works.
        tolerance: How far the artifact may be off, of the largest output.
            `None`: 1e-4, for a model that computes in float16 0.02, in
            bfloat16 0.05.

    Returns:
        The path, as `pathlib.Path`.

    Raises:
        ValueError: If the model is not built, `format` is unknown or cannot
            hold the model's dtype, `path` is no place for it, or the model
            does not run on the samples.
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
    format = format_of(path) if format is None else format
    _check_arguments(model, path, format)
    check_target(path, overwrite)
    if tolerance is None:
        tolerance = _tolerance_of(model)
    if folded and is_foldable(model):
        # Its norms are computed anew; those of a wrapper may lag.
        model = folded_view(model)
    pairs = make_samples(model, samples, input_size)
    with written_whole(path, overwrite) as partial:
        _export_by_any(model, partial, format, pairs, tolerance)
    return path


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a path asks for by its suffix.

    Raises:
        ValueError: If no format has that suffix.
    """
    path = pathlib.Path(path)
    if not path.suffix:
        return "tf_saved_model"
    known = {suffix: name for name, suffix in FORMATS.items() if suffix}
    if path.suffix not in known:
        raise ValueError(
            f"There is no format for the suffix '{path.suffix}' of '{path}'. "
            f"Known are {known}; a path without a suffix is a folder for "
            "tf_saved_model. Or choose the `format`."
        )
    return known[path.suffix]


def _dtypes(model: keras.Model) -> set[str]:
    return {str(layer.compute_dtype) for layer in all_layers(model)}


def _tolerance_of(model: keras.Model) -> float:
    dtypes = _dtypes(model)
    return max(_TOLERANCES.get(dtype, _TOLERANCE) for dtype in dtypes)


def _export_by_any(
    model: keras.Model,
    path: pathlib.Path,
    format: str,
    samples: Sequence[Sample],
    tolerance: float,
) -> None:
    """Exports by the first exporter that can."""
    current = keras.backend.backend()
    # sorted() is stable: the current backend, which needs no process, first.
    known = sorted(_EXPORTERS[format], key=lambda name: name != current)
    routes = [name for name in known if importlib.util.find_spec(name)]
    if not routes:
        raise RuntimeError(
            f"Keras exports {format} on {' or '.join(known)}, and none of "
            f"these is installed. Install {_EXPORTERS[format][0]}."
        )
    failures = []
    for backend in routes:
        try:
            if backend == current:
                export_here(model, path, format, samples, tolerance)
            else:
                export_elsewhere(
                    model, path, format, samples, tolerance, backend
                )
            return
        except RuntimeError as error:
            failures.append(str(error))
            remove(path)
    raise RuntimeError(" ".join(failures))


def export_here(
    model: keras.Model,
    path: pathlib.Path,
    format: str,
    samples: Sequence[Sample],
    tolerance: float,
) -> None:
    """Exports on the current backend and compares."""
    backend = keras.backend.backend()
    what = f"model '{model.name}' as {format} on {backend}"
    # The exporters and the engines that run artifacts raise what they like.
    try:
        # The exporters want a model that has been called.
        outputs_of(model, samples[0][0])
        write_artifact(model, path, format, samples[0][0])
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
    if not worst <= tolerance:
        raise RuntimeError(
            f"The export of {what} differs from the model by {worst:.3g} of "
            f"the largest output; the limit is {tolerance:g}."
        )


def _check_arguments(
    model: keras.Model, path: pathlib.Path, format: str
) -> None:
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
            "it into one: keras.Sequential([keras.Input(shape), layer]), or, "
            "for layers that it creates in its own code, "
            "keras.Model(inputs, model.call(inputs))."
        )
    if path.suffix != FORMATS[format] and FORMATS[format]:
        raise ValueError(
            f"The path of a {format} artifact must end in "
            f"'{FORMATS[format]}'. Received: '{path}'"
        )
    if format == "onnx" and "bfloat16" in _dtypes(model):
        # The operations that run on bfloat16 in ONNX are few.
        raise ValueError(
            f"Model '{model.name}' computes in bfloat16, of which ONNX has no "
            "convolutions and onnxruntime no products. Load its weights into "
            "the same model made under the float32 dtype policy and export "
            "that."
        )
