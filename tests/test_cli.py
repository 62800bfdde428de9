"""Tests of the command line: results, exit codes, one clear line on errors."""

import importlib.util
import json
import os
import re
import signal

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn import commands
from keras_sn.cli import main
from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import normalize_model
from tests.models.broken_files import UNFIT
from tests.models.broken_files import UNREADABLE
from tests.models.broken_files import no_kernel
from tests.models.networks import assert_close
from tests.models.networks import predict
from tests.models.networks import randomized
from tests.models.networks import sequential
from tests.models.processes import run_code
from tests.models.processes import run_python
from tests.thoroughness import left_out

_DEFECTS = UNREADABLE | UNFIT
_CHANGES = {
    "normalize": "out.keras",
    "fold": "out.keras",
    "upgrade": "out.keras",
    "export": "out",
}


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.keras"
    randomized(sequential()).save(path)
    return path


@pytest.fixture
def normalized(tmp_path):
    path = tmp_path / "normalized.keras"
    normalize_model(randomized(sequential()), norm_bound=1.5).save(path)
    return path


def test_report_as_json(normalized, capsys):
    assert main(["report", str(normalized), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in report["norms"]] == ["hidden", "logits"]
    for row in report["norms"]:
        assert row["lower"] == pytest.approx(1.5, abs=1e-3)
        assert row["lower"] <= row["upper"] < 1.501
    assert report["network"]["upper"] <= 1.501**2


def test_report_on_balls(plain, tmp_path, capsys):
    arguments = ["report", str(plain), "--json", "--radius", "0.01"]
    assert main(arguments) == 1
    assert "go together" in capsys.readouterr().err
    model = keras.saving.load_model(plain)
    samples = tmp_path / "samples.npz"
    shape = model.inputs[0].shape[1:]
    np.savez(samples, np.random.default_rng(0).normal(size=(3, *shape)))
    assert main([*arguments, "--samples", str(samples)]) == 0
    report = json.loads(capsys.readouterr().out)["network"]
    assert report["upper"] == max(report["per_sample"])
    assert len(report["per_sample"]) == 3


def test_report_as_table_and_plot(normalized, tmp_path, capsys):
    plot = tmp_path / "norms.png"
    arguments = ["report", str(normalized), "--plot", str(plot)]
    assert main([*arguments, "--lipschitz", "none"]) == 0
    printed = capsys.readouterr().out
    assert "hidden/kernel" in printed
    assert "1.5" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err


def test_normalize_and_fold(plain, tmp_path):
    wrapped, folded = tmp_path / "wrapped.keras", tmp_path / "folded.keras"
    arguments = ["normalize", str(plain), str(wrapped), "--layers", "hid*"]
    assert main([*arguments, "--norm-bound", "2"]) == 0
    model = keras.saving.load_model(wrapped)
    assert isinstance(model.get_layer("hidden"), SpectralNormalization)
    assert model.get_layer("hidden").norm_bound == 2
    assert isinstance(model.get_layer("logits"), layers.Dense)
    assert main(["fold", str(wrapped), str(folded), "--certified"]) == 0
    data = np.ones((2, 6), "float32")
    assert_close(
        predict(model, data),
        predict(keras.saving.load_model(folded), data),
        1e-4,
    )


def test_normalize_with_the_variants(plain, tmp_path):
    output = tmp_path / "out.keras"
    options = ["--norm-bound", "rms", "--norm", "bidirectional"]
    assert main(["normalize", str(plain), str(output), *options]) == 0
    wrapper = keras.saving.load_model(output).get_layer("hidden")
    assert (wrapper.norm_bound, wrapper.norm) == ("rms", "bidirectional")


@pytest.mark.parametrize("bound", ["rsm", "-1"])
def test_normalize_with_a_bound_that_is_none(bound, plain, tmp_path, capsys):
    arguments = ["normalize", str(plain), str(tmp_path / "out.keras")]
    try:
        code = main([*arguments, f"--norm-bound={bound}"])
    except SystemExit as stopped:
        code = stopped.code
    assert code != 0
    error = capsys.readouterr().err
    assert "norm-bound" in error or "norm_bound" in error
    assert bound in error


def test_normalize_to_a_budget(plain, tmp_path):
    output = tmp_path / "out.keras"
    command = ["normalize", str(plain), str(output), "--lipschitz", "9"]
    assert main(command) == 0
    bound = keras.saving.load_model(output).get_layer("hidden").norm_bound
    assert bound == pytest.approx(3, rel=1e-3)


def test_upgrade(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.SpectralNormalization(layers.Dense(3), name="stock"),
        ]
    )
    model.save(tmp_path / "stock.keras")
    names = [str(tmp_path / "stock.keras"), str(tmp_path / "ours.keras")]
    assert main(["upgrade", *names]) == 0
    upgraded = keras.saving.load_model(names[1])
    assert type(upgraded.get_layer("stock")) is SpectralNormalization


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="export from other backends is tested in tests/models",
)
def test_export(normalized, tmp_path, capsys):
    assert main(["export", str(normalized), str(tmp_path / "served")]) == 0
    assert (tmp_path / "served" / "saved_model.pb").exists()
    assert "tf_saved_model" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", _DEFECTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("command", ["report", *_CHANGES])
def test_bad_file(command, spoil, plain, tmp_path, capsys):
    if command == "export" and spoil is no_kernel:
        pytest.skip("a model without kernels can be exported")
    spoil(plain)
    before = sorted(tmp_path.iterdir())
    arguments = [command, str(plain)]
    if command != "report":
        arguments.append(str(tmp_path / _CHANGES[command]))
    assert main(arguments) == 1
    assert_one_line(capsys, _DEFECTS[spoil])
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", _CHANGES)
def test_never_overwrites(command, normalized, tmp_path, capsys):
    output = tmp_path / "there.keras"
    output.write_text("precious")
    assert main([command, str(normalized), str(output)]) == 1
    assert "--force" in capsys.readouterr().err
    assert output.read_text() == "precious"


def test_force_overwrites(normalized, tmp_path):
    output = tmp_path / "there.keras"
    output.write_text("old")
    assert main(["fold", str(normalized), str(output), "--force"]) == 0
    assert keras.saving.load_model(output).built


@pytest.fixture
def locked(tmp_path):
    """A folder that nobody can write to."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    # Root may write anywhere but where there is nothing to write to.
    return "/proc" if os.access(folder, os.W_OK) else folder


@pytest.mark.parametrize(("command", "name"), _CHANGES.items())
def test_read_only_folder(command, name, locked, tmp_path, capsys):
    model = randomized(sequential())
    if command == "upgrade":
        stock = layers.SpectralNormalization(layers.Dense(3))
        model = keras.Sequential([keras.Input((4,)), stock])
    elif command == "fold":
        model = normalize_model(model)
    path = tmp_path / "model.keras"
    model.save(path)
    assert main([command, str(path), f"{locked}/{name}"]) == 1
    assert_one_line(capsys, "Cannot write to folder")


def test_plot_to_a_read_only_folder(plain, locked, capsys):
    arguments = ["report", str(plain), "--plot", f"{locked}/norms.png"]
    assert main([*arguments, "--lipschitz", "none"]) == 1
    assert_one_line(capsys, "Cannot write to folder")


@pytest.mark.parametrize(("command", "name"), _CHANGES.items())
def test_no_folder(command, name, plain, tmp_path, capsys):
    output = tmp_path / "nowhere" / name
    assert main([command, str(plain), str(output)]) == 1
    assert_one_line(capsys, "There is no folder")
    assert list(tmp_path.iterdir()) == [plain]


def assert_one_line(capsys, message):
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("keras-sn: ")
    assert re.search(message, error)


@pytest.mark.parametrize("arguments", [[], ["paint"], ["fold", "a.keras"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: keras-sn" in capsys.readouterr().err


def test_old_file(tmp_path, capsys):
    path = tmp_path / "old.h5"
    sequential().save(path)
    assert main(["report", str(path)]) == 1
    assert_one_line(capsys, r"HDF5 file.*save\('.*old\.keras'\)")


_MODULE = """
import keras

@keras.saving.register_keras_serializable("mine")
class Twice(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2
"""


@left_out("jax", "tensorflow", reason="the command line is the same everywhere")
def test_class_of_ones_own(tmp_path, monkeypatch):
    """The message names the class; what it says works."""
    (tmp_path / "my_module.py").write_text(_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    layer = importlib.import_module("my_module").Twice()
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), layer]).save(
        "custom.keras"
    )
    backend = keras.backend.backend()
    report = ["report", "custom.keras", "--lipschitz", "none"]
    failed = run_python(["-m", "keras_sn", *report], backend)
    assert failed.returncode == 1
    line = failed.stderr.strip().splitlines()[-1]
    assert "mine>Twice" in line or "Twice" in line
    assert "--import my_module custom.keras" in line
    report[1:1] = ["--import", "my_module"]
    result = run_python(["-m", "keras_sn", *report], backend)
    assert result.returncode == 0, result.stderr
    assert "dense/kernel" in result.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="only TensorFlow writes SavedModels",
)
@left_out("jax", "torch", reason="it is TensorFlow that prints")
def test_exporting_is_quiet(plain, tmp_path, monkeypatch):
    """TensorFlow tells of its processor, absl of gradients nobody wants."""
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    result = run_python(
        ["-m", "keras_sn", "export", str(plain), str(tmp_path / "served")],
        keras.backend.backend(),
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_missing_module(plain, capsys):
    arguments = ["report", str(plain), "--import", "no_such_module"]
    assert main(arguments) == 1
    assert_one_line(capsys, "no_such_module")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "table"])
def test_norms_survive_a_failure_of_the_network(
    as_json, normalized, capsys, monkeypatch
):
    def fail(model, **kwargs):
        raise IndexError("out of the blue")

    monkeypatch.setattr(commands, "lipschitz_bound", fail)
    arguments = ["report", str(normalized), *["--json"] * as_json]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "hidden/kernel" in captured.out
    if as_json:
        assert json.loads(captured.out)["network"] is None
    assert captured.err.count("\n") == 1
    assert "IndexError: out of the blue" in captured.err


def test_options_reach_the_bound(plain, monkeypatch, capsys):
    seen = {}

    def bound(model, **kwargs):
        seen.update(kwargs)
        return lipschitz_bound(model, **kwargs)

    monkeypatch.setattr(commands, "lipschitz_bound", bound)
    arguments = ["report", str(plain), "--time-limit", "5"]
    assert main([*arguments, "--lipschitz", "product"]) == 0
    assert seen["time_limit"] == 5
    assert seen["method"] == "product"
    assert seen["data"] is None
    assert main([*arguments, "--input-size", "9"]) == 0
    assert seen["data"][0].shape == (8, 6)
    for limit in ("0", "-1", "nan", "soon"):
        with pytest.raises(SystemExit):
            main(["report", str(plain), "--time-limit", limit])
    assert "--time-limit" in capsys.readouterr().err


def test_options_reach_the_export(plain, tmp_path, monkeypatch):
    seen = {}

    def export(model, path, format, **kwargs):
        seen.update(kwargs, format=format)

    monkeypatch.setattr(commands, "export_model", export)
    np.save(tmp_path / "data.npy", np.ones((2, 6)))
    arguments = ["export", str(plain), str(tmp_path / "model.onnx")]
    data = ["--samples", str(tmp_path / "data.npy")]
    assert main([*arguments, *data, "--tolerance", "0.5"]) == 0
    assert seen["format"] == "onnx"
    assert seen["tolerance"] == 0.5
    assert [x.shape for x in seen["samples"]] == [(2, 6)]
    assert main([*arguments, "--input-size", "7"]) == 0
    assert seen["input_size"] == 7
    assert seen["samples"] is seen["tolerance"] is None


@pytest.mark.parametrize("name", ["s.pt", "s.h5"])
def test_export_to_an_unknown_suffix(name, plain, tmp_path, capsys):
    assert main(["export", str(plain), str(tmp_path / name)]) == 1
    assert_one_line(capsys, r"no format for the suffix.*\.onnx")
    assert list(tmp_path.iterdir()) == [plain]


_KILLED = """
import os, signal, sys
{patch}
from keras_sn.cli import main
main(sys.argv[1:])
"""
_KILLED_WRITING = """
import keras
def save(self, path, **kwargs):
    open(path, "wb").write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
keras.Model.save = save
"""
_KILLED_PLACING = """
def replace(*args):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
"""


@left_out(
    "jax", "tensorflow", reason="files are written the same way everywhere"
)
@pytest.mark.parametrize(
    "patch", [_KILLED_WRITING, _KILLED_PLACING], ids=["writing", "placing"]
)
def test_killed_while_saving(patch, normalized, tmp_path):
    output = tmp_path / "out.keras"
    assert main(["fold", str(normalized), str(output)]) == 0
    before = output.read_bytes()
    result = run_code(
        _KILLED.format(patch=patch),
        keras.backend.backend(),
        *["fold", normalized, output, "--force"],
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert output.read_bytes() == before
    assert keras.saving.load_model(output).built
