"""Robust conformal sets: coverage under attack on digits, arguments."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

from keras_sn.lipschitz import RobustConformalSets
from keras_sn.lipschitz.lower.pullback import pullback

RADIUS, COVERAGE, SPLITS = 0.15, 0.9, 50


@pytest.fixture(scope="module")
def digits():
    """A trained model, and images that it has not seen."""
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 16).astype("float32")
    labels = labels[order]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(48, "relu"),
            layers.Dense(48, "relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(images[:700], labels[:700], epochs=8, verbose=0)
    return model, images[700:], labels[700:]


def attacked(model, x, y, radius, steps=10):
    """Projected ascent on the score of the right class."""
    rows = np.arange(len(x))
    moved = np.zeros_like(x)

    def cotangents(outputs):
        (logits,) = outputs
        others = logits.copy()
        others[rows, y] = -np.inf
        u = np.zeros_like(logits)
        u[rows, others.argmax(axis=1)] += 1
        u[rows, y] -= 1
        return [u]

    def length(vectors):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.maximum(norms, 1e-12)

    for _ in range(steps):
        point = (x + moved).astype("float32")
        _, (gradient,) = pullback(model, [point], cotangents)
        moved = moved + 0.5 * radius * gradient / length(gradient)
        moved *= np.minimum(1, radius * (1 - 1e-5) / length(moved))
    return (x + moved).astype("float32")


def over_splits(sets, x, y, moved, splits=SPLITS):
    """Coverage and size of the sets, means over splits."""
    covered, sizes = [], []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(x))
        known, new = order[:500], order[500:]
        sets.calibrate(x[known], y[known], COVERAGE)
        found = sets(moved[new])
        covered.append(found[np.arange(len(new)), y[new]].mean())
        sizes.append(found.sum(axis=1).mean())
    return np.mean(covered), np.mean(sizes)


def test_coverage_under_attack_over_splits(digits):
    model, x, y = digits
    moved = attacked(model, x, y, RADIUS)
    tight = RobustConformalSets(model, RADIUS)
    loose = RobustConformalSets(model, RADIUS, method="product")
    plain = RobustConformalSets(model, 0.0)
    covered, size = over_splits(tight, x, y, moved)
    assert covered >= COVERAGE
    _, size_by_product = over_splits(loose, x, y, moved)
    assert size < 0.97 * size_by_product
    # Without an attack plain sets are right, under attack they are not.
    covered, _ = over_splits(plain, x, y, x)
    assert covered == pytest.approx(COVERAGE, abs=0.02)
    covered, _ = over_splits(plain, x, y, moved)
    assert covered < COVERAGE - 0.05


def test_local_sets_are_smaller(digits):
    model, x, y = digits
    moved = attacked(model, x, y, RADIUS)
    everywhere = RobustConformalSets(model, RADIUS)
    near = RobustConformalSets(model, RADIUS, local=True)
    _, size = over_splits(everywhere, x, y, moved, splits=1)
    covered, smaller = over_splits(near, x, y, moved, splits=1)
    assert smaller < size
    assert covered > COVERAGE - 0.03


def test_attack_and_model_agree_with_the_sets_of_one_calibration(digits):
    """No class of the clean set is lost within the radius."""
    model, x, y = digits
    plain = RobustConformalSets(model, 0.0)
    sets = RobustConformalSets(model, RADIUS)
    for each in (plain, sets):
        each.calibrate(x[:500], y[:500], COVERAGE)
    clean = plain(x[500:700])
    for seed in range(3):
        moved = np.random.default_rng(seed).normal(size=(200, 64))
        moved *= RADIUS * 0.999 / np.linalg.norm(moved, axis=1, keepdims=True)
        found = sets((x[500:700] + moved).astype("float32"))
        assert np.all(found >= clean)


def test_few_inputs_to_calibrate_on_rule_nothing_out(digits):
    model, x, y = digits
    sets = RobustConformalSets(model, RADIUS)
    sets.calibrate(x[:5], y[:5], COVERAGE)
    assert np.all(sets(x[:4]))


def test_what_does_not_fit_is_refused(digits):
    model, x, y = digits
    with pytest.raises(ValueError, match="radius"):
        RobustConformalSets(model, -1.0)
    sets = RobustConformalSets(model, RADIUS)
    with pytest.raises(ValueError, match="calibrate"):
        sets(x[:2])
    with pytest.raises(ValueError, match="coverage"):
        sets.calibrate(x[:9], y[:9], 1.0)
    with pytest.raises(ValueError, match="integers"):
        sets.calibrate(x[:9], y[:8])
