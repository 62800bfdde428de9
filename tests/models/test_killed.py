"""Killed in the middle of training and of exporting."""

import signal

import keras
import numpy as np

from keras_sn.models import export_model
from tests.models.networks import sequential
from tests.models.processes import run_code

_TRAIN = """
import os, signal, sys
import keras, numpy as np
from keras_sn.models import normalize_model
from tests.models.networks import mobile

folder, kill = sys.argv[1], sys.argv[2] == "kill"
keras.utils.set_random_seed(3)
model = normalize_model(mobile())
model.compile(keras.optimizers.Adam(0.01), "mse")

class Kill(keras.callbacks.Callback):
    epoch = 0
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if kill and self.epoch == 2 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

rng = np.random.default_rng(0)
images = rng.standard_normal((12, 8, 8, 3)).astype("float32")
model.fit(
    images,
    images.mean((1, 2))[:, :2],
    batch_size=4,
    epochs=4,
    shuffle=False,
    verbose=0,
    callbacks=[keras.callbacks.BackupAndRestore(folder + "/backup"), Kill()],
)
model.save_weights(sys.argv[3])
np.savez(sys.argv[3] + ".npz", *model.get_weights())
"""


def trained(folder, kill):
    folder.mkdir(exist_ok=True)
    path = folder / "final.weights.h5"
    backend = keras.backend.backend()
    result = run_code(_TRAIN, backend, folder, kill, path)
    if kill == "kill":
        assert result.returncode == -signal.SIGKILL, result.stderr
        return None
    assert result.returncode == 0, result.stderr
    with np.load(f"{path}.npz") as arrays:
        return [arrays[name] for name in arrays.files]


def test_killed_in_fit_and_started_again(tmp_path):
    expected = trained(tmp_path / "whole", "")
    trained(tmp_path / "killed", "kill")
    assert (tmp_path / "killed" / "backup").exists()
    resumed = trained(tmp_path / "killed", "")
    for a, b in zip(expected, resumed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


_EXPORT = """
import os, signal, sys
from keras_sn.models import files, export_model
from tests.models.networks import sequential

def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)

files._move_into_place = killed
export_model(sequential(), sys.argv[1])
"""


def test_killed_while_exporting(tmp_path):
    path = tmp_path / "served"
    export_model(sequential(), path)
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    result = run_code(_EXPORT, keras.backend.backend(), path)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert before == {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
