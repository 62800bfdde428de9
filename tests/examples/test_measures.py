"""What the examples measure, against closed forms."""

import attack
import gan
import keras
import numpy as np
import pytest
import scipy.linalg
from keras.layers import Dense


def test_the_frechet_distance_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    b = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4)) + 1
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + np.trace(
        np.cov(a.T) + np.cov(b.T) - 2 * root.real
    )
    assert gan.frechet_distance(a, b) == pytest.approx(expected)
    assert gan.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("share", "survives"), [(0.98, True), (1.02, False)])
def test_the_attack_finds_the_boundary_of_a_linear_classifier(share, survives):
    # Scores (x0, 2 - x0): from 3 to the boundary at 1 it is 2, whatever x1.
    model = keras.Sequential([keras.Input((2,)), Dense(2)])
    model.set_weights(
        [np.array([[1, -1], [0, 0]], "float32"), np.array([0, 2], "float32")]
    )
    x, y = np.array([[3.0, 5.0]], "float32"), np.array([0])
    assert attack.robust(model, x, y, 2 * share).tolist() == [survives]
