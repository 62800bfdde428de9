"""Losses of GANs and of optimal transport, by NumPy; gradient penalties."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn import losses
from keras_sn import metrics
from keras_sn.layers import SpectralNormalization
from tests.gradients import gradients
from tests.truth import to_numpy

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(6, 1)).astype("float32")
FAKE = RNG.normal(size=(6, 1)).astype("float32")


def number(tensor):
    return float(to_numpy(tensor))


def test_values():
    relu, softplus = lambda x: np.maximum(x, 0), lambda x: np.log1p(np.exp(x))
    assert number(losses.hinge_discriminator(REAL, FAKE)) == pytest.approx(
        relu(1 - REAL).mean() + relu(1 + FAKE).mean(), rel=1e-5
    )
    assert number(losses.hinge_generator(FAKE)) == pytest.approx(
        -FAKE.mean(), rel=1e-5
    )
    assert number(
        losses.relativistic_discriminator(REAL, FAKE)
    ) == pytest.approx(softplus(FAKE - REAL).mean(), rel=1e-5)
    assert number(losses.relativistic_generator(REAL, FAKE)) == pytest.approx(
        softplus(REAL - FAKE).mean(), rel=1e-5
    )
    with pytest.raises(ValueError, match="pairs"):
        losses.relativistic_discriminator(REAL, FAKE[:5])
    half = ops.cast(REAL, "float16")
    assert "float32" in str(losses.hinge_generator(half).dtype)


@pytest.mark.parametrize(
    "name",
    [
        "hinge_discriminator",
        "hinge_generator",
        "relativistic_discriminator",
        "relativistic_generator",
    ],
)
def test_functions_are_serialized_by_name(name):
    function = getattr(losses, name)
    data = keras.saving.serialize_keras_object(function)
    assert keras.saving.deserialize_keras_object(data) is function


LABELS = np.array([1, 0, 0, 1, 1, 0])
OUTPUTS = RNG.normal(size=(6, 1)).astype("float32")


@pytest.mark.parametrize("form", ["flat", "column", "signs"])
def test_kantorovich_rubinstein(form):
    y_true = {
        "flat": LABELS,
        "column": LABELS[:, None],
        "signs": 2.0 * LABELS - 1,
    }[form]
    difference = OUTPUTS[LABELS == 1].mean() - OUTPUTS[LABELS == 0].mean()
    loss = losses.KantorovichRubinstein()
    assert number(loss(y_true, OUTPUTS)) == pytest.approx(-difference, rel=1e-4)
    hinge = np.maximum(0.5 - (2 * LABELS - 1) * OUTPUTS[:, 0], 0).mean()
    loss = losses.HingeKantorovichRubinstein(alpha=3.0, margin=0.5)
    assert number(loss(y_true, OUTPUTS)) == pytest.approx(
        3 * hinge - difference, rel=1e-4
    )
    metric = metrics.KantorovichRubinstein(lipschitz=2.0)
    for part in (slice(0, 2), slice(2, 6)):
        metric.update_state(y_true[part], OUTPUTS[part])
    assert number(metric.result()) == pytest.approx(difference / 2, rel=1e-4)
    metric.reset_state()
    weights = np.array([1, 1, 0, 0, 0, 0])
    metric.update_state(y_true, OUTPUTS, sample_weight=weights)
    assert number(metric.result()) == pytest.approx(
        (OUTPUTS[0, 0] - OUTPUTS[1, 0]) / 2, rel=1e-4
    )


def test_one_class_alone_and_several_outputs():
    loss = losses.KantorovichRubinstein()
    assert number(loss(np.ones(6), OUTPUTS)) == pytest.approx(
        -OUTPUTS.mean(), rel=1e-4
    )
    outputs = RNG.normal(size=(6, 3)).astype("float32")
    one_hot = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    expected = np.mean(
        [
            outputs[one_hot[:, k] == 0, k].mean()
            - outputs[one_hot[:, k] == 1, k].mean()
            for k in range(3)
        ]
    )
    assert number(loss(one_hot, outputs)) == pytest.approx(expected, rel=1e-4)


def test_wasserstein_distance_of_two_points():
    """The optimal 1-Lipschitz critic of points 3 apart finds 3."""
    x = np.array([[0.0, 0.0], [0.0, 3.0]] * 8, "float32")
    y = np.array([0, 1] * 8)
    model = keras.Sequential(
        [keras.Input((2,)), SpectralNormalization(layers.Dense(1))]
    )
    model.compile(
        keras.optimizers.Adam(0.1),
        losses.KantorovichRubinstein(),
        metrics=[metrics.KantorovichRubinstein()],
    )
    history = model.fit(x, y, epochs=60, verbose=0).history
    assert history["kantorovich_rubinstein"][-1] == pytest.approx(3, rel=0.02)
    assert history["loss"][-1] == pytest.approx(-3, rel=0.02)


@pytest.mark.parametrize(
    "thing",
    [
        losses.KantorovichRubinstein(name="mine"),
        losses.HingeKantorovichRubinstein(2.0, 0.3),
        metrics.KantorovichRubinstein(2.0),
    ],
    ids=lambda thing: type(thing).__module__ + "." + type(thing).__name__,
)
def test_round_trip(thing):
    data = keras.saving.serialize_keras_object(thing)
    copy = keras.saving.deserialize_keras_object(data)
    assert type(copy) is type(thing)
    assert copy.get_config() == thing.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match="alpha"):
        losses.HingeKantorovichRubinstein(alpha=-1.0)
    with pytest.raises(ValueError, match="lipschitz"):
        metrics.KantorovichRubinstein(0.0)
    dense = layers.Dense(1)
    dense.build((None, 2))
    with pytest.raises(ValueError, match="real numbers"):
        losses.gradient_penalty(dense, np.ones((3, 2), "int32"))


class Quadratic(layers.Layer):
    """`a |x|^2 + b x_0`: its gradient is `2 a x + b e_0`."""

    def build(self, input_shape):
        self.a = self.add_weight(shape=(), initializer="ones", name="a")
        self.b = self.add_weight(shape=(), initializer="ones", name="b")

    def call(self, inputs):
        squares = ops.sum(inputs**2, axis=-1, keepdims=True)
        return self.a * squares + self.b * inputs[:, :1]


def test_gradient_penalty_and_its_gradient():
    x = RNG.normal(size=(5, 3)).astype("float32")
    layer = Quadratic()
    layer.build((None, 3))
    layer.a.assign(0.7)
    layer.b.assign(-0.4)
    gradient = 1.4 * x - 0.4 * np.eye(3)[0]
    expected = (gradient**2).sum(axis=1).mean()
    found = losses.gradient_penalty(layer, x)
    assert number(found) == pytest.approx(expected, rel=1e-5)
    by_a, by_b = gradients(
        lambda: losses.gradient_penalty(layer, x), [layer.a, layer.b]
    )
    assert number(by_a) == pytest.approx(
        (2 * gradient * 2 * x).sum(axis=1).mean(), rel=1e-4
    )
    assert number(by_b) == pytest.approx(2 * gradient[:, 0].mean(), rel=1e-4)


def discriminator():
    image = keras.Input((8, 8, 2))
    label = keras.Input((1,), dtype="int32")
    x = SpectralNormalization(layers.Conv2D(4, 3, activation="tanh"))(image)
    x = layers.BatchNormalization()(x)
    x = layers.Flatten()(x)
    embedded = layers.Flatten()(layers.Embedding(3, 5)(label))
    x = layers.Concatenate()([x, embedded])
    return keras.Model(
        [image, label], SpectralNormalization(layers.Dense(1))(x)
    )


class Penalized(keras.Model):
    """A model trained on its penalty alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs, training=False):
        return self.inner(inputs, training=training)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        del y, y_pred, sample_weight, training
        return losses.gradient_penalty(self.inner, x)


def test_penalty_in_training():
    """Normalized layers, statistics, labels; compiled; the state moves on."""
    inner = discriminator()
    model = Penalized(inner)
    model.compile(keras.optimizers.SGD(0.1))
    x = [
        RNG.normal(size=(16, 8, 8, 2)).astype("float32"),
        RNG.integers(3, size=(16, 1)).astype("int32"),
    ]
    y = np.zeros((16, 1), "float32")
    state = [
        v
        for v in inner.non_trainable_variables
        if v.name in ("vector_v", "moving_mean")
    ]
    before = [to_numpy(v) for v in state]
    history = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert len(state) == 3
    for variable, value in zip(state, before, strict=True):
        assert np.abs(to_numpy(variable) - value).max() > 0


class Pairs(keras.Sequential):
    """The first half of a batch is real, the second generated."""

    def __init__(self, loss):
        super().__init__(
            [
                keras.Input((2,)),
                SpectralNormalization(layers.Dense(8, activation="relu")),
                SpectralNormalization(layers.Dense(1)),
            ]
        )
        self.of_pair = loss

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        del x, y, sample_weight, training
        return self.of_pair(*ops.split(y_pred, 2))


@pytest.mark.parametrize(
    "loss", [losses.hinge_discriminator, losses.relativistic_discriminator]
)
def test_a_discriminator_learns_by_fit(loss):
    rng = np.random.default_rng(1)
    away = np.array([3.0, 0.0])
    real = rng.normal(size=(16, 2)) + away
    fake = rng.normal(size=(16, 2)) - away
    model = Pairs(loss)
    model.compile(keras.optimizers.Adam(0.02))
    x = np.concatenate([real, fake]).astype("float32")
    y = np.zeros((32, 1), "float32")
    history = model.fit(
        x, y, batch_size=32, epochs=30, shuffle=False, verbose=0
    ).history["loss"]
    assert history[-1] < 0.5 * history[0]
    scores = model.predict(x, batch_size=32, verbose=0)
    assert scores[:16].min() > scores[16:].max()


def test_penalty_by_finite_differences():
    inner = discriminator()
    x = [
        RNG.normal(size=(3, 8, 8, 2)).astype("float32"),
        np.array([[0], [1], [2]], "int32"),
    ]
    found = number(losses.gradient_penalty(inner, x, training=False))
    step, squares = 1e-2, 0.0
    for index in np.ndindex(8, 8, 2):
        unit = np.zeros((3, 8, 8, 2), "float32")
        unit[(slice(None), *index)] = step
        ends = [
            to_numpy(inner([x[0] + s * unit, x[1]], training=False))
            for s in (1, -1)
        ]
        squares += ((ends[0] - ends[1]) / (2 * step)) ** 2
    assert found == pytest.approx(squares.mean(), rel=1e-2)
