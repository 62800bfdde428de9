"""Robust conformal sets: coverage under attack on digits, arguments."""

import numpy as np
import pytest

from benchmarks.conformal import COVERAGE
from benchmarks.conformal import attacked
from benchmarks.conformal import over_splits
from benchmarks.conformal import trained
from keras_sn.lipschitz import RobustConformalSets
from tests.thoroughness import left_out

RADIUS = 0.15

once = left_out(
    "jax", "tensorflow", reason="the sets are NumPy, of logits computed once"
)


@pytest.fixture(scope="module")
def digits():
    """A trained model, and images that it has not seen."""
    return trained(48, 8)


@once
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


@once
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
