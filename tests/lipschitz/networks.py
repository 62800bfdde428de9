"""Random small networks, and random weights for any model."""

import keras
import numpy as np
from keras import layers

ACTIVATIONS = [
    "relu",
    "relu6",
    "tanh",
    "hard_tanh",
    "softsign",
    "softplus",
    "celu",
    "elu",
    "log_sigmoid",
    "soft_shrink",
    "tanh_shrink",
    "sparse_plus",
    "squareplus",
    "linear",
    "leaky_relu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "hard_silu",
    "sigmoid",
    "hard_sigmoid",
    "sparse_sigmoid",
    "softmax",
    "log_softmax",
]


def randomize(model, rng, spread=1.0):
    """Random weights; variances positive, everything else of any sign."""
    for variable in model.variables:
        if "seed" in variable.path:
            continue
        shape = tuple(variable.shape)
        values = rng.normal(size=shape)
        if "variance" in variable.path:
            values = rng.uniform(0.1, 2.0, size=shape)
        elif "kernel" in variable.path:
            fan_in = max(int(np.prod(shape[:-1])), 1)
            values *= spread / np.sqrt(fan_in)
        variable.assign(values.astype("float32"))
    return model


def random_network(rng):
    """A network of a few layers out of all kinds that have a bound."""
    dense = rng.random() < 0.4
    inputs = keras.Input((5,) if dense else (6, 6, 2))
    x = inputs
    for _ in range(rng.integers(1, 4)):
        x = _dense_block(x, rng) if dense else _image_block(x, rng)
    if not dense:
        kind = rng.integers(4)
        if kind == 0:
            x = layers.GlobalAveragePooling2D()(x)
        elif kind == 1:
            x = layers.GlobalMaxPooling2D()(x)
        elif kind == 2:
            x = layers.Flatten()(x)
    if rng.random() < 0.6:
        x = layers.Dense(4)(x)
    return randomize(keras.Model(inputs, x), rng)


def _activation(x, rng):
    kind = rng.integers(6)
    if kind == 0:
        return layers.PReLU(shared_axes=[1, 2] if len(x.shape) == 4 else None)(
            x
        )
    if kind == 1:
        return layers.ReLU(max_value=1.5, negative_slope=0.1)(x)
    if kind == 2:
        return layers.ELU(alpha=1.3)(x)
    return layers.Activation(str(rng.choice(ACTIVATIONS)))(x)


def _dense_block(x, rng):
    kind = rng.integers(8)
    if kind == 0:
        return layers.BatchNormalization()(x)
    if kind == 1:
        return layers.LayerNormalization(epsilon=0.1)(x)
    if kind == 2:
        y = layers.Dense(x.shape[-1], str(rng.choice(ACTIVATIONS)))(x)
        return layers.Add()([x, y])
    if kind == 3:
        y = layers.Dense(3, str(rng.choice(ACTIVATIONS)))(x)
        return layers.Concatenate()([y, x])
    if kind == 4:
        y = layers.Dense(x.shape[-1])(x)
        merge = [layers.Maximum, layers.Minimum, layers.Average][
            rng.integers(3)
        ]
        return merge()([x, y])
    x = layers.Dense(int(rng.choice([3, 6])))(x)
    if rng.random() < 0.3:
        x = layers.BatchNormalization()(x)
    return _activation(x, rng)


def _image_block(x, rng):
    kind = rng.integers(12)
    size = x.shape[1]
    if kind == 0 and size > 2:
        return layers.MaxPooling2D(3, 2, padding="same")(x)
    if kind == 1 and size > 2:
        return layers.AveragePooling2D(3, 1, padding="same")(x)
    if kind == 2:
        y = layers.Conv2D(x.shape[-1], 3, padding="same")(x)
        return layers.Add()([x, _activation(y, rng)])
    if kind == 3:
        y = layers.SeparableConv2D(3, 3, padding="same")(x)
        return layers.Concatenate()([x, y])
    if kind == 4:
        return layers.GroupNormalization(1, epsilon=0.1)(x)
    if kind == 5:
        return layers.UpSampling2D(2, interpolation="bilinear")(x)
    if kind == 6:
        x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
        return _activation(x, rng)
    if kind == 7:
        x = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(x)
        return layers.MaxPooling2D(2)(_activation(x, rng))
    if kind == 8:
        return layers.LayerNormalization(axis=[1, 2, 3], epsilon=0.1)(x)
    if kind == 9:
        x = layers.Conv2D(3, 3, padding="same", dilation_rate=2)(x)
    else:
        strides = int(rng.integers(1, 3))
        x = layers.Conv2D(4, 3, strides=strides, padding="same")(x)
    if rng.random() < 0.5:
        x = layers.BatchNormalization()(x)
    return _activation(x, rng)
