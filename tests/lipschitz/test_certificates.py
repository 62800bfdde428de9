"""Certified radii: exact cases, attacks, agreement between backends."""

import math

import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz import register_rule
from keras_sn.lipschitz.lower.pullback import evaluate
from keras_sn.lipschitz.lower.pullback import pullback
from keras_sn.losses import LipschitzMarginCrossentropy
from keras_sn.metrics import CertifiedAccuracy
from keras_sn.models import fold_model
from tests.thoroughness import left_out


def attacked(model, x, labels, radius, steps=20):
    """Whether projected gradient ascent finds no other prediction."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=x.shape)
    norm = np.linalg.norm(start, axis=1, keepdims=True)
    moved = radius * start / norm
    rows = np.arange(len(x))
    robust = np.ones(len(x), bool)

    def cotangents(outputs):
        (logits,) = outputs
        others = logits.copy()
        others[rows, labels] = -np.inf
        u = np.zeros_like(logits)
        u[rows, others.argmax(axis=1)] += 1
        u[rows, labels] -= 1
        return [u]

    for _ in range(steps):
        point = (x + moved).astype("float32")
        (logits,), (gradient,) = pullback(model, [point], cotangents)
        robust &= logits.argmax(axis=1) == labels
        norm = np.linalg.norm(gradient, axis=1, keepdims=True)
        moved = moved + 0.3 * radius * gradient / np.maximum(norm, 1e-12)
        norm = np.linalg.norm(moved, axis=1, keepdims=True)
        moved *= np.minimum(1.0, radius * (1 - 1e-6) / np.maximum(norm, 1e-12))
    return robust


def test_a_linear_classifier_is_exact():
    """The distance to the nearest of the planes between classes."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    rng = np.random.default_rng(0)
    networks.randomize(model, rng)
    x = rng.normal(size=(8, 4)).astype("float32")
    kernel = np.asarray(model.get_weights()[0], "float64").T
    logits = evaluate(model, [x])[0]
    expected = []
    for row in logits:
        i = row.argmax()
        expected.append(
            min(
                (row[i] - row[j]) / np.linalg.norm(kernel[i] - kernel[j])
                for j in range(3)
                if j != i
            )
        )
    radii = certified_radius(model, x)
    assert np.all(radii <= expected)
    np.testing.assert_allclose(radii, expected, atol=2e-4)


@pytest.mark.parametrize("head", ["linear", "softmax", "layer", "sigmoid"])
def test_heads(head):
    """Softmax and sigmoid change no prediction and no radius."""
    rng = np.random.default_rng(1)
    units = 1 if head == "sigmoid" else 3
    inputs = keras.Input((4,))
    x = layers.Dense(6, "relu")(inputs)
    logits = layers.Dense(units)
    plain = keras.Model(inputs, logits(x))
    outputs = plain.output
    if head in ("softmax", "sigmoid"):
        outputs = layers.Activation(head)(outputs)
    if head == "layer":
        outputs = layers.Softmax()(outputs)
    model = keras.Model(inputs, outputs)
    networks.randomize(model, rng, spread=0.5)
    points = rng.normal(size=(8, 4)).astype("float32")
    np.testing.assert_allclose(
        certified_radius(model, points),
        certified_radius(plain, points),
        atol=1e-3,
    )


def test_pairwise_is_tighter_than_global():
    rng = np.random.default_rng(2)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, "relu"),
            layers.Dense(8, "relu"),
            layers.Dense(3),
        ]
    )
    networks.randomize(model, rng)
    x = rng.normal(size=(20, 4)).astype("float32")
    radii = certified_radius(model, x)
    logits = np.sort(evaluate(model, [x])[0], axis=1)
    bound = lipschitz_bound(model, lower=False).upper
    whole = (logits[:, -1] - logits[:, -2]) / (math.sqrt(2) * bound)
    assert np.all(radii >= whole * (1 - 1e-3) - 1e-4)
    assert radii.mean() > 1.02 * whole.mean()
    labels = evaluate(model, [x])[0].argmax(axis=1)
    for radius in (0.05, 0.2):
        certified = radii >= radius
        assert not np.any(certified & ~attacked(model, x, labels, radius))


def test_no_bound_no_radius_and_bad_outputs():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inputs * inputs))
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(certified_radius(model, x), 0)
    two = keras.Model(inputs, [inputs, inputs])
    with pytest.raises(ValueError, match="one output"):
        certified_radius(two, x)


@left_out("jax", "tensorflow", reason="a long training, on real data")
def test_digits_with_a_budget_of_one():
    """Clean accuracy, accuracy under attack and certified accuracy."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order].astype("int32")
    train, test = slice(0, 1400), slice(1400, None)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            SpectralNormalization(layers.Dense(64, "relu")),
            SpectralNormalization(layers.Dense(64, "relu")),
            SpectralNormalization(layers.Dense(10)),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.003),
        LipschitzMarginCrossentropy(0.3, lipschitz=1.0, temperature=0.1),
        metrics=[CertifiedAccuracy(0.1, lipschitz=1.01)],
    )
    model.fit(x[train], y[train], batch_size=64, epochs=15, verbose=0)
    assert lipschitz_bound(model, "product", lower=False).upper < 1.01
    # JAX compiles the power iteration of a wrapper anew in each eager call.
    folded = fold_model(model, certified=True)
    assert lipschitz_bound(folded, "product", lower=False).upper <= 1
    logits = evaluate(folded, [x[test]])[0]
    right = logits.argmax(axis=1) == y[test]
    radii = certified_radius(folded, x[test], method="closed_form")
    assert right.mean() > 0.8
    shares = []
    for radius in (0.1, 0.5):
        certified = right & (radii >= radius)
        robust = right & attacked(folded, x[test], y[test], radius)
        assert not np.any(certified & ~robust)
        shares += [robust.mean(), certified.mean()]
    print("clean, attacked and certified at 0.1, 0.5:", right.mean(), *shares)
    assert shares[1] > 0.3
    result = model.evaluate(x[test], y[test], return_dict=True, verbose=0)
    assert result["certified_accuracy"] <= shares[1] + 1e-6


def _threshold(tail):
    """One logit `x`, a point at -0.5: the class changes at distance 0.5."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1), *tail])
    model.layers[0].set_weights([np.array([[1.0], [0.0]]), np.zeros(1)])
    return model


@pytest.mark.parametrize(
    "tail",
    [
        [layers.Activation("sigmoid")],
        [layers.Activation("sigmoid"), layers.Reshape((1,))],
        [layers.Activation("sigmoid"), layers.Flatten(), layers.Dropout(0.1)],
        [layers.Reshape((1,))],
    ],
)
def test_a_sigmoid_is_compared_with_a_half(tail):
    x = np.array([[-0.5, 0.0]], "float32")
    radius = certified_radius(_threshold(tail), x)
    assert radius == pytest.approx([0.5], rel=1e-4)
    assert radius[0] <= 0.5


@pytest.mark.parametrize(
    "tail",
    [
        [layers.Activation("hard_sigmoid")],
        [layers.Activation("sigmoid"), layers.Rescaling(1.0, -0.5)],
        [layers.Activation("sigmoid"), layers.Activation("relu")],
        [layers.Activation("softplus")],
        [layers.Reshape((1, 1)), layers.Softmax(), layers.Flatten()],
    ],
)
def test_one_number_that_is_no_logit_is_refused(tail):
    with pytest.raises(ValueError, match="logit"):
        certified_radius(_threshold(tail), np.ones((1, 2), "float32"))


def test_averages_of_probabilities():
    """Of two sigmoids there is no logit; of two softmaxes a largest entry."""
    inputs = keras.Input((2,))
    for units, head in ((1, "sigmoid"), (3, "softmax")):
        voices = [layers.Dense(units, head)(inputs) for _ in range(2)]
        model = keras.Model(inputs, layers.Average()(voices))
        networks.randomize(model, np.random.default_rng(0))
        x = np.random.default_rng(1).normal(size=(50, 2)).astype("float32")
        if units == 1:
            with pytest.raises(ValueError, match="logit"):
                certified_radius(model, x)
            continue
        radii = certified_radius(model, x)
        labels = evaluate(model, [x])[0].argmax(axis=1)
        assert np.all(radii > 0)
        for radius in radii[:5]:
            near = attacked(model, x, labels, radius)
            assert not np.any((radii >= radius) & ~near)


def test_a_sum_of_logits_is_one():
    inputs = keras.Input((2,))
    voices = [layers.Dense(1)(inputs) for _ in range(2)]
    model = keras.Model(inputs, layers.Average()(voices))
    kernel = np.array([[1.0], [0.0]])
    model.set_weights([kernel, np.zeros(1), 3 * kernel, np.zeros(1)])
    radius = certified_radius(model, np.array([[-0.5, 0.0]], "float32"))
    assert radius == pytest.approx([0.5], rel=1e-4)


def test_a_rule_named_like_a_sigmoid_is_none():
    """The certificate knows pieces by their class, not by their text."""

    def steep(x):
        return keras.ops.sigmoid(10 * x)

    register_rule(steep, "sigmoid")(lambda function, call: 2.5)
    model = _threshold([layers.Activation(steep)])
    with pytest.raises(ValueError, match="logit"):
        certified_radius(model, np.ones((1, 2), "float32"))
    two = keras.Sequential(
        [keras.Input((1,)), layers.Dense(2), layers.Activation(steep)]
    )
    two.layers[0].set_weights([np.array([[0.5, -0.5]]), np.array([0.0, -0.3])])
    # The larger of the two changes at x = -0.3.
    (radius,) = certified_radius(two, np.zeros((1, 1), "float32"))
    assert 0 < radius <= 0.3


@pytest.mark.parametrize("axis", [1, 2])
def test_softmax_over_another_axis_keeps_no_order(axis):
    """Rows of two that each sum to one: their order is not that of logits."""
    inputs = keras.Input((4,))
    x = layers.Reshape((2, 2))(layers.Dense(4)(inputs))
    outputs = layers.Flatten()(layers.Softmax(axis=axis)(x))
    model = networks.randomize(
        keras.Model(inputs, outputs), np.random.default_rng(0), spread=3.0
    )
    x = np.random.default_rng(1).normal(size=(60, 4)).astype("float32")
    radii = certified_radius(model, x)
    labels = evaluate(model, [x])[0].argmax(axis=1)
    for radius in np.quantile(radii, [0.3, 0.6, 0.9]):
        robust = attacked(model, x, labels, radius)
        assert not np.any((radii >= radius) & ~robust)


def test_an_empty_batch_and_inputs_by_name():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    logits = layers.Dense(2)(layers.Concatenate()([a, 10 * b]))
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    by_name = keras.Model({"b": b, "a": a}, logits)
    listed = keras.Model([b, a], logits)
    expected = certified_radius(listed, [y, x])
    for model in (by_name, listed):
        found = certified_radius(model, {"a": x, "b": y})
        np.testing.assert_allclose(found, expected)
    empty = {"a": np.zeros((0, 3)), "b": np.zeros((0, 3))}
    assert certified_radius(by_name, empty).shape == (0,)
