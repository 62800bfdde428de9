"""The layers of bounded norm, and what to feed them: one table."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from keras_sn import layers


@dataclasses.dataclass(frozen=True)
class Bounded:
    """A layer that is 1-Lipschitz and what it takes.

    Args:
        name: Name of the test.
        make: Function that makes the layer.
        shape: Shape of an input, without the batch axis.
        orthogonal: Whether all singular values of its matrix are 1.
    """

    name: str
    make: Callable
    shape: tuple
    orthogonal: bool = False

    def layer(self):
        """The layer, built, with weights from one generator."""
        layer = self.make()
        layer.build((None, *self.shape))
        randomize(layer)
        return layer

    def inputs(self, batch=5, seed=0):
        rng = np.random.default_rng(seed)
        return rng.standard_normal((batch, *self.shape)).astype("float32")

    def __str__(self):
        return self.name


def randomize(layer, seed=0):
    """Gives each weight values that are the same on every backend."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        value = rng.standard_normal(tuple(variable.shape))
        variable.assign(0.5 * value.astype("float32"))


def conv_of(filters, kernel_size, rank=2, **options):
    kind = getattr(layers, f"OrthogonalConv{rank}D")
    return lambda: kind(filters, kernel_size, **options)


IMAGE = (6, 6, 3)
ORTHOGONAL = [
    Bounded("dense_wide", lambda: layers.OrthogonalDense(7), (4,), True),
    Bounded("dense_narrow", lambda: layers.OrthogonalDense(4), (2, 7), True),
    Bounded("conv1d", conv_of(5, 4, rank=1), (8, 3), True),
    Bounded("conv1d_strided", conv_of(5, 4, rank=1, strides=2), (8, 3), True),
    Bounded("conv2d", conv_of(5, 3), IMAGE, True),
    Bounded("conv2d_narrow", conv_of(2, 3), IMAGE, True),
    Bounded("conv2d_single", conv_of(1, 3), (5, 5, 1), True),
    Bounded("conv2d_strided", conv_of(8, 3, strides=2), IMAGE, True),
    Bounded("conv2d_strided_wide", conv_of(26, 3, strides=2), IMAGE, True),
    Bounded("conv2d_patches", conv_of(9, 2, strides=2), IMAGE, True),
    Bounded("conv2d_oblong", conv_of(4, (3, 2), strides=(1, 2)), IMAGE, True),
    Bounded("conv2d_valid", conv_of(3, 3, padding="valid"), IMAGE, True),
    Bounded(
        "conv2d_valid_strided",
        conv_of(7, 3, strides=2, padding="valid"),
        (7, 8, 3),
        True,
    ),
    Bounded("conv2d_same", conv_of(5, 3, padding="same"), IMAGE),
    Bounded("conv2d_valid_wide", conv_of(5, 3, padding="valid"), IMAGE),
    Bounded("conv3d", conv_of(3, (3, 2, 1), rank=3), (3, 4, 2, 2), True),
]
OTHERS = [
    Bounded("max_min", lambda: layers.GroupSort(), (4, 6)),
    Bounded("group_sort", lambda: layers.GroupSort(3, axis=1), (6, 4)),
    Bounded("householder", lambda: layers.Householder(), (4, 6)),
    Bounded("householder_axis", lambda: layers.Householder(axis=1), (6, 4)),
    Bounded("batch_centering", lambda: layers.BatchCentering(), (4, 3)),
    Bounded("norm_pooling", lambda: layers.NormPooling2D(2), (4, 5, 3)),
    Bounded(
        "invertible_downsampling",
        lambda: layers.InvertibleDownsampling2D((2, 3)),
        (4, 6, 2),
        True,
    ),
    Bounded("sll_dense", lambda: layers.SLLDense(5), (4,)),
    Bounded("sll_conv", lambda: layers.SLLConv2D(5, 3), (5, 4, 2)),
]
BOUNDED = ORTHOGONAL + OTHERS


# XLA would compile each case for seconds.
JIT = "auto" if keras.backend.backend() == "jax" else False


def fitted(layer, inputs, steps=30):
    """A model of the layer alone, fitted to noise, and losses of two epochs."""
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    target = np.random.default_rng(1).standard_normal(
        model.compute_output_shape(inputs.shape)
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=JIT)
    # An epoch costs TensorFlow and JAX more than its steps.
    repeats = steps // 2
    history = model.fit(
        np.concatenate([inputs] * repeats),
        np.concatenate([target.astype("float32")] * repeats),
        epochs=2,
        batch_size=len(inputs),
        verbose=0,
        shuffle=False,
    )
    return model, history.history["loss"]
