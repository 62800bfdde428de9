"""Tests of export_model and of the artifacts it leaves."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.models import export_model
from keras_sn.models import normalize_model
from keras_sn.models.export import artifacts
from keras_sn.models.export import exporting
from keras_sn.models.export.exporting import format_of
from keras_sn.models.export.samples import load_samples
from keras_sn.models.export.samples import make_samples
from tests.models.networks import NETWORKS
from tests.models.networks import assert_close
from tests.models.networks import predict
from tests.models.networks import randomized
from tests.models.networks import residual
from tests.models.networks import sequential
from tests.models.networks import shared
from tests.models.processes import run_code
from tests.thoroughness import EVERYTHING
from tests.thoroughness import left_out

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
@left_out("jax", reason="TensorFlow writes it")
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
@left_out(
    "jax", "torch", reason="TensorFlow, in another process, writes the file"
)
def test_of_a_wrapper_whose_norm_lags(tmp_path):
    """As after training: what is exported has the norm asked for."""
    wrapper = SpectralNormalization(layers.Dense(40, use_bias=False))
    model = keras.Sequential([keras.Input((40,)), wrapper])
    kernel = np.diag(np.linspace(2, 1, 40))
    # The state knows the vectors behind the dominant one, and not that.
    wrapper.layer.kernel.assign(kernel * (kernel < 2))
    wrapper.refresh()
    wrapper.layer.kernel.assign(kernel)
    assert predict(model, np.eye(40, dtype="float32"))[0].max() > 1.01
    path = export_model(model, tmp_path / "served")
    data = np.eye(40, dtype="float32")
    np.save(tmp_path / "data.npy", data)
    result = run_code(_SERVE, "tensorflow", path, tmp_path / "data.npy")
    assert result.returncode == 0, result.stderr
    served = np.array(json.loads(result.stdout.splitlines()[-1])[0])
    assert np.linalg.norm(served, 2) == pytest.approx(1, rel=1e-5)


@needs("tensorflow")
@left_out("jax", reason="as from PyTorch, by a process of TensorFlow's")
def test_not_folded(tmp_path):
    model = normalize_model(randomized(sequential()))
    assert export_model(model, tmp_path / "served", folded=False).is_dir()


@needs("tensorflow", "tf2onnx", "onnxruntime")
@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="exports ONNX by itself"
)
@left_out("jax", reason="TensorFlow writes the graph")
@pytest.mark.parametrize("replaced", [False, True])
def test_onnx_not_folded_has_no_loop(replaced, tmp_path):
    """Whichever branch is taken: that for weights as they were, or not."""
    import onnx
    import onnxruntime

    model = normalize_model(randomized(sequential()))
    if replaced:
        kernel = model.layers[0].layer.kernel
        rng = np.random.default_rng(1)
        kernel.assign(rng.standard_normal(tuple(kernel.shape)))
    path = export_model(
        model, tmp_path / "model.onnx", format="onnx", folded=False
    )
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert "If" not in kinds
    assert ("Loop" in kinds) == replaced
    session = onnxruntime.InferenceSession(str(path))
    data = np.random.default_rng(5).standard_normal((7, 6)).astype("float32")
    name = session.get_inputs()[0].name
    # A search on the host and one in the file stop at their own rounding.
    tolerance = 1e-3 if replaced else 1e-4
    assert_close(
        predict(model, data), session.run(None, {name: data}), tolerance
    )


def test_wrong_artifact_never_arrives(tmp_path, monkeypatch):
    """What differs is thrown away, and the old artifact stays."""
    path = tmp_path / "model.onnx"
    path.write_text("old")
    monkeypatch.setattr(exporting, "_EXPORTERS", {"onnx": [current()]})
    monkeypatch.setattr(
        exporting,
        "write_artifact",
        lambda model, path, *args: path.write_text(""),
    )
    monkeypatch.setattr(exporting, "largest_difference", lambda *args: 0.1)
    with pytest.raises(RuntimeError, match=r"differs from the model by 0\.1"):
        export_model(sequential(), path, format="onnx")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write_nothing(model, path, format, inputs):
    path.write_text("")


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


def open_length():
    """As in SpliceAI: any length, but more than it crops."""
    return keras.Sequential(
        [
            keras.Input((None, 4)),
            layers.Conv1D(3, 11, padding="same", activation="relu"),
            layers.Cropping1D(50),
        ]
    )


def sizes(samples):
    return [inputs[0].shape for inputs, _ in samples]


def test_samples_of_a_size_that_works():
    assert sizes(make_samples(open_length())) == [(1, 128, 4), (7, 128, 4)]
    assert sizes(make_samples(sequential())) == [(1, 6), (7, 6)]


def test_samples_of_a_given_size():
    found = make_samples(open_length(), input_size=101)
    assert sizes(found) == [(1, 101, 4), (7, 101, 4)]
    with pytest.raises(ValueError, match=r"(?s)\(1, 100, 4\).*`samples`"):
        make_samples(open_length(), input_size=100)


def test_samples_given():
    data = np.ones((3, 200, 4))
    samples = make_samples(open_length(), data)
    assert sizes(samples) == [(1, 200, 4), (3, 200, 4)]
    assert samples[1][1][0].shape == (3, 100, 3)
    with pytest.raises(ValueError, match=r"2 inputs .* Received: 1"):
        make_samples(shared(), data)


def test_samples_of_a_file(tmp_path):
    np.savez(tmp_path / "two.npz", b=np.zeros(2), a=np.ones(3))
    first, second = load_samples(tmp_path / "two.npz")
    assert (first.shape, second.shape) == ((2,), (3,))
    np.save(tmp_path / "one.npy", np.ones(4))
    assert len(load_samples(tmp_path / "one.npy")) == 1
    (tmp_path / "bad.npz").write_text("nothing")
    with pytest.raises(ValueError, match=r"is no \.npz"):
        load_samples(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="There is no file"):
        load_samples(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("served", "tf_saved_model"),
        ("m.onnx", "onnx"),
        ("m.tflite", "litert"),
        ("m.pt2", "torch"),
    ],
)
def test_format_by_suffix(path, format):
    assert format_of(path) == format


@pytest.mark.parametrize("name", ["s.pt", "s.h5", "served.v2"])
def test_unknown_suffix(name, tmp_path):
    with pytest.raises(ValueError, match=r"no format for the suffix.*\.onnx"):
        export_model(sequential(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def half(policy):
    with_policy = {"dtype": policy}
    dense = SpectralNormalization(layers.Dense(8, "relu", **with_policy))
    return keras.Sequential(
        [keras.Input((6,)), dense, layers.Dense(2, **with_policy)]
    )


@needs("tensorflow")
@pytest.mark.skipif(
    current() != "tensorflow",
    reason="each test process of another backend would start TensorFlow again",
)
@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"]
)
def test_half_precision(policy, tmp_path):
    model = half(policy)
    assert export_model(model, tmp_path / "served").is_dir()


@pytest.mark.parametrize(("tolerance", "passes"), [(0.2, True), (0.05, False)])
def test_tolerance_given(tolerance, passes, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_EXPORTERS", {"onnx": [current()]})
    monkeypatch.setattr(
        exporting,
        "write_artifact",
        lambda model, path, *args: path.write_text(""),
    )
    monkeypatch.setattr(exporting, "largest_difference", lambda *args: 0.1)
    path = tmp_path / "model.onnx"
    if passes:
        assert export_model(sequential(), path, tolerance=tolerance).exists()
        return
    with pytest.raises(RuntimeError, match=r"by 0\.1 .*limit is 0\.05"):
        export_model(sequential(), path, tolerance=tolerance)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_onnx_of_bfloat16(policy, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "make_samples", None)
    with pytest.raises(ValueError, match="float32 dtype policy") as error:
        export_model(half(policy), tmp_path / "model.onnx")
    assert "\n" not in str(error.value)


def test_tolerance_follows_the_dtype():
    found = [
        exporting._tolerance_of(half(policy))
        for policy in ("float32", "mixed_float16", "mixed_bfloat16")
    ]
    # Unit roundoff: 6e-8, 5e-4, 4e-3.
    assert found == sorted(found)
    assert found[0] == 1e-4
    assert 10 * 2.0**-11 < found[1] < found[2]
    assert 10 * 2.0**-8 < found[2] < 0.1


def test_small_output_by_chance():
    """The largest of all samples counts, not the largest of each."""
    samples = [([], [np.array([1e-3])]), ([], [np.array([1.0])])]
    runs = {"torch": lambda path, pack: lambda inputs: [[np.array([2e-3])]]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "_RUNNERS", runs)
        found = artifacts.largest_difference(None, "torch", samples[:1], None)
        assert found == pytest.approx(1.0)
        found = artifacts.largest_difference(None, "torch", samples, None)
        assert found == pytest.approx(1 - 2e-3)


def test_subclassed_model_says_the_way_that_works(tmp_path):
    class Code(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Code()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(ValueError, match=r"model\.call\(inputs\)"):
        export_model(model, tmp_path / "served")


def test_no_exporter_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_EXPORTERS", {"onnx": ["theano", "cntk"]})
    with pytest.raises(
        RuntimeError, match=r"theano or cntk, and none .* Install theano"
    ):
        export_model(sequential(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
