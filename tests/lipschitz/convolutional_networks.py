"""Random networks of convolutions, and their worst slopes found by attack."""

import keras
import numpy as np
from keras import layers

from tests.gradients import gradients
from tests.truth import dense_matrix
from tests.truth import spectral_norm

CONVOLUTIONS = [layers.Conv1D, layers.Conv2D, layers.Conv3D]
DEPTHWISE = [layers.DepthwiseConv1D, layers.DepthwiseConv2D]
SEPARABLE = [layers.SeparableConv1D, layers.SeparableConv2D]
AVERAGING = [
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
]
GLOBAL = [
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
]
ZERO_PADDING = [
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
]
CROPPING = [layers.Cropping1D, layers.Cropping2D, layers.Cropping3D]
# Activations by the slopes that they have.
ACTIVATIONS = {
    "relu": (0.0, 1.0),
    "leaky_relu": (0.2, 1.0),
    "gelu": (-0.1289041452, 1.1289041452),
    "selu": (0.0, 1.7580993409),
    "sigmoid": (0.0, 0.25),
}


class Mask(layers.Layer):
    """A number of its own for each entry, in place of an activation."""

    def __init__(self, low, high, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def build(self, input_shape):
        self.slopes = self.add_weight(shape=input_shape[1:], name="slopes")

    def call(self, inputs):
        return inputs * self.slopes


def linearized(model):
    """The model with a `Mask` for each activation, and without biases."""

    def clone(layer):
        if isinstance(layer, layers.Activation):
            return Mask(*ACTIVATIONS[layer.activation.__name__])
        return layer.__class__.from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=clone)
    for mine, its in zip(model.layers, twin.layers, strict=True):
        if isinstance(its, Mask):
            continue
        its.set_weights(mine.get_weights())
        for variable in its.variables:
            if variable.name in ("bias", "beta", "moving_mean"):
                variable.assign(np.zeros(variable.shape))
    return twin


def attacked_norm(model, rng, starts=2, rounds=5):
    """The largest norm found of the model with slopes chosen at will."""
    twin = linearized(model)
    masks = [layer for layer in twin.layers if isinstance(layer, Mask)]
    shape = model.input_shape[1:]
    best = 0.0
    for start in range(starts):
        for mask in masks:
            ends = np.array([mask.low, mask.high])
            picked = rng.integers(2, size=mask.slopes.shape) | (start == 0)
            mask.slopes.assign(ends[picked])
        for _ in range(rounds if masks else 1):
            matrix = dense_matrix(twin, shape)
            best = max(best, spectral_norm(matrix))
            if not masks:
                break
            top = np.linalg.svd(matrix.T)[2][0].reshape(1, *shape)
            ascend(twin, masks, top.astype("float32"))
        best = max(best, spectral_norm(dense_matrix(twin, shape)))
    return best


def ascend(twin, masks, direction):
    """Takes each slope to the end at which `|f(direction)|` grows."""
    found = gradients(
        lambda: keras.ops.sum(twin(direction) ** 2), [m.slopes for m in masks]
    )
    for mask, gradient in zip(masks, found, strict=True):
        rising = keras.ops.convert_to_numpy(gradient) > 0
        mask.slopes.assign(np.where(rising, mask.high, mask.low))


def random_convolutional_network(rng):
    """A network of convolutions of any kind that a torus takes."""
    axes = int(rng.choice([1, 2, 2, 2, 3]))
    first = keras.config.backend() != "tensorflow" and rng.random() < 0.3
    data_format = "channels_first" if first else "channels_last"
    sizes = [int(n) for n in rng.integers(3, 7 - axes + 2, axes)]
    channels = int(rng.integers(1, 3))
    shape = [channels, *sizes] if first else [*sizes, channels]
    inputs = x = keras.Input(shape)
    for _ in range(rng.integers(1, 4)):
        x = _block(x, axes, data_format, rng)
    x = _end(x, axes, data_format, rng)
    return keras.Model(inputs, x)


def _sizes(x, data_format):
    return x.shape[2:] if data_format == "channels_first" else x.shape[1:-1]


def _block(x, axes, data_format, rng):
    kind = rng.integers(10)
    axis = 1 if data_format == "channels_first" else -1
    settings = {"data_format": data_format}
    smallest = min(_sizes(x, data_format))
    if kind == 0 and smallest > 2:
        pool = int(rng.integers(2, min(smallest, 3) + 1))
        strides = int(rng.integers(1, pool + 1))
        padding = str(rng.choice(["valid", "same"]))
        x = AVERAGING[axes - 1](pool, strides, padding, **settings)(x)
    elif kind == 1:
        margin = int(rng.integers(1, 3))
        x = ZERO_PADDING[axes - 1](margin, **settings)(x)
    elif kind == 2 and smallest > 2:
        frame = [(0, int(rng.integers(0, 2))) for _ in range(axes)]
        if axes > 1:
            x = CROPPING[axes - 1](frame, **settings)(x)
        elif data_format == "channels_last":
            x = layers.Cropping1D(frame[0])(x)
    elif kind == 3:
        y = _convolution(x, axes, data_format, rng, keep=True)
        y = layers.Activation(_name(rng))(y)
        if rng.random() < 0.5:
            y = _convolution(y, axes, data_format, rng, keep=True)
        merge = [layers.Add, layers.Subtract, layers.Average][rng.integers(3)]
        return layers.Activation(_name(rng))(merge()([x, y]))
    elif kind == 4:
        y = _convolution(x, axes, data_format, rng, keep=True)
        y = layers.Activation(_name(rng))(y)
        x = layers.Concatenate(axis=axis)([x, y])
    x = _convolution(x, axes, data_format, rng)
    if rng.random() < 0.4:
        x = layers.BatchNormalization(axis=axis)(x)
    if rng.random() < 0.85:
        x = layers.Activation(_name(rng))(x)
    return x


def _name(rng):
    return str(rng.choice(list(ACTIVATIONS)))


def _convolution(x, axes, data_format, rng, keep=False):
    """A convolution that fits; with `keep` one that keeps the shape."""
    first = data_format == "channels_first"
    channels = x.shape[1] if first else x.shape[-1]
    smallest = min(_sizes(x, data_format))
    settings = {"data_format": data_format, "padding": "same"}
    size = int(rng.integers(1, 5))
    if not keep:
        paddings = ["valid", "same", *(["causal"] * (axes == 1))]
        settings["padding"] = str(rng.choice(paddings))
        if settings["padding"] == "valid":
            size = min(size, smallest)
    kind = rng.integers(6)
    if kind == 0 and axes < 3 and not keep and settings["padding"] != "causal":
        settings["strides"] = int(rng.integers(1, 3))
        return DEPTHWISE[axes - 1](size, depth_multiplier=2, **settings)(x)
    filters = channels if keep else int(rng.integers(1, 5))
    if kind == 1 and axes < 3 and settings["padding"] != "causal":
        return SEPARABLE[axes - 1](filters, size, **settings)(x)
    if kind == 2 and settings["padding"] != "valid":
        settings["dilation_rate"] = 2
    elif not keep:
        settings["strides"] = int(rng.integers(1, 4))
    if kind == 3 and channels % 2 == 0 and filters % 2 == 0 and not first:
        settings["groups"] = 2
    return CONVOLUTIONS[axes - 1](filters, size, **settings)(x)


def _end(x, axes, data_format, rng):
    kind = rng.integers(5)
    if kind == 0:
        return x
    if kind < 3:
        keepdims = bool(rng.random() < 0.2)
        x = GLOBAL[axes - 1](data_format=data_format, keepdims=keepdims)(x)
    else:
        x = layers.Flatten(data_format=data_format)(x)
    if len(x.shape) > 2 or rng.random() < 0.2:
        return x
    x = layers.Dense(3)(x)
    if rng.random() < 0.5:
        x = layers.Dense(2)(layers.Activation(_name(rng))(x))
    return x
