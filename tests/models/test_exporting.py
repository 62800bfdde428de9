"""Tests of export_model and of the artifacts it leaves."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.models import export_model
from keras_sn.models import normalize_model
from keras_sn.models.export import exporting
from tests.models.networks import NETWORKS
from tests.models.networks import assert_close
from tests.models.networks import predict
from tests.models.networks import randomized
from tests.models.networks import residual
from tests.models.networks import sequential
from tests.models.networks import shared
from tests.models.processes import run_code
from tests.thoroughness import EVERYTHING

# TensorFlow alone: neither package can be imported.
_SERVE = """
import sys
sys.modules["keras"] = sys.modules["keras_sn"] = None
import json, numpy, tensorflow as tf
data = numpy.load(sys.argv[2])
served = tf.saved_model.load(sys.argv[1])
outputs = [served.serve(data[:n]).numpy().tolist() for n in (1, 7)]
print(json.dumps(outputs))
"""


def needs(*modules):
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not installed: {', '.join(missing)}"
    )


@needs("tensorflow")
def test_saved_model_served_without_keras_sn(tmp_path):
    model = normalize_model(randomized(residual()))
    path = export_model(model, tmp_path / "served")
    data = np.random.default_rng(5).standard_normal((7, 8, 8, 3))
    np.save(tmp_path / "data.npy", data.astype("float32"))
    result = run_code(_SERVE, "tensorflow", path, tmp_path / "data.npy")
    assert result.returncode == 0, result.stderr
    one, seven = json.loads(result.stdout.splitlines()[-1])
    expected = predict(model, data.astype("float32"))[0]
    assert_close(
        [expected[:1], expected], [np.array(one), np.array(seven)], 1e-4
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.npy", "served"]


@needs("tensorflow", "tf2onnx", "onnxruntime")
def test_onnx_in_onnxruntime(tmp_path):
    """A transformer, whose exact GELU tf2onnx does not know."""
    import onnxruntime

    (network,) = [n for n in NETWORKS if n.name == "transformer"]
    model = normalize_model(randomized(network.make()))
    path = export_model(model, tmp_path / "model.onnx", format="onnx")
    session = onnxruntime.InferenceSession(str(path))
    name = session.get_inputs()[0].name
    for batch in (1, 7):
        data = network.inputs(batch)
        outputs = session.run(None, {name: data})
        assert_close(predict(model, data), outputs, 1e-4)


@needs("tensorflow", "tf2onnx", "onnxruntime")
@pytest.mark.skipif(
    not EVERYTHING, reason="takes minutes: run `make test-thorough`"
)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("tf_saved_model", "served"),
        ("onnx", "model.onnx"),
        ("litert", "model.tflite"),
    ],
)
def test_every_network(network, format, name, tmp_path):
    """`export_model` compares; this checks that there is what to compare."""
    if format == "litert" and network.name == "lstm":
        pytest.skip("LiteRT has no kernels for the loops of an LSTM")
    model = normalize_model(randomized(network.make()))
    assert export_model(model, tmp_path / name, format=format).exists()


@needs("tensorflow")
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="each test process of another backend would start TensorFlow again",
)
@pytest.mark.parametrize(
    ("format", "name"),
    [("tf_saved_model", "served"), ("litert", "model.tflite")],
)
def test_several_inputs_and_outputs(format, name, tmp_path):
    export_model(normalize_model(shared()), tmp_path / name, format=format)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@needs("tensorflow")
def test_not_folded(tmp_path):
    model = normalize_model(randomized(sequential()))
    assert export_model(model, tmp_path / "served", folded=False).is_dir()


def test_wrong_artifact_never_arrives(tmp_path, monkeypatch):
    """What differs is thrown away, and the old artifact stays."""
    path = tmp_path / "model.onnx"
    path.write_text("old")
    monkeypatch.setattr(exporting, "_EXPORTERS", {"onnx": [current()]})
    monkeypatch.setattr(
        exporting, "write_artifact", lambda model, path, f: path.write_text("")
    )
    monkeypatch.setattr(exporting, "largest_difference", lambda *args: 0.1)
    with pytest.raises(RuntimeError, match=r"differs from the model by 0\.1"):
        export_model(sequential(), path, format="onnx")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def current():
    return keras.backend.backend()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "pmml"}, "must be one of"),
        ({"format": "onnx"}, r"must end in '\.onnx'"),
        ({"model": keras.Sequential([layers.Dense(2)])}, "is not built"),
        ({"path": "nowhere/served"}, "no folder"),
    ],
)
def test_bad_input(arguments, message, tmp_path):
    arguments = {"model": None, "path": "served", **arguments}
    model = arguments.pop("model") or sequential()
    path = tmp_path / arguments.pop("path")
    with pytest.raises(ValueError, match=message):
        export_model(model, path, **arguments)
    assert not list(tmp_path.iterdir())


def test_existing_artifact_is_kept(tmp_path):
    with pytest.raises(ValueError, match="exists already"):
        export_model(sequential(), tmp_path, overwrite=False)
