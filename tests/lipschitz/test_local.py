"""Bounds on balls: curves, random networks, linear regions, radii."""

import itertools
import math

import keras
import networks
import numpy as np
import pytest
from keras import activations
from keras import layers
from test_certificates import attacked

from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.curves import CURVES
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.rules.activations import slope_of
from keras_sn.lipschitz.upper.covariance import largest
from keras_sn.lipschitz.upper.covariance import pair_squares
from keras_sn.lipschitz.upper.local_stack import LocalStack
from tests.thoroughness import fuzzing

NETWORKS = fuzzing(300, everything=3000)
# As Keras computes them, in float64 and without Keras.
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}


def curve_of(name):
    if name == "gelu_tanh":
        return lambda x: activations.gelu(x, approximate=True)
    return getattr(activations, name)


@pytest.mark.parametrize("name", sorted(CURVES))
def test_values_of_curves(name):
    x = np.linspace(-9, 9, 4001).astype("float32")
    expected = keras.ops.convert_to_numpy(
        curve_of(name)(keras.ops.convert_to_tensor(x))
    )
    found = CURVES[name].value(x.astype("float64"))
    np.testing.assert_allclose(found, expected, atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("name", sorted(CURVES))
def test_slopes_on_intervals(name):
    """All chords are within, and some are nearly as steep as is claimed."""
    rng = np.random.default_rng(0)
    curve = CURVES[name]
    for width in (0.01, 0.5, 3.0):
        low = rng.uniform(-8, 8, 200)
        high = low + width * rng.random(200)
        least, most = curve.between(low, high)
        points = np.linspace(low, high, 400)
        values = curve.value(points)
        chords = np.diff(values, axis=0) / np.diff(points, axis=0)
        noise = 1e-13 / (high - low) * 400 * 10
        assert np.all(chords >= least - noise)
        assert np.all(chords <= most + noise)
        # A break that is only just inside is a chord of no length.
        tight = (chords.min(axis=0) - least < 0.02) & (
            most - chords.max(axis=0) < 0.02
        )
        assert tight.mean() > 0.95


@pytest.mark.parametrize("name", sorted(CURVES))
def test_slopes_everywhere_are_those_of_the_rule(name):
    if name == "gelu_tanh":
        pytest.skip("no activation of its own name")
    piece = slope_of(name)
    everything = np.array([np.inf])
    least, most = CURVES[name].between(-everything, everything)
    np.testing.assert_allclose(
        [least[0], most[0]], [piece.low, piece.high], atol=1e-9
    )


def random_network(rng):
    names = sorted(FUNCTIONS)
    dims = rng.integers(1, 12, size=rng.integers(3, 6))
    layers_of = [
        (
            rng.normal(size=(rows, columns)) * 1.5 / np.sqrt(columns),
            rng.normal(size=rows),
        )
        for columns, rows in itertools.pairwise(dims)
    ]
    chosen = [names[i] for i in rng.integers(0, len(names), len(dims) - 2)]
    return layers_of, chosen


def stack_of(layers_of, chosen):
    pieces = []
    for i, (array, bias) in enumerate(layers_of):
        matrix = Matrix(array)
        matrix.offset = (bias, 0.0)
        pieces.append(matrix)
        if i < len(chosen):
            slope = slope_of(chosen[i])
            assert isinstance(slope, Slope)
            pieces.append(slope)
    return LocalStack(pieces)


def run(layers_of, chosen, x):
    for i, (array, bias) in enumerate(layers_of):
        x = x @ array.T + bias
        if i < len(chosen):
            x = FUNCTIONS[chosen[i]](x)
    return x


def jacobian(layers_of, chosen, x):
    """By differences of each activation at its own input."""
    total = np.eye(len(x))
    for i, (array, bias) in enumerate(layers_of):
        x, total = array @ x + bias, array @ total
        if i < len(chosen):
            function = FUNCTIONS[chosen[i]]
            slope = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
            x, total = function(x), slope[:, None] * total
    return total


def in_ball(rng, size, radius, count):
    moved = rng.normal(size=(count, size))
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return radius * moved * rng.random((count, 1)) ** (1 / size)


def test_no_network_beats_its_bound_on_a_ball():
    for seed in range(NETWORKS):
        rng = np.random.default_rng(seed)
        layers_of, chosen = random_network(rng)
        stack = stack_of(layers_of, chosen)
        x = rng.normal(size=(1, layers_of[0][0].shape[1]))
        radius = 10.0 ** rng.uniform(-3, 1)
        spread = stack.spread(stack.centres(x), np.array([radius]))
        bound = np.sqrt(largest(spread)).min() * stack.scale
        pairs = np.sqrt(pair_squares(spread)).min(axis=0)[0] * stack.scale
        points = x + in_ball(rng, x.shape[1], radius, 40)
        values = run(layers_of, chosen, points)
        moved = np.linalg.norm(points[:20] - points[20:], axis=1)
        differences = values[:20] - values[20:]
        slopes = np.linalg.norm(differences, axis=1) / moved
        assert np.all(slopes <= bound * (1 + 1e-9)), seed
        apart = differences[:, :, None] - differences[:, None, :]
        assert np.all(
            np.abs(apart) <= (pairs * moved[:, None, None]) * (1 + 1e-9) + 1e-12
        ), seed
        for point in points[:8]:
            matrix = jacobian(layers_of, chosen, point)
            norm = np.linalg.norm(matrix, 2)
            assert norm <= bound * (1 + 1e-6) + 1e-8, seed


def test_inside_of_a_linear_region_it_is_the_norm_of_the_jacobian():
    rng = np.random.default_rng(0)
    for _ in range(20):
        layers_of, chosen = random_network(rng)
        chosen = ["relu"] * len(chosen)
        stack = stack_of(layers_of, chosen)
        x = rng.normal(size=(3, layers_of[0][0].shape[1]))
        spread = stack.spread(stack.centres(x), np.full(3, 1e-9))
        bounds = np.sqrt(largest(spread)).min(axis=0) * stack.scale
        for point, bound in zip(x, bounds, strict=True):
            exact = np.linalg.norm(jacobian(layers_of, chosen, point), 2)
            assert bound == pytest.approx(exact, rel=1e-6, abs=1e-9)


def dense_model(activation="relu", seed=0):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Rescaling(0.5, offset=0.1),
            layers.Flatten(),
            layers.Dense(12, activation),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(12, activation),
            layers.Dense(5),
        ]
    )
    return networks.randomize(model, np.random.default_rng(seed))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_a_keras_model_on_balls(activation):
    model = dense_model(activation)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 4, 4, 1)).astype("float32")
    everywhere = lipschitz_bound(model, "closed_form", lower=False).upper
    before = np.zeros(3)
    for radius in (1e-3, 0.3, 3.0, 1e6):
        report = lipschitz_bound(model, "closed_form", x=x, radius=radius)
        assert report.note is None, report
        assert report.upper == report.per_sample.max() <= everywhere
        assert 0 < report.lower <= report.upper
        assert np.all(before <= report.per_sample * (1 + 1e-9))
        if radius >= 0.3:
            moved = in_ball(rng, 16, radius, 60).reshape(60, 4, 4, 1)
            for center, bound in zip(x, report.per_sample, strict=True):
                points = (center + moved).astype("float32")
                values = model.predict_on_batch(points).astype("float64")
                flat = points.reshape(60, -1).astype("float64")
                steps = np.linalg.norm(flat[:30] - flat[30:], axis=1)
                slopes = np.linalg.norm(values[:30] - values[30:], axis=1)
                assert np.all(slopes <= bound * steps + 1e-4)
        before = report.per_sample * (1 - 1e-6)
    assert "on balls around 3 inputs" in str(report)
    assert report.to_dict()["per_sample"] == report.per_sample.tolist()


def test_one_radius_for_each_input():
    model = dense_model()
    x = np.zeros((2, 4, 4, 1))
    both = lipschitz_bound(model, lower=False, x=x, radius=[0.1, 1.0])
    alone = [
        lipschitz_bound(model, lower=False, x=x[:1], radius=r).upper
        for r in (0.1, 1.0)
    ]
    np.testing.assert_allclose(both.per_sample, alone, rtol=1e-9)


def test_other_models_have_their_global_bound():
    inputs = keras.Input((6,))
    hidden = layers.Dense(6, "relu")(inputs)
    model = keras.Model(inputs, layers.Add()([inputs, hidden]))
    networks.randomize(model, np.random.default_rng(0))
    report = lipschitz_bound(model, x=np.zeros((2, 6)), radius=0.1)
    everywhere = lipschitz_bound(model, lower=False).upper
    np.testing.assert_allclose(report.per_sample, everywhere, rtol=1e-6)
    assert "no part of a chain" in report.note
    assert report.lower == 0


@pytest.mark.parametrize(
    ("x", "radius"),
    [
        (np.zeros((2, 4, 4, 1)), None),
        (np.zeros((2, 4, 4, 1)), -1.0),
        (np.zeros((2, 4, 4, 1)), [1.0, 2.0, 3.0]),
        (np.zeros((2, 4, 4, 1)), np.nan),
        (None, 0.1),
    ],
)
def test_what_does_not_fit_is_refused(x, radius):
    with pytest.raises(ValueError, match="radius"):
        lipschitz_bound(dense_model(), x=x, radius=radius)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_local_radii_hold_and_are_larger(activation):
    model = dense_model(activation, seed=3)
    model = keras.Sequential([keras.Input((16,)), *model.layers[2:]])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 16)).astype("float32")
    everywhere = certified_radius(model, x)
    radii = certified_radius(model, x, local=True)
    assert np.all(radii >= everywhere)
    assert np.mean(radii) > 1.02 * np.mean(everywhere)
    logits = model.predict_on_batch(x)
    labels = logits.argmax(axis=1)
    assert np.all(attacked(model, x, labels, radii[:, None] * 0.999))


def test_a_single_logit_and_a_softmax():
    rng = np.random.default_rng(2)
    inputs = keras.Input((5,))
    hidden = layers.Dense(8, "relu")(inputs)
    one = keras.Model(inputs, layers.Dense(1)(hidden))
    several = keras.Model(inputs, layers.Dense(3, "softmax")(hidden))
    x = rng.normal(size=(10, 5)).astype("float32")
    for model in (one, several):
        networks.randomize(model, rng)
        radii = certified_radius(model, x, local=True)
        assert np.all(radii >= certified_radius(model, x))
        assert radii.max() > 0
