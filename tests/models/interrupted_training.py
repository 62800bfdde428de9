"""A training run that backs itself up, and can be told to be killed.

python tests/models/interrupted_training.py FOLDER WEIGHTS.npz [kill]
"""

import os
import signal
import sys

import keras
import numpy as np

from keras_sn.models import normalize_model
from tests.models.networks import mobile


class Kill(keras.callbacks.Callback):
    """Ends the process in the middle of the third epoch."""

    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def train(*callbacks):
    """Trains, always in the same way; returns the final weights."""
    keras.utils.set_random_seed(3)
    model = normalize_model(mobile())
    model.compile(keras.optimizers.Adam(0.01), "mse")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((12, 8, 8, 3)).astype("float32")
    model.fit(
        images,
        images.mean((1, 2))[:, :2],
        batch_size=4,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model.get_weights()


if __name__ == "__main__":
    folder, path, *kill = sys.argv[1:]
    backup = keras.callbacks.BackupAndRestore(folder)
    np.savez(path, *train(backup, *[Kill() for _ in kill]))
