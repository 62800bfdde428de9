"""Small models with dense, convolutional and attention kernels, and data."""

import keras
import numpy as np
from keras import layers


def mixed(**options):
    """Convolutions, attention, dense; `options` go to each such layer."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, strides=2, groups=2, padding="same", **options)(
        inputs
    )
    x = layers.Reshape((16, 6))(x)
    x = layers.MultiHeadAttention(2, 4, **options)(x, x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3, **options)(x))


def batches(steps, shape=(8, 8, 2), outputs=3, size=16):
    """Fixed random batches, `[(inputs, targets), ...]`."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.standard_normal((size, *shape)).astype("float32"),
            rng.standard_normal((size, outputs)).astype("float32"),
        )
        for _ in range(steps)
    ]


def set_weights(model, scale=0.5):
    """Values for all trainable weights, the same on every backend."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        value = rng.standard_normal(tuple(variable.shape))
        variable.assign((scale * value).astype("float32"))
