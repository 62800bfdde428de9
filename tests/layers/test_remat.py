"""Rematerialization: the same training."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.layers.weight_override import rematerializes


def test_a_layer_anywhere_inside_counts():
    with keras.RematScope(mode="full"):
        inside = layers.Dense(2)
    assert rematerializes(keras.Sequential([inside]))
    assert not rematerializes(layers.Dense(2))


LAYERS = {
    "dense": lambda: layers.Dense(4),
    "conv": lambda: layers.Conv1D(4, 3, activation="relu"),
    "lstm": lambda: layers.LSTM(4),
    "model": lambda: keras.Sequential(
        [
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.Dense(3, activity_regularizer="l2"),
        ]
    ),
}


def losses(make, mode):
    keras.utils.set_random_seed(0)
    scope = keras.RematScope(mode=mode) if mode else contextlib.nullcontext()
    with scope:
        wrapper = SpectralNormalization(make())
    model = keras.Sequential([keras.Input((9, 4)), wrapper])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = np.random.default_rng(0).standard_normal((8, 9, 4))
    targets = np.ones(model(inputs).shape)
    return model.fit(
        inputs, targets, epochs=4, verbose=0, shuffle=False
    ).history["loss"]


@pytest.mark.parametrize("kind", LAYERS)
def test_trains_the_same(kind):
    plain = losses(LAYERS[kind], None)
    assert plain[-1] < plain[0]
    assert losses(LAYERS[kind], "full") == pytest.approx(plain, rel=1e-5)
