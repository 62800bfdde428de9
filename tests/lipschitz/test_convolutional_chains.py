"""Convolutional chains: attacks, matrix inequalities, targets, reports."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.lipschitz import bound
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz.bound import constant_of
from keras_sn.lipschitz.tracing import trace
from keras_sn.lipschitz.upper import torus_bound
from keras_sn.lipschitz.upper import torus_regions
from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.lipschitz.upper.torus_cost import cost
from keras_sn.lipschitz.upper.torus_descent import Descent
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_recursion import Recursion
from keras_sn.lipschitz.upper.torus_regions import Region
from keras_sn.lipschitz.upper.torus_regions import sections_of
from keras_sn.lipschitz.upper.torus_schedule import schedule
from keras_sn.lipschitz.upper.unrolled_chain import unrolled
from tests.lipschitz.convolutional_networks import ACTIVATIONS
from tests.lipschitz.convolutional_networks import Mask
from tests.lipschitz.convolutional_networks import attacked_norm
from tests.lipschitz.convolutional_networks import linearized
from tests.lipschitz.convolutional_networks import random_convolutional_network
from tests.lipschitz.networks import randomize
from tests.thoroughness import draws
from tests.thoroughness import fuzzing
from tests.thoroughness import left_out
from tests.truth import dense_matrix
from tests.truth import spectral_norm

# Of the dense matrices, which are float32.
ROUNDING = 1 + 3e-6


def regions(model):
    found = sections_of(trace(model, constant_of))
    return [section for section in found if isinstance(section, Region)]


def whole(model):
    """The region of a model that is one."""
    (region,) = regions(model)
    assert len(region.steps) == len(trace(model, constant_of).steps)
    return region


def flat_plan(region):
    operations, signals = unrolled(region.operations, region.plan.signals)
    return schedule(operations, signals, region.entry, region.exit, masks=False)


def certified(plan, torus, steps=0):
    """The bound of the formula, improved by some steps of descent."""
    descent = Descent(plan, torus)
    logs, _ = minimize(descent, descent.formula(), iterations=steps)
    lambdas = descent.lambdas(logs)
    return Recursion(plan, torus).bound(lambda i, spread: lambdas[i])


@pytest.mark.parametrize("seed", range(draws(fuzzing(25), 2)))
def test_never_below_an_attack(seed):
    rng = np.random.default_rng(seed)
    model = randomize(random_convolutional_network(rng), rng, 1.5)
    attained = attacked_norm(model, rng)
    bounds = [lipschitz_bound(model, "closed_form", lower=False).upper]
    for region in regions(model):
        if len(region.steps) == len(trace(model, constant_of).steps):
            steps = int(rng.integers(4))
            bounds.append(certified(region.plan, region.torus, steps))
            bounds.append(certified(flat_plan(region), Torus(()), steps))
    for found in bounds:
        assert attained <= found * ROUNDING


LAYERS = {
    "same": lambda: layers.Conv2D(3, 3, padding="same"),
    "valid": lambda: layers.Conv2D(3, (3, 2)),
    "strided same": lambda: layers.Conv2D(3, 3, strides=2, padding="same"),
    "strided valid": lambda: layers.Conv2D(3, 3, strides=(2, 3)),
    "dilated": lambda: layers.Conv2D(3, 3, dilation_rate=2, padding="same"),
    "grouped": lambda: layers.Conv2D(4, 3, groups=2, padding="same"),
    "even": lambda: layers.Conv2D(2, 4, padding="same"),
    "pointwise": lambda: layers.Conv2D(3, 1, strides=2),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "separable": lambda: layers.SeparableConv2D(3, 3, padding="same"),
    "average": lambda: layers.AveragePooling2D(2),
    "overlapping average": lambda: layers.AveragePooling2D(3, 2),
    "global average": lambda: layers.GlobalAveragePooling2D(),
    "zero padding": lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
    "cropping": lambda: layers.Cropping2D(((1, 0), (2, 1))),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("end", ["flatten", "mean"])
def test_without_activations_unrolled_is_exact(name, end):
    """So the layer is read as it computes, at the edges too."""
    rng = np.random.default_rng(3)
    inputs = keras.Input((7, 6, 2))
    x = LAYERS[name]()(inputs)
    if len(x.shape) == 4:
        x = layers.Conv2D(2, 2, padding="same")(x)
        mean = layers.GlobalAveragePooling2D()
        x = (layers.Flatten() if end == "flatten" else mean)(x)
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)), rng)
    exact = spectral_norm(dense_matrix(linearized(model), (7, 6, 2)))
    region = whole(model)
    found = certified(flat_plan(region), Torus(()))
    assert found == pytest.approx(exact, rel=1e-5)
    assert found <= certified(region.plan, region.torus, 20) * ROUNDING


def small_network(activation, size=8, strides=1, end=True):
    inputs = x = keras.Input((size, size, 2))
    for filters in (3, 4):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.Activation(activation)(x)
    x = layers.Conv2D(3, 3, strides, padding="same")(x)
    if end:
        x = layers.Activation(activation)(x)
        x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def matrices_of(model):
    """The matrices between activations, of layers channels last."""
    linear = linearized(model).layers[1:]
    shape, found, group = model.input_shape[1:], [], []
    for layer in [*linear, None]:
        if layer is not None and not isinstance(layer, Mask):
            group.append(layer)
            continue
        stack = keras.Sequential([keras.Input(shape), *group])
        found.append(dense_matrix(stack, shape).T)
        shape, group = stack.output_shape[1:], []
    return found


def inequality(matrices, intervals, multipliers, square):
    """The matrix of LipSDP, at least zero where `sqrt(square)` bounds."""
    ends = np.cumsum([0, *(matrix.shape[1] for matrix in matrices)])
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    form = np.zeros((ends[-1],) * 2)
    form[parts[0], parts[0]] = square * np.eye(ends[1])
    for i, multiplier in enumerate(multipliers):
        low, high = intervals[i]
        # (x - low y) (high y - x) with y = W x_before.
        matrix = matrices[i]
        weighted = multiplier[:, None] * matrix
        before, after = parts[i], parts[i + 1]
        form[before, before] += low * high * matrix.T @ weighted
        form[after, before] -= (low + high) / 2 * weighted
        form[before, after] -= (low + high) / 2 * weighted.T
        form[after, after] += np.diag(multiplier)
    form[parts[-1], parts[-1]] -= matrices[-1].T @ matrices[-1]
    return form


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu"])
@pytest.mark.parametrize(("strides", "end"), [(1, False), (2, True)])
def test_multipliers_solve_the_dense_inequality(activation, strides, end):
    """LipSDP of the unrolled network, with the same multipliers."""
    rng = np.random.default_rng(4)
    model = randomize(small_network(activation, 8, strides, end), rng, 1.5)
    region = whole(model)
    descent = Descent(region.plan, region.torus)
    logs, _ = minimize(descent, descent.formula(), iterations=40)
    lambdas = descent.lambdas(logs)
    recursion = Recursion(region.plan, region.torus)
    bound = recursion.bound(lambda i, spread: lambdas[i])
    matrices = matrices_of(model)
    radii = [slopes.radius for slopes in recursion.slopes]
    square = bound**2 * ROUNDING
    multipliers = [
        square * np.tile(lam / radius**2, len(matrix) // len(lam))
        for lam, radius, matrix in zip(lambdas, radii, matrices, strict=False)
    ]
    low, high = ACTIVATIONS[activation]
    # Padding makes a mask of a leaky activation, a mean does not.
    intervals = [(min(low, 0.0), high)] * 2 + [(low, high)]
    form = inequality(matrices, intervals, multipliers, square)
    assert np.linalg.eigvalsh(form)[0] > -1e-7 * np.abs(form).max()
    lower = 0.85 if activation == "relu" else 0.7
    shrunk = inequality(
        matrices,
        intervals,
        [multiplier * lower**2 for multiplier in multipliers],
        square * lower**2,
    )
    assert np.linalg.eigvalsh(shrunk)[0] < 0


def residual_network():
    inputs = keras.Input((6, 6, 2))
    x = layers.Activation("gelu")(layers.Conv2D(3, 3, padding="same")(inputs))
    y = layers.Activation("relu")(layers.Conv2D(3, 3, padding="same")(x))
    x = layers.Add()([x, layers.Conv2D(3, 3, padding="same")(y)])
    x = layers.Activation("relu")(x)
    y = layers.Activation("relu")(layers.Conv2D(4, 3, 2, padding="same")(x))
    y = layers.Conv2D(4, 3, padding="same")(y)
    x = layers.Subtract()([layers.Conv2D(4, 1, 2)(x), y])
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@pytest.mark.parametrize("flat", [False, True])
def test_gradient_of_the_multipliers(flat):
    rng = np.random.default_rng(5)
    region = whole(randomize(residual_network(), rng))
    plan, torus = region.plan, region.torus
    if flat:
        plan, torus = flat_plan(region), Torus(())
    descent = Descent(plan, torus)
    logs = descent.formula() - 0.3
    _, gradient = descent(logs)
    for _ in range(3):
        step = 1e-5 * rng.normal(size=len(logs))
        measured = (descent(logs + step)[0] - descent(logs - step)[0]) / 2
        assert measured == pytest.approx(gradient @ step, rel=1e-4)


def test_residual_blocks_are_bounded_together():
    rng = np.random.default_rng(6)
    model = randomize(residual_network(), rng)
    report = lipschitz_bound(model, lower=False)
    assert attacked_norm(model, rng) <= report.upper * ROUNDING
    assert len(report.layers) == 1
    rescaled = lipschitz_bound(model, "rescaled", lower=False)
    assert report.upper < 0.7 * rescaled.upper


def he_normal(depth):
    inputs = x = keras.Input((14, 14, 3))
    for i in range(depth):
        start = keras.initializers.HeNormal(seed=i)
        activation = "relu" if i < depth - 1 else None
        x = layers.Conv2D(
            16,
            3,
            padding="same",
            activation=activation,
            kernel_initializer=start,
        )(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("depth", "share"),
    [
        (4, 0.46),
        pytest.param(
            10,
            0.08,
            marks=left_out("jax", "tensorflow", reason="the same, longer"),
        ),
    ],
)
def test_he_normal_chains(depth, share):
    model = he_normal(depth)
    product = lipschitz_bound(model, "product", lower=False).upper
    report = lipschitz_bound(model, lower=False)
    assert report.upper <= share * product
    assert "torus of 15 x 15" in report.layers[0].source


def test_refined_is_tighter_than_a_short_descent():
    """The largest frequency alone is what is proved, not a mean of all."""
    model = he_normal(4)
    short = lipschitz_bound(model, lower=False).upper
    assert lipschitz_bound(model, "refined", lower=False).upper < 0.995 * short


@pytest.mark.parametrize("seed", range(4))
def test_refined_is_never_looser(seed):
    rng = np.random.default_rng([2, seed])
    model = randomize(random_convolutional_network(rng), rng, 1.5)
    short = lipschitz_bound(model, lower=False).upper
    refined = lipschitz_bound(model, "refined", lower=False).upper
    assert refined <= short * (1 + 1e-9)


def test_chains_share_the_time(monkeypatch):
    """By what each costs; else the first would take what the last needs."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 2)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, activation="relu"),
            layers.Conv2D(12, 3, activation="relu"),
        ]
    )
    seconds = [cost(r.plan, r.torus)[0] for r in regions(model)]
    times = []

    def instead(region, effort):
        times.append(effort.remaining)
        return torus_bound.ChainBound(math.inf)

    monkeypatch.setattr(bound, "chain_bound", instead)
    lipschitz_bound(model, "refined", lower=False, time_limit=1000.0)
    assert len(times) == len(seconds) == 2
    first = seconds[0] / sum(seconds)
    assert 0.01 < first < 0.99
    assert times[0] == pytest.approx(1000 * first, rel=0.1)
    assert times[1] == pytest.approx(1000, rel=0.1)


def test_every_iterate_of_the_descent_is_a_certificate():
    rng = np.random.default_rng(7)
    model = randomize(small_network("relu", 5), rng, 1.5)
    attained = attacked_norm(model, rng, starts=4)
    seen = []
    report = lipschitz_bound(
        model,
        "refined",
        lower=False,
        time_limit=3.0,
        progress=lambda step, steps, bound: seen.append(bound),
    )
    assert seen
    assert attained <= min(seen) * ROUNDING
    assert attained <= report.upper * ROUNDING
    closed = lipschitz_bound(model, "closed_form", lower=False)
    assert report.upper <= closed.upper


def test_ends_of_chains():
    """Max pooling ends a chain, and the rest is bounded as before."""
    inputs = x = keras.Input((8, 8, 2))
    for _ in range(2):
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    report = lipschitz_bound(model, lower=False)
    sources = [row.source for row in report.layers]
    assert sum("LipSDP" in source for source in sources) == 2
    product = math.prod(row.constant for row in report.layers)
    assert report.upper == pytest.approx(product, rel=1e-9)


def test_an_unknown_size_is_bounded_as_before():
    inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 3, padding="same")(x))
    assert not regions(model)
    report = lipschitz_bound(model, lower=False)
    rescaled = lipschitz_bound(model, "rescaled", lower=False)
    assert report.upper == pytest.approx(rescaled.upper, rel=1e-6)


def test_the_report_says_what_was_left_out(monkeypatch):
    monkeypatch.setattr(torus_regions, "_MEMORY", 0.0)
    monkeypatch.setattr(torus_bound, "_WIDEST", 0)
    report = lipschitz_bound(he_normal(3), lower=False)
    assert math.isfinite(report.upper)
    assert "its torus of 15 x 15 takes" in report.layers[0].note
    assert report.layers[0].note in str(report)


def test_masks_are_what_the_attack_says_they_are():
    """The attack itself: with slopes of one the twin is the linear model."""
    rng = np.random.default_rng(8)
    model = randomize(small_network("relu", 5), rng)
    twin = linearized(model)
    for layer in twin.layers:
        if hasattr(layer, "slopes"):
            layer.slopes.assign(np.ones(layer.slopes.shape))
    matrices = matrices_of(model)
    exact = spectral_norm(np.linalg.multi_dot(matrices[::-1]))
    found = spectral_norm(dense_matrix(twin, (5, 5, 2)))
    assert found == pytest.approx(exact, rel=1e-5)


def test_a_pointwise_start_of_a_strided_chain():
    """All frequencies are alike before the stride: seed 79 of the attacks."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Activation("relu")(layers.Conv2D(3, 1)(inputs))
    x = layers.Conv2D(4, 3, 2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    rng = np.random.default_rng(9)
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)), rng)
    region = whole(model)
    attained = attacked_norm(model, rng)
    assert attained <= certified(region.plan, region.torus, 3) * ROUNDING
