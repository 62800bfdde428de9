"""What keras.layers.SpectralNormalization does, and what keras_sn does.

python examples/stock_layer.py                       # TensorFlow
KERAS_BACKEND=jax python examples/stock_layer.py     # or torch

One function for each line of the table in the README. Each takes a wrapper,
the stock one or ours, and says what it does on this backend. The right values
come from NumPy.
"""

import hush  # noqa: F401
import keras
import numpy as np
from data import load_images
from keras import layers
from keras import ops
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import finish
from running import parser

import keras_sn
from keras_sn.models import fold_model

STOCK = layers.SpectralNormalization
OURS = keras_sn.SpectralNormalization
WIDTH = 16
TITLE = "keras.layers.SpectralNormalization and keras_sn"


def kernel_of_norm(norm, shape=(WIDTH, WIDTH)):
    """A kernel and its top singular vectors; the next value is 0.7 `norm`."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=shape))
    v, _ = np.linalg.qr(rng.normal(size=shape))
    values = norm * np.concatenate([[1], np.linspace(0.7, 0.1, shape[0] - 1)])
    return (u * values @ v.T).astype("float32"), u[:, 0], v[:, 0]


def dense(wrapper, norm):
    """A model of one wrapped Dense layer whose kernel has this norm."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            wrapper(layers.Dense(WIDTH, use_bias=False)),
        ]
    )
    model.layers[0].layer.kernel.assign(kernel_of_norm(norm)[0])
    return model


def gain(model):
    """Spectral norm of what a linear model computes at inference."""
    shape = model.input_shape[1:]
    unit_vectors = np.eye(int(np.prod(shape)), dtype="float32")
    columns = model(unit_vectors.reshape(-1, *shape), training=False)
    columns = ops.convert_to_numpy(columns).reshape(len(columns), -1)
    return np.linalg.norm(columns, 2)


def batch():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, WIDTH)).astype("float32")
    return x, rng.normal(size=(64, WIDTH)).astype("float32")


def before_training(wrapper):
    return f"norm {gain(dense(wrapper, 10.0)):.2f}"


def after_training(wrapper):
    """What `evaluate` and `predict` use, beside what training used."""
    model, (x, y) = dense(wrapper, 10.0), batch()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    losses = model.fit(x, y, epochs=30, batch_size=64, verbose=0).history
    return (
        f"norm {gain(model):.2f}, loss {losses['loss'][-1]:.2f} in training, "
        f"{model.evaluate(x, y, verbose=0):.2f} in evaluation"
    )


def kernel_after_a_call(wrapper):
    """What one forward pass with `training=True` leaves of it."""
    model = dense(wrapper, 10.0)
    model(batch()[0], training=True)
    kernel = ops.convert_to_numpy(model.layers[0].layer.kernel)
    return f"norm {np.linalg.norm(kernel, 2):.2f}"


class KeepGradient(keras.optimizers.SGD):
    """Puts the gradient in the place of the variable, to be read there."""

    def update_step(self, gradient, variable, learning_rate):
        self.assign(variable, ops.cast(gradient, variable.dtype))


def gradient(wrapper):
    """Distance to the gradient of `mse(x W / norm(W), y)`, relative.

    At a kernel of norm 1, which no wrapper has a reason to change.
    """
    model, (x, y) = dense(wrapper, 1.0), batch()
    kernel, u, v = kernel_of_norm(1.0)
    # The top singular vector from the start: nothing is left to iterate.
    state = model.layers[0].vector_u
    if isinstance(state, dict):
        (state,) = state.values()
    state.assign(v.reshape(state.shape).astype("float32"))
    model.compile(KeepGradient(1.0), "mse")
    model.train_on_batch(x, y)
    found = ops.convert_to_numpy(model.layers[0].layer.kernel)

    kernel = kernel.astype("float64")
    outer = 2 * x.T @ (x @ kernel - y) / y.size
    right = outer - np.sum(outer * kernel) * np.outer(u, v)
    error = np.linalg.norm(found - right) / np.linalg.norm(right)
    return f"off by {100 * error:.1f} %"


class Difference(keras.Model):
    """`D(real) - D(fake)`, two calls before one backward pass."""

    def __init__(self, judge):
        super().__init__()
        self.judge = judge

    def call(self, inputs, training=None):
        real, fake = inputs
        return self.judge(real, training=training) - self.judge(
            fake, training=training
        )


def real_minus_fake(wrapper):
    # The gradient of the first layer goes through the kernel of the second.
    judge = keras.Sequential([dense(wrapper, 1.0), dense(wrapper, 1.0)])
    model, (x, y) = Difference(judge), batch()
    model.compile("sgd", "mse")
    return attempt(lambda: model.train_on_batch((x, -x), y))


def embedding(wrapper):
    keras.utils.set_random_seed(0)
    layer = wrapper(layers.Embedding(10, 4, mask_zero=True))
    vectors, behind = layer(np.arange(10, dtype="int32")), Behind()
    behind(vectors)
    zeros = 100 * np.mean(ops.convert_to_numpy(vectors) == 0)
    return f"{zeros:.0f} % zeros, mask {'kept' if behind.masked else 'lost'}"


class Behind(layers.Layer):
    """Remembers whether the layer before it passed a mask on."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        self.masked = mask is not None
        return inputs


def convolution(wrapper):
    """Gain of three trained convolutions, normalized to 1, at 8x8."""
    return gains_of(convolutions(wrapper))


def folded_convolution(wrapper):
    """The same as plain layers; the stock layer is left as it is."""
    models = convolutions(wrapper)
    if wrapper is OURS:
        models = [fold_model(model, certified=True) for model in models]
    return gains_of(models)


def gains_of(models):
    return "norms " + ", ".join(f"{gain(model):.3f}" for model in models)


def convolutions(wrapper):
    models = []
    for kernel in trained_kernels():
        # To convergence, so that only what is normalized differs.
        options = {"power_iterations": 50}
        if wrapper is OURS:
            options["norm"] = "operator"
        conv = layers.Conv2D(
            kernel.shape[-1], 3, padding="same", use_bias=False
        )
        model = keras.Sequential(
            [keras.Input((8, 8, kernel.shape[2])), wrapper(conv, **options)]
        )
        conv.kernel.assign(kernel)
        model(np.zeros((1, *model.input_shape[1:])), training=True)
        models.append(model)
    return models


_KERNELS = []


def trained_kernels():
    """Of a plain network, trained on digits once."""
    if not _KERNELS:
        keras.utils.set_random_seed(0)
        data = load_images("digits")
        model = keras.Sequential([keras.Input((8, 8, 1))])
        for _ in range(3):
            model.add(layers.Conv2D(8, 3, padding="same", activation="relu"))
        model.add(layers.GlobalAveragePooling2D())
        model.add(layers.Dense(10, "softmax"))
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(data.x_train, data.y_train, epochs=3, verbose=0)
        _KERNELS.extend(
            ops.convert_to_numpy(layer.kernel) for layer in model.layers[:3]
        )
    return _KERNELS


def rnn(wrapper):
    x = np.ones((2, 3, 4), "float32")
    return attempt(lambda: wrapper(layers.LSTM(4))(x, training=True))


def attention(wrapper):
    x = np.ones((2, 3, 4), "float32")
    layer = layers.MultiHeadAttention(2, 4)
    return attempt(lambda: wrapper(layer)(x, x, training=True))


def separable(wrapper):
    x = np.ones((2, 8, 8, 4), "float32")
    layer = layers.SeparableConv2D(4, 3)
    return attempt(lambda: wrapper(layer)(x, training=True))


def nested(wrapper):
    x = np.ones((2, 4), "float32")
    inner = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(4)])
    return attempt(lambda: wrapper(inner)(x, training=True))


def attempt(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "works"


# In the order of the table in the README.
CLAIMS = {
    "Dense of norm 10, before training": before_training,
    "its kernel after one training call": kernel_after_a_call,
    "after 30 steps of training": after_training,
    "gradient in the kernel": gradient,
    "D(real) - D(fake)": real_minus_fake,
    "Embedding of integer ids": embedding,
    "three trained 3x3 convolutions": convolution,
    "the same, ours folded with certified=True": folded_convolution,
    "LSTM": rnn,
    "MultiHeadAttention": attention,
    "SeparableConv2D": separable,
    "a nested Sequential": nested,
}


def norms_while_training(wrapper, steps):
    model, (x, y) = dense(wrapper, 10.0), batch()
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    norms = [gain(model)]
    for _ in range(steps):
        model.train_on_batch(x, y)
        norms.append(gain(model))
    return norms


def draw(steps):
    """The norm of what is served, step by step."""
    figure = Figure((6, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, wrapper in (("stock", STOCK), ("keras_sn", OURS)):
        axes.plot(norms_while_training(wrapper, steps), label=name)
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("norm at inference")
    axes.set_title(f"A Dense layer of norm 10 ({keras.backend.backend()})")
    axes.legend()
    return figure


def main():
    options = parser(__doc__, "stock_layer").parse_args()
    rows = []
    with bar("", len(CLAIMS) + 1) as step:
        for claim, check in CLAIMS.items():
            step(claim)
            rows.append((claim, check(STOCK), check(OURS)))
        step("norms while training")
        figure = draw(3 if options.quick else 40)
    finish(
        options.output,
        [Results(TITLE, ("", "stock", "keras_sn"), rows)],
        figure,
    )


if __name__ == "__main__":
    main()
