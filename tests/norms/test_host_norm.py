"""Tests of host_norm against singular values by NumPy."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.linear_maps import ArrayWeight
from keras_sn.linear_maps import MatrixMap
from keras_sn.linear_maps import linear_maps
from keras_sn.norms.host_norm import host_norm


def with_spectrum(rows, columns, spectrum):
    """A matrix of known singular values in a random basis."""
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((rows, len(spectrum))))
    right, _ = np.linalg.qr(rng.standard_normal((columns, len(spectrum))))
    return (left * spectrum) @ right.T


def norm(array):
    # As values: JAX has no float64 for the weight itself.
    return host_norm(MatrixMap(ArrayWeight(array)), (array,))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (900, 800), (800, 2000)])
def test_random_matrix(shape):
    array = np.random.default_rng(0).standard_normal(shape)
    assert norm(array) == pytest.approx(np.linalg.norm(array, 2), rel=1e-9)


@pytest.mark.parametrize(
    "spectrum",
    [
        np.linspace(1, 0.5, 800),
        np.r_[1.0, np.full(799, 1 - 1e-5)],
        np.r_[np.ones(400), np.full(400, 0.999)],
        np.r_[1.0, np.zeros(799)],
    ],
    ids=["spread", "near_ties", "ties", "rank_one"],
)
def test_slow_spectra_beyond_the_gram_matrix(spectrum):
    array = with_spectrum(1000, 800, spectrum)
    assert norm(array) == pytest.approx(1, rel=1e-6)


def test_a_block_that_the_rest_never_reaches():
    """Where a power iteration from the rest's vector stays at 1."""
    array = np.zeros((1600, 1600))
    array[:800, :800] = with_spectrum(800, 800, np.full(800, 1.0))
    array[1599, 1599] = 4.5
    assert norm(array) == pytest.approx(4.5, rel=1e-9)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-30])
def test_far_from_one(scale):
    array = scale * np.diag([3.0, 4.0])
    assert norm(array) == pytest.approx(4 * scale, rel=1e-12)


def test_zero_and_not_a_number():
    assert norm(np.zeros((2, 3))) == 0
    assert np.isnan(norm(np.array([[1.0, np.nan]])))
    assert np.isnan(norm(np.array([[1.0, np.inf]])))


@pytest.mark.parametrize("channels", [2, 100])
def test_symbol_of_a_convolution(channels):
    """The largest norm at the frequencies that training looks at, by a DFT."""
    keras.utils.set_random_seed(3)
    layer = layers.Conv2D(channels + 1, 3)
    layer.build((None, None, None, channels))
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
    (linear_map,) = linear_maps(layer, "operator").values()
    symbol = np.fft.fft2(kernel, linear_map.probe_grid, axes=(0, 1))
    expected = np.linalg.svd(symbol, compute_uv=False).max()
    assert host_norm(linear_map) == pytest.approx(expected, rel=1e-9)
