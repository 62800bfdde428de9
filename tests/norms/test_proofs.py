"""Proofs: what underflows or overflows counts as an error, not as zero."""

import fractions
import math

import numpy as np
import pytest

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms import exact_bounds
from keras_sn.norms import spectral_norm
from keras_sn.norms.proofs import frobenius_upper
from keras_sn.norms.proofs import is_positive_definite
from keras_sn.norms.proofs import norm_upper
from keras_sn.norms.proofs import power_of_two
from keras_sn.norms.proofs import product_upper
from keras_sn.norms.proofs import proves_below

SMALLEST = 5e-324


@pytest.mark.parametrize("scale", [SMALLEST, 1e-320, 1e-308, 1e-160, 1e160])
def test_norms_at_the_ends_of_the_range(scale):
    # The norm of ones is their number.
    matrix = np.full((3, 3), scale)
    exact = 3 * fractions.Fraction(scale)
    for upper in (
        norm_upper(matrix),
        frobenius_upper(matrix),
        spectral_norm(matrix).upper,
        spectral_norm(matrix, method="refine").upper,
    ):
        assert exact <= fractions.Fraction(upper)
        assert upper <= 3 * scale * (1 + 1e-2) + 4 * SMALLEST
    assert fractions.Fraction(spectral_norm(matrix).lower) <= exact


@pytest.mark.parametrize("entry", [1e307, 1.7e308])
def test_norms_beyond_the_range(entry):
    bounds = spectral_norm(np.full((4, 4), entry))
    exact = 4 * fractions.Fraction(entry)
    assert fractions.Fraction(bounds.lower) <= exact
    assert math.isinf(bounds.upper) or exact <= fractions.Fraction(bounds.upper)
    assert bounds.lower >= 0.9 * min(4 * entry, 1.7e308)


def test_entries_of_very_different_size():
    matrix = np.diag([1e300, 1e-300, SMALLEST])
    bounds = spectral_norm(matrix)
    assert bounds.lower <= 1e300 <= bounds.upper


@pytest.mark.parametrize("seed", range(20))
def test_products_are_rounded_up(seed):
    rng = np.random.default_rng(seed)
    exponents = rng.integers(-300, 300, rng.integers(2, 9))
    factors = [float(rng.uniform(1, 2)) * 10.0**e for e in exponents]
    exact = math.prod(map(fractions.Fraction, factors))
    upper = product_upper(factors)
    if math.isinf(upper):
        assert exact > 1e308
    else:
        assert exact <= fractions.Fraction(upper)
        assert upper <= float(exact) * (1 + 1e-13) + 2 * SMALLEST


def test_products_of_zero_and_infinity():
    assert product_upper([]) == 1.0
    assert product_upper([0.0, 1e300, 1e300]) == 0.0
    assert product_upper([0.0, math.inf]) == math.inf
    assert product_upper([math.nan]) == math.inf


@pytest.mark.parametrize("size", [1, 2, 10, 60])
def test_a_singular_matrix_is_never_positive_definite(size):
    # Exact in floating point: integers of rank size - 1.
    rng = np.random.default_rng(size)
    factor = rng.integers(-9, 10, (max(size - 1, 1), size)).astype(float)
    if size == 1:
        factor[:] = 0
    gram = factor.T @ factor
    assert not is_positive_definite(gram)
    top = np.linalg.eigvalsh(gram)[-1]
    # Below its largest eigenvalue by less than any proof can see.
    assert not proves_below(gram[None], np.array([top * (1 - 1e-14)]), 0.0)[0]


@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("phase", [1.0, 1j])
def test_the_bound_itself_is_not_proved(size, phase):
    # The Gram matrix of ones: its largest eigenvalue is its size, exactly.
    vector = phase ** np.arange(size)
    gram = np.outer(vector, vector.conj())[None]
    bounds = np.array([float(size)])
    assert not proves_below(gram, bounds, 0.0)[0]
    assert proves_below(gram, bounds * (1 + 1e-9), 0.0)[0]


def test_an_error_counts():
    gram = np.eye(3)[None]
    assert proves_below(gram, np.array([1.1]), 0.0)[0]
    assert not proves_below(gram, np.array([1.1]), 0.2)[0]
    symbol = Symbol(np.eye(3)[None], error=1e-3)
    bounds = exact_bounds(symbol)
    assert bounds.lower <= 1 - 1e-3
    assert bounds.upper >= 1 + 1e-3


def test_powers_of_two():
    assert power_of_two(1.0) == 1.0
    assert power_of_two(3.9) == 2.0
    assert power_of_two(SMALLEST) == SMALLEST
    assert power_of_two(0.0) == 0.0
    assert power_of_two(1.7e308) == 2.0**1023
