"""Trains one model in one backend and writes its weights: a test's child.

KERAS_BACKEND=jax python -m tests.layers.trajectory OUT.npz MODE RUN...

A run is a norm and an optimizer, such as `kernel/sgd`.
"""

import sys

import keras
import numpy as np
from keras import layers

from keras_sn.layers import SpectralNormalization

STEPS, BATCH = 50, 16
MODES = {
    "eager": {"run_eagerly": True},
    "compiled": {"jit_compile": False},
    "jit": {"jit_compile": True},
}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "adam": lambda: keras.optimizers.Adam(0.003),
}


def build(norm):
    """Conv + LSTM + Dense, all wrapped."""

    def wrap(layer):
        return SpectralNormalization(layer, norm=norm)

    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            wrap(layers.Conv2D(4, 3, padding="same", activation="tanh")),
            wrap(layers.Conv2D(4, 3, strides=2, groups=2)),
            layers.Reshape((4, 4)),
            wrap(layers.LSTM(5)),
            wrap(layers.Dense(3)),
        ]
    )


def set_initial_state(model, rng):
    """Values for all variables, the same on every backend; unit vectors."""
    for variable in model.variables:
        value = rng.standard_normal(tuple(variable.shape))
        if variable.name.startswith(("vector_", "previous_u")):
            value /= np.linalg.norm(value, axis=-1, keepdims=True)
        if variable.name == "age":
            value *= 0
        variable.assign(value.astype("float32"))


def train(norm, optimizer, mode):
    """Weights after training on fixed batches, and the last loss."""
    rng = np.random.default_rng(0)
    model = build(norm)
    set_initial_state(model, rng)
    model.compile(OPTIMIZERS[optimizer](), "mse", **MODES[mode])
    inputs = rng.standard_normal((STEPS * BATCH, 6, 6, 2)).astype("float32")
    targets = rng.standard_normal((STEPS * BATCH, 3)).astype("float32")
    history = model.fit(
        inputs, targets, batch_size=BATCH, shuffle=False, verbose=0
    )
    return [*model.get_weights(), np.array(history.history["loss"])]


def main(path, mode, *runs):
    results = {}
    for run in runs:
        norm, optimizer = run.split("/")
        for i, value in enumerate(train(norm, optimizer, mode)):
            results[f"{run}/{i:02}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
