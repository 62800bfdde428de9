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


def strided_chain():
    inputs = keras.Input((6, 5, 2))
    x = layers.Conv2D(3, 3, padding="same")(inputs)
    x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    x = layers.Conv2D(4, 3, 2, padding="same", activation="relu")(x)
    x = layers.SeparableConv2D(4, 2)(layers.AveragePooling2D(2, 1)(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def residual_chain():
    inputs = keras.Input((5, 5, 2))
    x = layers.Conv2D(3, 3, padding="same", activation="gelu")(inputs)
    y = layers.Conv2D(3, 3, padding="same", activation="relu")(x)
    x = layers.Concatenate()([x, layers.Add()([x, y])])
    x = layers.Conv2D(3, 3, strides=2)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


# The first two are searched for lower bounds too.
MODELS = [smooth_convolutional, relu_stack, strided_chain, residual_chain]


def figures(build):
    """Bounds and certified radii, everywhere and on balls."""
    model = networks.randomize(build(), np.random.default_rng(0))
    report = lipschitz_bound(model, lower=build in MODELS[:2])
    shape = model.inputs[0].shape[1:]
    x = np.random.default_rng(1).normal(size=(6, *shape)).astype("float32")
    near = lipschitz_bound(model, "closed_form", x=x, radius=[0.1] * 5 + [2])
    closed = lipschitz_bound(model, "closed_form", lower=False)
    return [
        *(report.lower, report.upper, closed.upper),
        *near.per_sample,
        *certified_radius(model, x).tolist(),
        *certified_radius(model, x, local=True).tolist(),
    ]


if __name__ == "__main__":
    print(json.dumps({build.__name__: figures(build) for build in MODELS}))
