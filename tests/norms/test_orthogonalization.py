"""Orthogonalization: polar factors by NumPy, the published coefficients."""

import numpy as np
import pytest
from keras import ops

from keras_sn.norms.orthogonalization import CUBIC
from keras_sn.norms.orthogonalization import QUINTIC
from keras_sn.norms.orthogonalization import STEEP
from keras_sn.norms.orthogonalization import orthogonalize
from keras_sn.norms.orthogonalization import polar_express
from tests.truth import to_numpy


def polar_factor(matrices):
    left, _, right = np.linalg.svd(matrices, full_matrices=False)
    return left @ right


def with_singular_values(rng, rows, columns, values):
    left = np.linalg.qr(rng.normal(size=(rows, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(columns, len(values))))[0]
    return left * values @ right.T


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 6, 5), (1, 9)])
@pytest.mark.parametrize(
    "steps", [polar_express(9), (CUBIC,) * 30, (QUINTIC,) * 20]
)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_polar_factor(shape, steps, scale):
    matrices = scale * np.random.default_rng(0).normal(size=shape)
    expected = polar_factor(matrices)
    found = orthogonalize(matrices, steps)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    tensor = ops.convert_to_tensor(matrices, "float32")
    found = to_numpy(orthogonalize(tensor, steps))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "error"),
    # Step by step it is 9e-5 and 2e-3 on the square one.
    [(polar_express(5), 1e-3), (polar_express(10, 1e-4), 4e-3)],
)
@pytest.mark.parametrize("decay", [0, 3, 8])
@pytest.mark.parametrize("shape", [(24, 200), (200, 24), (24, 24)])
def test_float32_is_as_near_as_the_polynomials(steps, error, decay, shape):
    """By what NumPy makes of each singular value, also of tiny ones."""
    rng = np.random.default_rng(2)
    values = np.geomspace(1, 10.0**-decay, 24)
    matrix = with_singular_values(rng, *shape, values)
    # What rounding does to the matrix is not what is asked for.
    matrix = matrix.astype("float32").astype("float64")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    size = np.sum(values**4) ** 0.25
    images = values / size
    for a, b, c in steps:
        images = a * images + b * images**3 + c * images**5
    expected = left * images @ right
    tensor = ops.convert_to_tensor(matrix, "float32")
    found = to_numpy(orthogonalize(tensor, steps))
    assert np.linalg.norm(found - expected, 2) < error
    np.testing.assert_allclose(
        orthogonalize(matrix, steps), expected, atol=1e-9
    )


def test_zero_and_rank_one():
    zero = ops.zeros((2, 3, 4))
    assert not to_numpy(orthogonalize(zero, polar_express(5))).any()
    one = np.outer([1.0, 2.0], [3.0, 4.0, 0.0])
    found = orthogonalize(one, polar_express(8))
    np.testing.assert_allclose(found, one / np.linalg.norm(one), atol=1e-9)


@pytest.mark.parametrize(
    ("steps", "error"), [(4, 0.55), (5, 0.12), (6, 3e-3), (8, 1e-12)]
)
def test_all_singular_values_from_the_smallest_on(steps, error):
    """Of 1 that is: checked on points, not on what Remez says."""
    x = np.geomspace(1e-3, 1.0, 20001)
    for a, b, c in polar_express(steps):
        x = a * x + b * x**3 + c * x**5
    assert np.abs(x - 1).max() < error


def test_no_quintic_is_nearer():
    """Against random neighbours of the first polynomial."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.05, 1.0, 2001)
    powers = np.stack([x, x**3, x**5])
    best = np.array(polar_express(1, 0.05)[0])
    error = np.abs(best @ powers - 1).max()
    near = best * (1 + 1e-2 * rng.normal(size=(2000, 3)))
    assert np.abs(near @ powers - 1).max(axis=1).min() > error


def test_published_limit():
    """Amsel et al.: the coefficients tend to (15, -10, 3) / 8."""
    np.testing.assert_allclose(
        polar_express(12)[-1], np.array([15, -10, 3]) / 8, rtol=1e-6
    )


def test_steep_coefficients_end_near_one():
    rng = np.random.default_rng(1)
    matrix = with_singular_values(rng, 20, 30, np.geomspace(3e-3, 1, 20))
    found = np.linalg.svd(orthogonalize(matrix, (STEEP,) * 5))[1]
    assert 0.65 < found.min() < found.max() < 1.21
