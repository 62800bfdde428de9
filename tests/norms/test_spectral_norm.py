"""Certified norms: published figures, brackets, edge cases, arguments."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps import ArrayWeight
from keras_sn.linear_maps import MatrixMap
from keras_sn.linear_maps import linear_maps
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms import NormBounds
from keras_sn.norms import exact_bounds
from keras_sn.norms import refined_bounds
from keras_sn.norms import spectral_norm
from tests import truth


def he_normal(shape):
    """Kernel `(filters, channels, height, width)`, fan-out, as Keras has it."""
    deviation = math.sqrt(2 / (shape[0] * shape[2] * shape[3]))
    kernel = np.random.default_rng(0).standard_normal(shape) * deviation
    return kernel.transpose(2, 3, 1, 0)


@pytest.mark.parametrize("rtol", [1e-2, 1e-3])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64, 3, 3), 2.8439),
        ((64, 3, 7, 7), 1.7923),
        ((128, 64, 3, 3), 2.4350),
    ],
)
def test_independent_figures(shape, expected, rtol):
    kernel = he_normal(shape)
    layer = layers.Conv2D(shape[0], shape[2:])
    layer.build((None, None, None, shape[1]))
    layer.kernel.assign(kernel)
    bounds = spectral_norm(layer, rtol=rtol)
    # The figures have four decimals.
    assert bounds.lower <= expected + 5e-5
    assert bounds.upper >= expected - 5e-5
    assert bounds.gap <= rtol


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_large_inputs_come_within_three_percent(axes, seed):
    rng = np.random.default_rng(seed)
    kernel_size = tuple(int(k) for k in rng.integers(2, 4, axes))
    make = (layers.Conv1D, layers.Conv2D)[axes - 1]
    layer = make(2, kernel_size, padding="same", use_bias=False)
    layer.build((None, *(None,) * axes, 1))
    layer.kernel.assign(rng.standard_normal(layer.kernel.shape))
    size = ((96,), (22, 22))[axes - 1]
    dense = truth.dense_matrix(layer, (*size, 1))
    bounds = spectral_norm(layer, rtol=1e-3)
    found = truth.spectral_norm(dense)
    assert 0.97 * bounds.lower <= found <= bounds.upper * (1 + 1e-5)


def test_refinement_agrees_with_a_dense_grid():
    for seed in range(40):
        check_against_dense_grid(seed)


def check_against_dense_grid(seed):
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(0, 4))
    kernel_size = tuple(int(k) for k in rng.integers(1, 4, axes))
    groups, rows, columns = (
        int(n) for n in rng.integers(1, (24, 24, 16, 8)[axes], 3)
    )
    taps = rng.standard_normal((groups, *kernel_size, rows, columns))
    # Peaked symbols as well as flat ones.
    taps = taps + 3 * rng.random() * rng.choice([0.0, 1.0])
    symbol = Symbol(taps)
    bounds = refined_bounds(symbol, rtol=1e-2)
    grid = (16, 24, 16, 6)[axes]
    sampled = np.linalg.svd(symbol.sample(grid), compute_uv=False).max()
    assert bounds.gap <= 1e-2, seed
    assert sampled <= bounds.upper, seed
    highest = sampled * symbol.excess(grid) * (1 + 1e-9)
    assert bounds.lower <= highest, seed


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (3, 20, 20)])
def test_matrices_by_both_methods(shape):
    taps = np.random.default_rng(0).standard_normal(shape)
    symbol = Symbol(taps.reshape(-1, *shape[-2:]))
    expected = np.linalg.svd(taps, compute_uv=False).max()
    exact = exact_bounds(symbol)
    assert exact.lower <= expected * (1 + 1e-14)
    assert exact.upper >= expected * (1 - 1e-14)
    assert exact.gap < 1e-10
    refined = refined_bounds(symbol, rtol=1e-4)
    assert refined.lower <= expected <= refined.upper
    assert refined.gap <= 1e-4


@pytest.mark.parametrize("columns", [3, 20])
def test_circular_norm_on_a_given_grid(columns):
    rng = np.random.default_rng(0)
    symbol = Symbol(rng.standard_normal((1, 3, 3, 20, columns)))
    bounds = refined_bounds(symbol, rtol=1e-3, grid=(7, 8))
    expected = np.linalg.svd(symbol.sample((7, 8)), compute_uv=False).max()
    assert bounds.lower <= expected <= bounds.upper
    assert bounds.gap <= 1e-3


def test_exact_refuses_a_symbol():
    with pytest.raises(ValueError, match="method='auto'"):
        exact_bounds(Symbol(np.ones((1, 3, 2, 2))))


def test_two_spikes_between_the_cells():
    # A pure exponential comb: the norm is attained along whole lines.
    taps = np.zeros((1, 5, 5, 1, 1))
    taps[0, 0, 0] = taps[0, 4, 4] = 1.0
    bounds = refined_bounds(Symbol(taps), rtol=1e-2)
    assert bounds.lower <= 2.0 <= bounds.upper


def test_of_arrays():
    array = np.random.default_rng(0).standard_normal((3, 4, 5))
    expected = truth.spectral_norm(array.reshape(12, 5))
    bounds = spectral_norm(array)
    assert bounds.lower <= expected <= bounds.upper
    tensor = keras.ops.convert_to_tensor(array.astype("float32"))
    assert spectral_norm(tensor).upper == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", ["auto", "refine", "power_iteration"])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (4, 0)])
def test_zero_and_empty(shape, method):
    bounds = spectral_norm(np.zeros(shape), method=method)
    assert bounds == NormBounds(0.0, 0.0)


def test_zero_convolution():
    layer = layers.Conv2D(3, 3, kernel_initializer="zeros")
    layer.build((None, None, None, 2))
    assert spectral_norm(layer) == NormBounds(0.0, 0.0)


@pytest.mark.parametrize("method", ["auto", "refine"])
@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e-200, 1e200])
def test_tiny_and_huge(scale, method):
    array = np.arange(1.0, 13.0).reshape(3, 4)
    expected = np.linalg.norm(array, 2)
    bounds = spectral_norm(scale * array, method=method)
    assert bounds.lower / scale <= expected * (1 + 1e-12)
    assert bounds.upper / scale >= expected * (1 - 1e-12)
    assert bounds.gap <= 1e-2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(bad):
    layer = layers.Dense(3, name="broken")
    layer.build((None, 2))
    layer.kernel.assign([[1.0, bad, 2.0], [0.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match="broken/kernel"):
        spectral_norm(layer)


def test_unbuilt_layer_is_named():
    with pytest.raises(ValueError, match="'unbuilt' is not built"):
        spectral_norm(layers.Dense(3, name="unbuilt"))


@pytest.mark.parametrize("norm", ["kernel", "operator"])
def test_a_wrapped_layer_counts_as_normalized(norm):
    inner = layers.Conv2D(4, 3, kernel_initializer="he_normal")
    wrapper = SpectralNormalization(inner, norm=norm, norm_bound=2.0)
    with pytest.raises(ValueError, match=wrapper.name):
        spectral_norm(wrapper)
    wrapper.build((None, 9, 9, 3))
    bounds = spectral_norm(wrapper, norm=norm)
    assert bounds.lower == pytest.approx(2.0, rel=0.02)


def test_several_maps_are_named_and_one_can_be_passed():
    layer = layers.LSTM(3)
    layer.build((None, 4, 2))
    with pytest.raises(ValueError, match="linear_maps"):
        spectral_norm(layer)
    kernel, recurrent = linear_maps(layer).values()
    assert spectral_norm(kernel).upper > 0
    assert spectral_norm(recurrent).gap <= 1e-2


@pytest.mark.parametrize(
    "arguments",
    [{"method": "guess"}, {"rtol": 0.0}, {"rtol": 1.0}, {"norm": "l1"}],
)
def test_unknown_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        spectral_norm(np.eye(2), **arguments)


@pytest.mark.parametrize("nonsense", ["text", np.ones(3), None])
def test_what_is_no_matrix(nonsense):
    with pytest.raises(ValueError, match="array"):
        spectral_norm(nonsense)


def test_an_estimate_is_no_certificate():
    layer = layers.Conv2D(3, 3)
    layer.build((None, None, None, 2))
    estimate = spectral_norm(layer, method="power_iteration")
    certified = spectral_norm(layer)
    assert math.isinf(estimate.upper)
    assert estimate.lower <= certified.upper
    assert estimate.lower >= 0.9 * certified.lower


def test_progress_is_reported():
    seen = []
    layer = layers.Conv2D(3, 3)
    layer.build((None, None, None, 2))
    spectral_norm(layer, progress=lambda *state: seen.append(state))
    done, total = seen[-1]
    assert done == total > 0


def test_separable_is_one_map():
    layer = layers.SeparableConv1D(2, 3, padding="same", use_bias=False)
    layer.build((None, None, 2))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    dense = truth.dense_matrix(layer, (64, 2))
    bounds = spectral_norm(layer, rtol=1e-3)
    assert 0.97 * bounds.lower <= truth.spectral_norm(dense) <= bounds.upper


def test_batch_normalization():
    layer = layers.BatchNormalization(epsilon=0.1)
    layer.build((None, 3))
    layer.gamma.assign([1.0, -2.0, 0.5])
    layer.moving_variance.assign([0.0, 1.0, 3.0])
    bounds = spectral_norm(layer)
    expected = truth.spectral_norm(truth.dense_matrix(layer, (3,)))
    assert bounds.upper == pytest.approx(expected, rel=1e-6)


def test_convolutional_lstm():
    layer = layers.ConvLSTM1D(2, 3, padding="same")
    layer.build((None, 4, 8, 2))
    maps = linear_maps(layer, norm="operator")
    assert len(maps) == 2
    for path, linear_map in maps.items():
        kernel = next(w for w in layer.weights if w.path == path)
        plain = layers.Conv1D(8, 3, padding="same", use_bias=False)
        plain.build((None, 8, 2))
        plain.set_weights([kernel.numpy()])
        dense = truth.dense_matrix(plain, (48, 2))
        bounds = spectral_norm(linear_map)
        found = truth.spectral_norm(dense)
        assert 0.97 * bounds.lower <= found <= bounds.upper


def test_a_map_of_an_array():
    linear_map = MatrixMap(ArrayWeight(np.eye(3, dtype="float32") * 2))
    assert spectral_norm(linear_map).upper == pytest.approx(2.0)
