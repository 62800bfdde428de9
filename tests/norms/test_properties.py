"""Properties any certified norm has, on matrices and kernels hypothesis finds.

All but the estimate are NumPy alone, so they are the same on every backend.
"""

import numpy as np
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms import refined_bounds
from keras_sn.norms import spectral_norm
from tests import truth
from tests.thoroughness import draws

# The first call of a backend takes longer than hypothesis's deadline.
settings.register_profile("keras_sn", deadline=None, max_examples=60)
settings.load_profile("keras_sn")

ROUNDING = 1 + 1e-12
entries = st.floats(-100, 100, allow_subnormal=False)
sizes = st.integers(1, 12)


@st.composite
def matrices(draw, rows=sizes, columns=sizes):
    shape = (draw(rows), draw(columns))
    return draw(hnp.arrays("float64", shape, elements=entries))


def of_size_one(matrix):
    """Scaled by a power of two, so that the largest entry is near one."""
    _, exponent = np.frexp(np.abs(matrix).max())
    return np.ldexp(matrix, -exponent)


@st.composite
def kernels(draw):
    """Taps `(1, height, width, inputs, outputs)` of a convolution."""
    shape = tuple(draw(st.integers(1, 4)) for _ in range(4))
    return draw(hnp.arrays("float64", (1, *shape), elements=entries))


@given(matrices(), st.sampled_from([1e-2, 1e-4]))
def test_the_bracket_holds_the_exact_norm(matrix, rtol):
    exact = truth.spectral_norm(matrix)
    for method in ("auto", "exact", "refine"):
        bounds = spectral_norm(matrix, method=method, rtol=rtol)
        assert bounds.lower <= exact * ROUNDING
        assert exact <= bounds.upper * ROUNDING
        assert bounds.gap <= rtol


# On the backend, which JAX compiles for every shape.
@settings(max_examples=draws(60, sample=8))
@given(matrices())
def test_an_estimate_stays_below(matrix):
    estimate = spectral_norm(matrix, method="power_iteration")
    exact = truth.spectral_norm(matrix)
    assert estimate.lower <= exact * ROUNDING
    assert estimate.upper == (np.inf if matrix.any() else 0.0)


@given(matrices(), st.floats(1e-12, 1e12))
def test_scales_with_the_matrix(matrix, factor):
    bounds = spectral_norm(matrix, method="refine")
    scaled = spectral_norm(factor * matrix, method="refine")
    assert scaled.lower <= factor * bounds.upper * ROUNDING
    assert factor * bounds.lower <= scaled.upper * ROUNDING


@given(matrices())
def test_is_that_of_the_transpose(matrix):
    bounds = spectral_norm(matrix, method="refine")
    transposed = spectral_norm(matrix.T, method="refine")
    assert transposed.lower <= bounds.upper * ROUNDING
    assert bounds.lower <= transposed.upper * ROUNDING


@given(st.data())
def test_composition_multiplies_at_most(data):
    # NumPy's product of tiny matrices rounds among the subnormal numbers, so
    # that it is not the composition. Powers of two scale without rounding.
    inner = of_size_one(data.draw(matrices()))
    outer = of_size_one(data.draw(matrices(rows=st.just(inner.shape[1]))))
    product = spectral_norm(inner @ outer)
    bound = spectral_norm(inner).upper * spectral_norm(outer).upper
    slack = 1e-12 * np.linalg.norm(inner) * np.linalg.norm(outer)
    assert product.lower <= bound + slack


@given(kernels())
def test_a_kernel_is_between_its_taps_and_their_sum(taps):
    norms = np.linalg.norm(taps[0], ord=2, axis=(-2, -1))
    bounds = refined_bounds(Symbol(taps), rtol=1e-2)
    # An impulse reaches one tap; frequency by frequency the taps add up.
    assert norms.max() <= bounds.upper * ROUNDING
    assert bounds.lower <= norms.sum() * ROUNDING


@given(kernels(), st.integers(2, 9))
def test_a_kernel_bounds_every_circular_size(taps, size):
    assume(max(taps.shape[1:3]) <= size)
    symbol = Symbol(taps)
    bounds = refined_bounds(symbol, rtol=1e-2)
    circular = np.linalg.svd(symbol.sample((size, size)), compute_uv=False)
    assert circular.max() <= bounds.upper * ROUNDING
    assert bounds.gap <= 1e-2
