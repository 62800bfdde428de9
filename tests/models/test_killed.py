"""Killed in the middle of training and of exporting."""

import signal

import keras
import numpy as np

from keras_sn.models import export_model
from tests.models.interrupted_training import train
from tests.models.networks import sequential
from tests.models.processes import ROOT
from tests.models.processes import run_code
from tests.models.processes import run_python
from tests.thoroughness import left_out

_SCRIPT = ROOT / "tests" / "models" / "interrupted_training.py"


@left_out("jax", "tensorflow", reason="compiles in three processes")
def test_killed_in_fit_and_started_again(tmp_path):
    backup, path = tmp_path / "backup", tmp_path / "weights.npz"
    backend = keras.backend.backend()
    killed = run_python([_SCRIPT, backup, path, "kill"], backend)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert backup.exists()
    assert not path.exists()
    resumed = run_python([_SCRIPT, backup, path], backend)
    assert resumed.returncode == 0, resumed.stderr
    expected = train()
    with np.load(path) as arrays:
        weights = [arrays[name] for name in arrays.files]
    for a, b in zip(expected, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


_EXPORT = """
import os, signal, sys
from keras_sn.models import files, export_model
from tests.models.networks import sequential

def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)

files._move_into_place = killed
export_model(sequential(), sys.argv[1], sys.argv[2])
"""


@left_out(
    "jax", "tensorflow", reason="files are written the same way everywhere"
)
def test_killed_while_exporting(tmp_path):
    """By the backend's own exporter, so that it takes no more processes."""
    on_torch = keras.backend.backend() == "torch"
    format = "torch" if on_torch else "tf_saved_model"
    path = tmp_path / ("model.pt2" if on_torch else "served")
    export_model(sequential(), path, format)
    before = contents(path)
    result = run_code(_EXPORT, keras.backend.backend(), path, format)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert before == contents(path)


def contents(path):
    """Dict of the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {p: p.read_bytes() for p in files if p.is_file()}
