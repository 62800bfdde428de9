"""Dense stacks: published numbers, exact cases, gradients, feasibility."""

import itertools
import pathlib

import numpy as np
import pytest

from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.upper.closed_form import best_multipliers
from keras_sn.lipschitz.upper.closed_form import closed_form_bound
from keras_sn.lipschitz.upper.closed_form import over_diagonal
from keras_sn.lipschitz.upper.closed_form import recursion
from keras_sn.lipschitz.upper.closed_form import unit_factors
from keras_sn.lipschitz.upper.lipsdp_descent import refined_bound
from keras_sn.lipschitz.upper.lipsdp_descent import squared_bound
from keras_sn.lipschitz.upper.rescaling import best_scales
from keras_sn.lipschitz.upper.rescaling import rescaled_bound
from keras_sn.norms.proofs import is_positive_definite
from keras_sn.norms.proofs import norm_upper

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "lipsdp"
RELU = (0.0, 1.0)
EXACT = 36.48222959637794


def product(matrices):
    return float(np.prod([np.linalg.norm(m, 2) for m in matrices]))


def gaussian_stack(seed, dims):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(rows, columns)) / np.sqrt(columns)
        for columns, rows in itertools.pairwise(dims)
    ]


def eclipse_network(width, layers):
    """ECLipsE's networks, regenerated as their generator does."""
    # Their generator uses NumPy's global one.
    np.random.seed(width * 7 + layers * 13)  # noqa: NPY002
    dims = [4, *[width] * (layers - 1), 1]
    matrices = []
    for columns, rows in itertools.pairwise(dims):
        scale = np.random.uniform(0.4, 1.8)  # noqa: NPY002
        matrix = np.random.rand(rows, columns)  # noqa: NPY002
        matrices.append(matrix * scale / np.linalg.norm(matrix, 2))
        np.random.rand(rows)  # noqa: NPY002
    return matrices


@pytest.fixture(scope="module")
def lipsdp():
    path = SHARED / "random_weights.mat"
    if not path.exists():
        pytest.skip(f"LipSDP's example weights are not at {path}")
    loadmat = pytest.importorskip("scipy.io").loadmat
    return [np.asarray(m, "float64") for m in loadmat(path)["weights"].ravel()]


def test_lipsdp_example_product(lipsdp):
    assert product(lipsdp) == pytest.approx(43.306, abs=1e-3)


def test_lipsdp_example_bounds(lipsdp):
    slopes = [RELU] * (len(lipsdp) - 1)
    closed = closed_form_bound(lipsdp, slopes)
    refined = refined_bound(lipsdp, slopes)
    assert EXACT <= refined <= closed <= 36.69
    assert refined <= 36.49
    assert EXACT <= rescaled_bound(lipsdp, slopes) <= 36.49


def test_lipsdp_example_formula_of_the_closed_form(lipsdp):
    """ECLipsE-Fast, and the formula that needs no Perron vectors."""
    slopes = [RELU] * (len(lipsdp) - 1)

    def ones(i, spread):
        return np.ones(len(spread))

    def ratio(i, spread):
        return np.sqrt(np.diagonal(spread)) / np.linalg.norm(
            lipsdp[i + 1], axis=0
        )

    fast, formula = (
        recursion(lipsdp, slopes, over_diagonal(choice))[0]
        for choice in (ones, ratio)
    )
    assert fast == pytest.approx(39.902, abs=1e-3)
    assert formula == pytest.approx(36.689, abs=1e-3)


@pytest.mark.parametrize(
    ("layers", "fast", "limit"), [(2, 0.925, 0.845), (100, 0.751, 0.57)]
)
def test_eclipse_networks(layers, fast, limit):
    matrices = eclipse_network(80, layers)
    slopes = [RELU] * (layers - 1)
    plain = product(matrices)
    ones, _ = recursion(
        matrices, slopes, over_diagonal(lambda i, s: np.ones(len(s)))
    )
    assert ones / plain == pytest.approx(fast, abs=1e-3)
    total = np.linalg.multi_dot(matrices[::-1])
    closed = closed_form_bound(matrices, slopes)
    assert np.linalg.norm(total, 2) <= closed <= limit * plain


@pytest.mark.parametrize("seed", range(4))
def test_nonnegative_weights_are_exact(seed):
    matrices = [np.abs(m) for m in gaussian_stack(seed, (3, 7, 5, 4))]
    exact = np.linalg.norm(np.linalg.multi_dot(matrices[::-1]), 2)
    slopes = [RELU] * 2
    for bound in (
        rescaled_bound(matrices, slopes),
        closed_form_bound(matrices, slopes),
        refined_bound(matrices, slopes),
    ):
        assert exact <= bound * (1 + 1e-14)
        assert bound == pytest.approx(exact, rel=1e-6)


SLOPES = [RELU, (0.2, 1.0), (-0.13, 1.13), (-0.5, 1.5), (0.9, 1.1), (0, 1.76)]


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_methods(seed, slopes):
    matrices = gaussian_stack(seed, (4, 9, 8, 6, 3))
    slopes = [slopes] * 3
    steepest = max(map(abs, slopes[0]))
    scales = best_scales([Matrix(m) for m in matrices])
    rescaled = rescaled_bound(matrices, slopes)
    closed = closed_form_bound(matrices, slopes, [scales])
    refined = refined_bound(matrices, slopes, [scales])
    plain = product(matrices) * steepest**3
    assert refined <= closed <= rescaled * (1 + 1e-6)
    assert rescaled < plain


@pytest.mark.parametrize("slopes", SLOPES)
def test_never_below_an_attained_slope(slopes):
    """Linear activations with slopes inside of the interval."""
    matrices = gaussian_stack(5, (4, 9, 8, 3))
    bound = refined_bound(matrices, [slopes] * 2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        total = matrices[0]
        for matrix in matrices[1:]:
            ends = rng.integers(0, 2, len(total))
            total = matrix @ (np.asarray(slopes)[ends][:, None] * total)
        assert np.linalg.norm(total, 2) <= bound


@pytest.mark.parametrize("slopes", SLOPES)
def test_gradient_of_the_refinement(slopes):
    matrices = gaussian_stack(7, (4, 6, 5, 2))
    slopes = [slopes] * 2
    _, multipliers = recursion(
        matrices, slopes, over_diagonal(lambda i, s: np.ones(len(s)))
    )
    logs = np.log(np.concatenate(multipliers)) - 0.01

    def value(logs):
        return squared_bound(
            matrices, slopes, np.split(np.exp(logs), [len(multipliers[0])])
        )

    _, gradient = value(logs)
    for i, step in enumerate(1e-6 * np.eye(len(logs))):
        difference = (value(logs + step)[0] - value(logs - step)[0]) / 2e-6
        assert gradient[i] == pytest.approx(difference, abs=1e-6)


def test_certificate_is_feasible_for_lipsdp():
    """The whole matrix inequality, assembled at once."""
    matrices = gaussian_stack(3, (3, 6, 5, 2))
    slope = (-0.13, 1.13)
    bound, multipliers = best_multipliers(matrices, [slope] * 2)
    a, b = slope
    # The multipliers belong to matrices divided by powers of two.
    factors = unit_factors(matrices)
    units = [m / f for m, f in zip(matrices, factors, strict=True)]
    sizes = np.cumsum([0, 3, 6, 5])
    whole = np.zeros((sizes[-1], sizes[-1]))
    whole[:3, :3] = np.eye(3)
    for i, (matrix, multiplier) in enumerate(
        zip(units, multipliers, strict=False)
    ):
        # Of `|radius * delta|^2`, where LipSDP has them of `delta` itself.
        multiplier = multiplier / ((b - a) / 2) ** 2
        before = slice(sizes[i], sizes[i + 1])
        after = slice(sizes[i + 1], sizes[i + 2])
        weighted = multiplier[:, None] * matrix
        whole[before, before] += a * b * matrix.T @ weighted
        whole[after, after] += np.diag(multiplier)
        whole[after, before] -= (a + b) / 2 * weighted
        whole[before, after] -= (a + b) / 2 * weighted.T
    last = slice(sizes[2], sizes[3])
    scaled = bound / np.prod(factors)
    whole[last, last] -= units[-1].T @ units[-1] / scaled**2
    assert np.linalg.eigvalsh(whole)[0] > 0
    whole[last, last] -= 0.3 * units[-1].T @ units[-1] / scaled**2
    assert np.linalg.eigvalsh(whole)[0] < 0


def test_errors_of_the_matrices_are_covered():
    matrices = gaussian_stack(1, (4, 8, 6, 3))
    slopes = [(-0.13, 1.13)] * 2
    errors = [1e-9] * 3
    plain = closed_form_bound(matrices, slopes)
    wide = closed_form_bound(matrices, slopes, errors=errors)
    assert plain < wide < plain * (1 + 1e-3)
    linear = [matrices[0], *[1.13 * m for m in matrices[1:]]]
    assert np.linalg.norm(np.linalg.multi_dot(linear[::-1]), 2) < wide


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_extreme_weights(factor):
    matrices = [factor * m for m in gaussian_stack(2, (3, 5, 4, 2))]
    plain = product([m / factor for m in matrices])
    assert closed_form_bound(matrices, [RELU] * 2) / factor**3 < plain


def test_dead_units_and_zero_matrices():
    matrices = gaussian_stack(2, (3, 5, 4, 2))
    matrices[0][2] = 0
    matrices[2][:, 1] = 0
    slopes = [RELU] * 2
    bound = refined_bound(matrices, slopes)
    kept = [m.copy() for m in matrices]
    kept[0] = np.delete(kept[0], 2, axis=0)
    kept[1] = np.delete(np.delete(kept[1], 2, axis=1), 1, axis=0)
    kept[2] = np.delete(kept[2], 1, axis=1)
    assert bound == pytest.approx(refined_bound(kept, slopes), rel=1e-3)
    matrices[1][:] = 0
    assert closed_form_bound(matrices, slopes) == 0
    assert rescaled_bound(matrices, slopes) == 0
    matrices[1][:] = np.nan
    assert closed_form_bound(matrices, slopes) == np.inf


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 20), (200, 200)])
def test_norm_upper(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    exact = np.linalg.norm(matrix, 2)
    assert exact <= norm_upper(matrix) * (1 + 1e-15)
    assert norm_upper(matrix) <= exact * (1 + 1e-8)
    assert norm_upper(1e-200 * matrix) == pytest.approx(
        1e-200 * exact, rel=1e-8
    )


def test_norm_upper_of_empty_zero_and_nan():
    assert norm_upper(np.zeros((0, 3))) == 0
    assert norm_upper(np.zeros((2, 3))) == 0
    assert norm_upper(np.full((2, 3), np.nan)) == np.inf


def test_positive_definiteness_is_not_claimed_too_early():
    assert is_positive_definite(np.eye(3))
    assert not is_positive_definite(np.eye(3), error=1.0)
    assert not is_positive_definite(np.zeros((2, 2)))
    assert not is_positive_definite(np.ones((2, 2)))
