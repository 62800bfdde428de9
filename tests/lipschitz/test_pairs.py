"""Differences of two outputs: exact cases, attained slopes, order."""

import itertools

import numpy as np
import pytest

from keras_sn.lipschitz.upper.closed_form import closed_form_bound
from keras_sn.lipschitz.upper.pairs import pair_bounds

RELU = (0.0, 1.0)


def gaussian_stack(rng, dims):
    return [
        rng.normal(size=(rows, columns)) / np.sqrt(columns)
        for columns, rows in itertools.pairwise(dims)
    ]


@pytest.mark.parametrize("slopes", [RELU, (0.2, 1.0), (-0.13, 1.13)])
def test_no_pair_is_steeper_than_its_bound(slopes):
    rng = np.random.default_rng(0)
    for _ in range(5):
        matrices = gaussian_stack(rng, (4, 9, 8, 5))
        bounds = pair_bounds(matrices, [slopes] * 2, iterations=20)
        assert np.all(np.diagonal(bounds) == 0)
        for _ in range(50):
            total = matrices[0]
            for matrix in matrices[1:]:
                ends = rng.integers(0, 2, len(total))
                total = matrix @ (np.asarray(slopes)[ends][:, None] * total)
            apart = np.linalg.norm(total[:, None] - total[None], axis=2)
            assert np.all(apart <= bounds)


def test_of_a_linear_map_they_are_exact():
    matrix = np.random.default_rng(1).normal(size=(4, 6))
    apart = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    np.testing.assert_allclose(pair_bounds([matrix], []), apart, rtol=1e-9)


def test_descent_lowers_them_and_one_by_one_is_no_better():
    rng = np.random.default_rng(2)
    matrices = gaussian_stack(rng, (10, 24, 24, 5))
    slopes = [RELU] * 2
    plain = pair_bounds(matrices, slopes)
    better = pair_bounds(matrices, slopes, iterations=40)
    assert np.all(better <= plain)
    assert better.sum() < 0.99 * plain.sum()
    for i, j in itertools.combinations(range(5), 2):
        row = (matrices[-1][i] - matrices[-1][j])[None]
        alone = closed_form_bound([*matrices[:-1], row], slopes)
        assert better[i, j] <= 1.05 * alone


def test_zero_and_infinite_weights():
    matrices = [np.zeros((3, 2)), np.ones((2, 3))]
    assert np.all(pair_bounds(matrices, [RELU]) == 0)
    matrices[0][0, 0] = np.inf
    assert np.isinf(pair_bounds(matrices, [RELU])[0, 1])
