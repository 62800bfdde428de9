"""Estimators: Gram iteration, Lanczos, the grid, the Cholesky test."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.linear_maps import ArrayWeight
from keras_sn.linear_maps import MatrixMap
from keras_sn.linear_maps import linear_maps
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms import golub_kahan_lanczos
from keras_sn.norms import gram_iteration
from keras_sn.norms import grid_bounds
from keras_sn.norms import lanczos_bounds
from keras_sn.norms import symbol_norm
from keras_sn.norms.gram_symbol import GramSymbol
from keras_sn.norms.power_iteration import unit
from keras_sn.norms.proofs import proves_below
from keras_sn.norms.ritz import ritz_pairs
from tests import truth


def matrix_map(shape, seed=0):
    array = np.random.default_rng(seed).standard_normal(shape)
    return MatrixMap(ArrayWeight(array.astype("float32"))), array


@pytest.mark.parametrize(
    ("size", "dtype"), [(1e-28, "float32"), (1e-36, "float64")]
)
@pytest.mark.parametrize("blocks", [1, 2])
def test_tiny_probes_keep_their_direction(size, dtype, blocks):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is started with it")
    probes = size * np.array([[3.0, -4.0], [0.0, 0.0]], dtype)[:blocks]
    units = truth.to_numpy(unit(ops.convert_to_tensor(probes)))
    expected = np.array([[0.6, -0.8], [0.5**0.5, 0.5**0.5]])[:blocks]
    tolerance = 4 * float(np.finfo(dtype).eps)
    assert units == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_gram_iteration_bounds_at_every_step(shape):
    linear_map, array = matrix_map(shape)
    norm = truth.spectral_norm(array)
    bounds = [
        float(truth.to_numpy(gram_iteration(linear_map, steps)))
        for steps in range(8)
    ]
    assert all(bound >= norm * (1 - 1e-5) for bound in bounds)
    assert all(b <= a * (1 + 1e-5) for a, b in itertools.pairwise(bounds))
    for steps, bound in enumerate(bounds):
        assert bound <= norm * 20 ** (1 / 2 ** (steps + 1)) * (1 + 1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_gram_iteration_of_a_convolution(strides):
    layer = layers.Conv2D(4, 3, strides=strides)
    layer.build((None, None, None, 3))
    (linear_map,) = linear_maps(layer).values()
    bound = gram_iteration(linear_map, 6, grid=24)
    bound = float(truth.to_numpy(ops.stop_gradient(bound)))
    bounds = grid_bounds(linear_map, 24)
    assert bounds.upper * (1 - 1e-5) <= bound <= bounds.upper * 1.02


def test_gram_iteration_is_differentiable():
    class Penalty(layers.Dense):
        def call(self, inputs):
            self.add_loss(
                gram_iteration(MatrixMap(ArrayWeight(self.kernel)), 8)
            )
            return 0.0 * super().call(inputs)

    layer = Penalty(3, use_bias=False)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = truth.to_numpy(layer.kernel)
    model.train_on_batch(np.zeros((1, 4)), np.zeros((1, 3)))
    gradient = before - truth.to_numpy(layer.kernel)
    u, _, vt = np.linalg.svd(before, full_matrices=False)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], vt[0]), atol=0.02)


def test_gram_iteration_of_zero():
    linear_map = MatrixMap(ArrayWeight(np.zeros((3, 2), "float32")))
    assert float(truth.to_numpy(gram_iteration(linear_map))) < 1e-6


@pytest.mark.parametrize("shape", [(12, 9), (9, 12)])
def test_lanczos_top_values(shape):
    linear_map, array = matrix_map(shape)
    found = golub_kahan_lanczos(linear_map, k=3)
    expected = np.linalg.svd(array, compute_uv=False)[:3]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lanczos_of_a_convolution_at_a_size():
    layer = layers.Conv2D(2, 3, strides=2, use_bias=False)
    layer.build((None, None, None, 2))
    (linear_map,) = linear_maps(layer).values()
    with pytest.raises(ValueError, match="at_size"):
        golub_kahan_lanczos(linear_map)
    dense = truth.dense_matrix(layer, (7, 7, 2))
    expected = np.linalg.svd(dense, compute_uv=False)
    found = golub_kahan_lanczos(linear_map.at_size((7, 7)), k=2, steps=18)
    np.testing.assert_allclose(found, expected[:2], rtol=1e-4)
    bounds = lanczos_bounds(linear_map.at_size((7, 7)))
    assert bounds.lower <= expected[0]
    assert np.isinf(bounds.upper)


@pytest.mark.parametrize("grid", [4, 8, 32])
def test_grid_brackets(grid):
    layer = layers.Conv2D(3, 3)
    layer.build((None, None, None, 2))
    (linear_map,) = linear_maps(layer).values()
    bounds = grid_bounds(linear_map, grid)
    fine = np.linalg.svd(linear_map.blocks(grid=96), compute_uv=False).max()
    assert bounds.lower <= fine * linear_map.excess(96)
    assert fine <= bounds.upper


def test_a_grid_too_coarse_proves_nothing():
    layer = layers.Conv1D(3, 5)
    layer.build((None, None, 2))
    (linear_map,) = linear_maps(layer).values()
    assert np.isinf(grid_bounds(linear_map, 4).upper)


@pytest.mark.parametrize("size", [3, 20, 40])
def test_cholesky_test_proves_no_more_than_is_true(size):
    rng = np.random.default_rng(size)
    factor = rng.standard_normal((5, size, size))
    factor = factor + 1j * rng.standard_normal((5, size, size))
    grams = np.matmul(factor, np.conj(np.swapaxes(factor, 1, 2)))
    largest = np.linalg.eigvalsh(grams)[:, -1]
    factors = np.array([0.5, 1 - 1e-13, 1.0, 1 + 1e-9, 2.0])
    proved = proves_below(grams, factors * largest, 0.0)
    assert proved.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("kernel_size", [(), (3,), (2, 3), (2, 1, 2)])
@pytest.mark.parametrize(("groups", "rows", "columns"), [(1, 4, 3), (3, 2, 5)])
def test_gram_symbol(kernel_size, groups, rows, columns):
    rng = np.random.default_rng(0)
    symbol = Symbol(rng.standard_normal((groups, *kernel_size, rows, columns)))
    gram = GramSymbol(symbol)
    angles = rng.uniform(0, 2 * np.pi, (6, len(kernel_size)))
    chosen = rng.integers(0, groups, 6)
    found = gram.at(angles, chosen)
    values = np.linalg.eigvalsh(found)[:, -1]
    blocks = symbol.at(angles)[np.arange(6), chosen]
    expected = np.linalg.svd(blocks, compute_uv=False)[:, 0] ** 2
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    # The profile is the Rayleigh quotient of one vector, at any frequency.
    vector = rng.standard_normal(gram.size) + 1j * rng.standard_normal(
        gram.size
    )
    coefficients = gram.profile(vector, 0)
    profile = np.real(np.exp(-1j * (angles @ gram.shifts.T)) @ coefficients)
    grams = gram.at(angles, np.zeros(6, dtype=int))
    quotients = np.einsum("i,pij,j->p", vector.conj(), grams, vector).real
    np.testing.assert_allclose(profile, quotients, rtol=1e-12)


def test_ritz_values_are_below_and_near():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((4, 50, 50))
    grams = np.matmul(factor, np.swapaxes(factor, 1, 2))
    largest = np.linalg.eigvalsh(grams)[:, -1]
    values, vectors = ritz_pairs(grams, rng.standard_normal(50), 20)
    assert np.all(values <= largest * (1 + 1e-12))
    np.testing.assert_allclose(values, largest, rtol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0)


def test_wide_kernels_get_a_bound_that_is_worth_its_time():
    rng = np.random.default_rng(0)
    symbol = Symbol(rng.standard_normal((1, 3, 3, 256, 256)))
    found, *_ = symbol_norm.top(symbol, iterations=80)
    bound = symbol_norm.upper(symbol)
    assert found <= bound <= 1.06 * found
