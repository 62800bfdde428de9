"""Exported artifacts: writing one, and running it to compare."""

import contextlib
import itertools
import logging
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_sn.models.export.onnx_branches import take_decided_branches
from keras_sn.models.export.onnx_operations import register_operations
from keras_sn.models.export.samples import Arrays
from keras_sn.models.export.samples import Sample
from keras_sn.models.export.samples import packer

# From inputs to the candidates for the outputs of an artifact; more than one
# where the order of inputs is not recorded.
Run = Callable[[Arrays], Iterator[Sequence[Any]]]
Pack = Callable[[list], Any]

FORMATS = {
    "tf_saved_model": "",
    "onnx": ".onnx",
    "litert": ".tflite",
    "openvino": "",
    "torch": ".pt2",
}
# A folder holds what OpenVINO writes as two files, so that one step replaces
# both.
_OPENVINO_FILE = "model.xml"


def write_artifact(
    model: keras.Model, path: pathlib.Path, format: str, inputs: Arrays
) -> None:
    """Exports a model by Keras's own exporter for the current backend.

    Args:
        model: Built model.
        path: `pathlib.Path` of the artifact.
        format: Key of `FORMATS`.
        inputs: Inputs of sizes that the model takes.
    """
    if format == "openvino":
        path.mkdir()
        path = path / _OPENVINO_FILE
    by_tf2onnx = format == "onnx" and keras.backend.backend() == "tensorflow"
    if by_tf2onnx:
        register_operations()
    options = _torch_options(model, inputs) if format == "torch" else {}
    model.export(str(path), format=format, verbose=False, **options)
    if by_tf2onnx:
        take_decided_branches(path)


def _torch_options(model: keras.Model, inputs: Arrays) -> dict[str, Any]:
    """What PyTorch needs to know of the open axes, and inputs to trace."""
    import torch

    batch = torch.export.Dim("batch", min=1)
    open_axes = [
        {
            axis: torch.export.Dim.DYNAMIC if axis else batch
            for axis, size in enumerate(tensor.shape)
            if size is None
        }
        for tensor in model.inputs
    ]
    # An axis of size 1 would be taken for one of that size alone.
    signature = [
        keras.InputSpec(
            shape=(tensor.shape[0] or 2, *array.shape[1:]), dtype=tensor.dtype
        )
        for tensor, array in zip(model.inputs, inputs, strict=True)
    ]
    pack = packer(model)
    return {
        "input_signature": [pack(signature)],
        # The arguments of `forward(*args)` are a tuple, and the only one.
        "dynamic_shapes": [(pack(open_axes),)],
    }


def largest_difference(
    path: pathlib.Path, format: str, samples: Sequence[Sample], pack: Pack
) -> float:
    """Largest difference of an artifact, relative to the largest output.

    Args:
        path: Path of the artifact.
        format: Key of `FORMATS`.
        samples: List of `(inputs, outputs)`, lists of arrays.
        pack: Function from a list of inputs to what the model takes.
    """
    run = _RUNNERS[format](path, pack)
    # Of all samples together: a single output may be zero by chance.
    largest = [
        max(float(np.max(np.abs(x), initial=1e-30)) for x in column)
        for column in zip(*(expected for _, expected in samples), strict=True)
    ]
    worst = 0.0
    for inputs, expected in samples:
        candidates = run([np.asarray(x) for x in inputs])
        worst = max(
            worst, min(_difference(expected, y, largest) for y in candidates)
        )
    return worst


def _difference(
    expected: Arrays, outputs: Sequence[Any], largest: Sequence[float]
) -> float:
    if [x.shape for x in expected] != [np.shape(x) for x in outputs]:
        return np.inf
    return max(
        float(np.max(np.abs(x - np.asarray(y)), initial=0.0)) / scale
        for x, y, scale in zip(expected, outputs, largest, strict=True)
    )


@contextlib.contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Holds back the warnings of a logger."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _run_saved_model(path: pathlib.Path, pack: Pack) -> Run:
    import tensorflow as tf

    with _errors_only("absl"):
        # Else it warns of gradients, which what is served has no use for.
        artifact = tf.saved_model.load(str(path))

    def run(inputs: Arrays) -> Iterator[Sequence[Any]]:
        packed = pack([tf.constant(x) for x in inputs])
        outputs = tf.nest.flatten(artifact.serve(packed))
        yield [x.numpy() for x in outputs]

    return run


def _run_onnx(path: pathlib.Path, pack: Pack) -> Run:
    del pack
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Arrays) -> Iterator[Sequence[Any]]:
        yield session.run(None, dict(zip(names, inputs, strict=True)))

    return run


def _run_litert(path: pathlib.Path, pack: Pack) -> Run:
    del pack
    runner = _litert_interpreter(path).get_signature_runner()
    details = runner.get_input_details()
    names = sorted(details, key=_natural)

    def run(inputs: Arrays) -> Iterator[Sequence[Any]]:
        # A signature names its inputs, but not after those of the model.
        for order in itertools.permutations(names):
            shapes = [details[name]["shape_signature"][1:] for name in order]
            if all(map(_fits, inputs, shapes)):
                outputs = runner(**dict(zip(order, inputs, strict=True)))
                yield [outputs[k] for k in sorted(outputs, key=_natural)]

    return run


def _fits(array: np.ndarray, shape: Sequence[int]) -> bool:
    return all(
        n in (-1, m) for n, m in zip(shape, array.shape[1:], strict=True)
    )


def _litert_interpreter(path: pathlib.Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    return Interpreter(model_path=str(path))


def _natural(name: str) -> tuple[str, int]:
    head, _, number = name.rpartition("_")
    return (head, int(number)) if number.isdigit() else (name, -1)


def _run_openvino(path: pathlib.Path, pack: Pack) -> Run:
    del pack
    import openvino

    core = openvino.Core()
    model = core.compile_model(core.read_model(path / _OPENVINO_FILE), "CPU")

    # TensorFlow's conversion may add outputs from the middle of the graph.
    named = [
        i
        for i, output in enumerate(model.outputs)
        if any(name.startswith("Identity") for name in output.names)
    ]

    def run(inputs: Arrays) -> Iterator[Sequence[Any]]:
        outputs = model(inputs)
        yield [outputs[i] for i in named or range(len(model.outputs))]

    return run


def _run_torch(path: pathlib.Path, pack: Pack) -> Run:
    import torch

    module = torch.export.load(str(path)).module()

    def run(inputs: Arrays) -> Iterator[Sequence[Any]]:
        with torch.no_grad():
            outputs = module(pack([torch.from_numpy(x) for x in inputs]))
        yield [x.numpy() for x in keras.tree.flatten(outputs)]

    return run


_RUNNERS: dict[str, Callable[[pathlib.Path, Pack], Run]] = {
    "tf_saved_model": _run_saved_model,
    "onnx": _run_onnx,
    "litert": _run_litert,
    "openvino": _run_openvino,
    "torch": _run_torch,
}
