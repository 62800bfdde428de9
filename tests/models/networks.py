"""Small networks of each kind that the tests of whole models go through."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and what to feed it.

    Args:
        name: Name of the test.
        make: Function that makes the model, built.
        input_shapes: Shape of each input, without the batch axis.
        integers: Upper end of integer inputs; `None` for normal floats.
        bounded: Whether `keras_sn.lipschitz` knows a finite constant.
    """

    name: str
    make: Callable
    input_shapes: tuple
    integers: int | None = None
    bounded: bool = True

    def inputs(self, batch=4, seed=0):
        """An array, or a list of arrays if there are several inputs."""
        rng = np.random.default_rng(seed)
        shapes = [(batch, *shape) for shape in self.input_shapes]
        if self.integers:
            arrays = [
                rng.integers(1, self.integers, size=s).astype("int32")
                for s in shapes
            ]
        else:
            arrays = [rng.standard_normal(s).astype("float32") for s in shapes]
        return arrays if len(arrays) > 1 else arrays[0]

    def __str__(self):
        return self.name


def sequential():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dropout(0.2, seed=1),
            layers.Dense(3, name="logits"),
        ]
    )


def deferred():
    """Sequential without an Input, built by its first call."""
    model = keras.Sequential([layers.Dense(5, "tanh"), layers.Dense(2)])
    model(np.zeros((4, 6), "float32"))
    return model


def residual():
    """Convolutions with batch normalization and a skip connection."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = skip = layers.ReLU()(x)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Add()([x, skip])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def mobile():
    """Depthwise and separable convolutions, rescaled input."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(0.5)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def transformer():
    """A block with attention, operations in the graph, and embeddings."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 8)(inputs)
    x = x + layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(x)
    hidden = layers.Dense(12, activation="gelu")(x)
    x = layers.LayerNormalization()(keras.ops.add(x, layers.Dense(8)(hidden)))
    return keras.Model(
        inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
    )


def unet():
    """Skip connections by concatenation, transposed convolutions."""
    inputs = keras.Input((8, 8, 2))
    first = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    down = layers.MaxPooling2D()(first)
    middle = layers.Conv2D(6, 3, padding="same", activation="relu")(down)
    up = layers.Conv2DTranspose(4, 2, strides=2, padding="same")(middle)
    x = layers.Concatenate()([first, up])
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


def lstm():
    """Two bidirectional LSTM."""
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(2),
        ]
    )


def shared():
    """Two inputs, two outputs, a layer used twice, models inside."""
    left, right = (
        keras.Input((5,), name="left"),
        keras.Input((5,), name="right"),
    )
    tower = keras.Sequential(
        [layers.Dense(6, activation="relu"), layers.Dense(4)], name="tower"
    )
    inside = keras.Input((4,))
    block = keras.Model(inside, layers.Dense(4)(inside) + inside, name="block")
    a, b = tower(left), block(tower(right))
    joined = layers.Concatenate()([a, b])
    return keras.Model(
        [left, right],
        {
            "sum": layers.Dense(1, name="sum")(joined),
            "difference": layers.Dense(2, name="difference")(a - b),
        },
    )


NETWORKS = [
    Network("sequential", sequential, ((6,),)),
    Network("deferred", deferred, ((6,),)),
    Network("residual", residual, ((8, 8, 3),)),
    Network("mobile", mobile, ((8, 8, 3),)),
    Network("transformer", transformer, ((7,),), integers=11, bounded=False),
    Network("unet", unet, ((8, 8, 2),)),
    Network("lstm", lstm, ((6, 3),), bounded=False),
    Network("shared", shared, ((5,), (5,))),
]


def predict(model, inputs):
    """List of the outputs at inference, in float64."""
    # JAX compiles each operation by itself where it is called eagerly, the
    # loops of a wrapper anew in each call; TensorFlow is slower to compile.
    if keras.backend.backend() == "jax" and isinstance(model, keras.Model):
        outputs = model.predict(inputs, verbose=0)
    else:
        outputs = model(inputs, training=False)
    return [
        np.array(keras.ops.convert_to_numpy(x), dtype="float64")
        for x in keras.tree.flatten(outputs)
    ]


def assert_close(first, second, tolerance):
    """Compares two lists of outputs, relative to the largest entry."""
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        scale = np.abs(a).max() + 1e-12
        assert np.abs(a - b).max() <= tolerance * scale


def fit_one_step(model, network):
    """Compiles and trains on one batch."""
    inputs = network.inputs()
    batch = len(keras.tree.flatten(inputs)[0])
    is_chain = isinstance(model, keras.Sequential)
    targets = keras.tree.map_structure(
        lambda x: np.zeros((batch, *x.shape[1:]), "float32"),
        model.outputs[0] if is_chain else model.output,
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    if isinstance(targets, dict):
        model.compile(
            optimizer=keras.optimizers.SGD(0.1),
            loss=dict.fromkeys(targets, "mse"),
        )
    model.train_on_batch(inputs, targets)


def randomized(model, seed=0):
    """Gives every weight values that tell it from the others."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" in variable.dtype and "seed" not in variable.name:
            noise = 0.3 * rng.standard_normal(variable.shape)
            if variable.name in ("gamma", "moving_variance"):
                noise = 1 + np.abs(noise)
            variable.assign(noise.astype("float32"))
    return model
