"""The covariance recursion: attained slopes, exact arithmetic, contract."""

import fractions
import itertools

import numpy as np
import pytest

from keras_sn.lipschitz.upper.covariance import Slopes
from keras_sn.lipschitz.upper.covariance import activate
from keras_sn.lipschitz.upper.covariance import largest
from keras_sn.lipschitz.upper.covariance import push
from keras_sn.lipschitz.upper.covariance import start
from keras_sn.lipschitz.upper.covariance import variances
from keras_sn.lipschitz.upper.multipliers import multipliers
from keras_sn.lipschitz.upper.multipliers import ratio_shape
from keras_sn.lipschitz.upper.worst_directions import Activation


def random_stack(rng, points, is_complex):
    """Weights `(points, m, n)` and intervals of slopes, some a number."""
    dims = rng.integers(2, 12, size=rng.integers(3, 6))
    weights, slopes = [], []
    for columns, rows in itertools.pairwise(dims):
        weight = rng.normal(size=(points, rows, columns)) / np.sqrt(columns)
        if is_complex:
            weight = weight + 1j * rng.normal(size=weight.shape)
        weights.append(weight)
    for size in dims[1:-1]:
        low = rng.uniform(-0.5, 1, size)
        width = rng.uniform(0, 1, size) * (rng.random(size) < 0.6)
        slopes.append((low, low + width))
    return weights, slopes


def bound(weights, slopes, shared=True):
    """`L` of each point, with the usual choice of `Lambda`."""
    covariance = start(weights[0].shape[-1])
    for weight, following, (low, high) in zip(
        weights, weights[1:], slopes, strict=False
    ):
        spread = push(weight, covariance)
        between = Slopes.between(low, high)
        shape = ratio_shape(spread, following)
        lam = multipliers(spread, between, shape, shared)
        covariance = activate(spread, between, lam)
    return np.sqrt(largest(push(weights[-1], covariance)))


def jacobian(weights, chosen):
    total = weights[0]
    for weight, slope in zip(weights[1:], chosen, strict=True):
        total = weight @ (slope[:, None] * total)
    return np.linalg.norm(total, 2, axis=(-2, -1))


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_never_below_a_vertex_of_the_slopes(is_complex, shared):
    rng = np.random.default_rng(0)
    for _ in range(60):
        weights, slopes = random_stack(rng, rng.integers(1, 4), is_complex)
        found = bound(weights, slopes, shared)
        for _ in range(20):
            chosen = [
                np.where(rng.random(len(a)) < 0.5, a, b) for a, b in slopes
            ]
            assert np.all(jacobian(weights, chosen) <= found)


def test_known_slopes_give_the_norm_of_the_jacobian():
    rng = np.random.default_rng(1)
    for points in (1, 3):
        weights, slopes = random_stack(rng, points, True)
        chosen = [low for low, _ in slopes]
        found = bound(weights, [(low, low) for low in chosen])
        exact = jacobian(weights, chosen)
        assert np.all(exact <= found)
        np.testing.assert_allclose(found, exact, rtol=1e-10)


def exactly(matrix):
    return [[fractions.Fraction(float(x)) for x in row] for row in matrix]


def times(a, b):
    columns = list(zip(*b, strict=True))
    return [
        [
            sum(x * y for x, y in zip(row, column, strict=True))
            for column in columns
        ]
        for row in a
    ]


def inverse(matrix):
    """By Gauss and Jordan, in exact arithmetic."""
    n = len(matrix)
    rows = [
        [*row, *(int(i == j) for j in range(n))] for i, row in enumerate(matrix)
    ]
    for i in range(n):
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(n):
            if i != j:
                rows[j] = [
                    x - rows[j][i] * y
                    for x, y in zip(rows[j], rows[i], strict=True)
                ]
    return [row[n:] for row in rows]


def is_semidefinite(matrix):
    """By symmetric elimination, in exact arithmetic."""
    matrix = [list(row) for row in matrix]
    for i in range(len(matrix)):
        if matrix[i][i] < 0:
            return False
        for j in range(i + 1, len(matrix)):
            share = matrix[j][i] / matrix[i][i]
            for k in range(i, len(matrix)):
                matrix[j][k] -= share * matrix[i][k]
    return True


@pytest.mark.parametrize("seed", range(6))
def test_each_step_is_above_exact_arithmetic(seed):
    """Scales of channels far apart, correlations near to one."""
    rng = np.random.default_rng(seed)
    n = 4
    scale = 10.0 ** rng.uniform(-6, 6, n)
    factor = rng.normal(size=(n, 1)) + 1e-4 * rng.normal(size=(n, n))
    weight = scale[:, None] * factor
    spread = push(weight, np.eye(n))
    plain = times(exactly(weight), exactly(weight.T))
    above = [
        [x - y for x, y in zip(a, b, strict=True)]
        for a, b in zip(exactly(spread), plain, strict=True)
    ]
    assert is_semidefinite(above)
    np.testing.assert_allclose(spread, weight @ weight.T, rtol=1e-12)
    slopes = Slopes.between(rng.uniform(-1, 0, n), rng.uniform(0, 1, n))
    lam = multipliers(spread, slopes, scale**2) * rng.uniform(0.5, 1, n)
    found = activate(spread, slopes, lam)
    gap = inverse(exactly(spread))
    for j in range(n):
        gap[j][j] -= fractions.Fraction(float(lam[j]))
    middle = inverse(gap)
    mid, radius = exactly([slopes.mid, slopes.radius])
    exact = [
        [mid[j] * middle[j][k] * mid[k] for k in range(n)] for j in range(n)
    ]
    for j in range(n):
        exact[j][j] += radius[j] ** 2 / fractions.Fraction(float(lam[j]))
    above = [
        [x - y for x, y in zip(a, b, strict=True)]
        for a, b in zip(exactly(found), exact, strict=True)
    ]
    assert is_semidefinite(above)
    ratio = np.diagonal(found) / [float(exact[j][j]) for j in range(n)]
    assert np.all(ratio < 1 + 1e-11)


def test_errors_of_a_weight_are_covered():
    rng = np.random.default_rng(0)
    weight, other = rng.normal(size=(2, 4, 3))
    other /= np.linalg.norm(other, 2)
    covariance = np.diag([1.0, 4.0, 1e-3])
    for error in (1e-9, 1e-3, 10.0):
        spread = push(weight, covariance, error)
        for sign in (-1, 1):
            moved = weight + sign * error * other
            exact = moved @ covariance @ moved.T
            lowest = np.linalg.eigvalsh(spread - exact)[0]
            assert lowest > -1e-14 * np.trace(exact)


def test_nothing_is_claimed_where_nothing_is_proved():
    spread = push(np.diag([1.0, 2.0]), start(2))
    unit = Slopes.between(np.zeros(2), np.ones(2))
    for lam in ([1.1, 0.1], [0.0, 0.1], [-0.1, 0.1], [np.nan, 0.1]):
        result = activate(spread, unit, np.array(lam))
        assert np.all(np.isnan(result))
        assert np.all(np.isinf(variances(result)))
        assert np.all(np.isinf(largest(push(np.ones((1, 2)), result))))
    points = np.array([[0.1, 0.1], [2.0, 0.1], [np.inf, 0.1]])
    result = largest(activate(spread, unit, points))
    assert np.isfinite(result).tolist() == [True, False, False]


def test_largest():
    rng = np.random.default_rng(0)
    for size in (1, 2, 40):
        matrix = (
            rng.normal(size=(3, size, size))
            * 10.0 ** np.arange(3)[:, None, None]
        )
        spread = matrix @ np.swapaxes(matrix, 1, 2)
        exact = np.linalg.norm(matrix, 2, axis=(1, 2)) ** 2
        found = largest(spread)
        assert np.all(found >= exact * (1 - 1e-15))
        np.testing.assert_allclose(found, exact, rtol=1e-9)
    assert largest(np.zeros((1, 2, 2)))[0] < 1e-200


@pytest.mark.parametrize("is_complex", [False, True])
def test_gradient_of_the_multipliers(is_complex):
    """Against finite differences, with `Lambda` shared by all points."""
    rng = np.random.default_rng(3)
    weight, after, target = (
        rng.normal(size=(3, *shape)) + is_complex * 1j * rng.normal(size=shape)
        for shape in ((5, 3), (4, 5), (4, 2))
    )
    slopes = [
        Slopes.between(rng.uniform(-0.3, 0.2, n), rng.uniform(0.3, 1, n))
        for n in (5, 4)
    ]

    def value(logs):
        lam = np.exp(logs)
        spread = weight @ np.conj(np.swapaxes(weight, 1, 2))
        first = Activation(spread, slopes[0], lam[:5])
        spread = after @ first.covariance @ np.conj(np.swapaxes(after, 1, 2))
        second = Activation(spread, slopes[1], lam[5:])
        total = np.einsum(
            "pik,pij,pjk->", np.conj(target), second.covariance, target
        ).real
        before, last = second.back(target)
        _, earlier = first.back(np.conj(np.swapaxes(after, 1, 2)) @ before)
        return total, np.concatenate([earlier.sum(axis=0), last.sum(axis=0)])

    logs = np.repeat([-4.0, -9.0], [5, 4])
    _, gradient = value(logs)
    for i, step in enumerate(1e-5 * np.eye(9)):
        difference = (value(logs + step)[0] - value(logs - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-5)


def test_without_proofs_it_is_the_same_recursion():
    rng = np.random.default_rng(4)
    factor = rng.normal(size=(2, 5, 5))
    spread = push(factor, start(5))
    slopes = Slopes.between(rng.uniform(-0.3, 0.2, 5), np.ones(5))
    lam = multipliers(spread, slopes, np.ones(5))
    np.testing.assert_allclose(
        Activation(spread, slopes, lam).covariance,
        activate(spread, slopes, lam),
        rtol=1e-10,
    )
