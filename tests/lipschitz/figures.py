"""Figures of reports on one backend, as JSON: a test's child.

KERAS_BACKEND=jax python tests/lipschitz/figures.py
"""

import json

import keras
import networks
import numpy as np
from keras import layers

from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz import lipschitz_bound


def smooth_convolutional():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="tanh"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(8, "gelu"),
            layers.Dense(3),
        ]
    )


def relu_stack():
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "relu"),
            layers.Dense(16, "relu"),
            layers.Dense(3),
        ]
    )


MODELS = [smooth_convolutional, relu_stack]


def figures(build):
    """Bounds and means of certified radii, everywhere and on balls."""
    model = networks.randomize(build(), np.random.default_rng(0))
    report = lipschitz_bound(model)
    shape = model.inputs[0].shape[1:]
    x = np.random.default_rng(1).normal(size=(8, *shape)).astype("float32")
    near = lipschitz_bound(model, "closed_form", x=x, radius=0.1)
    return (
        report.lower,
        report.upper,
        near.upper,
        float(certified_radius(model, x).mean()),
        float(certified_radius(model, x, local=True).mean()),
    )


if __name__ == "__main__":
    print(json.dumps({build.__name__: figures(build) for build in MODELS}))
