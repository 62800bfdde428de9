"""The state of keras.layers.SpectralNormalization fits ours."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from tests.truth import spectral_norm
from tests.truth import to_numpy


def test_kernel_and_vector_u_load_one_to_one(tmp_path):
    stock = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.SpectralNormalization(layers.Dense(5)),
        ]
    )
    for _ in range(60):
        stock(np.zeros((1, 6), "float32"), training=True)
    ours = keras.Sequential(
        [keras.Input((6,)), SpectralNormalization(layers.Dense(5))]
    )
    path = tmp_path / "stock.weights.h5"
    stock.save_weights(path)
    ours.load_weights(path)
    np.testing.assert_array_equal(
        to_numpy(ours.layers[0].vector_u), to_numpy(stock.layers[0].vector_u)
    )
    kernel = to_numpy(stock.layers[0].kernel)
    np.testing.assert_array_equal(to_numpy(ours.layers[0].layer.kernel), kernel)
    # The stock layer stored a normalized kernel: ours takes it as it is.
    (normalized,) = ours.layers[0].normalized_weights().values()
    expected = kernel / np.linalg.norm(kernel, 2)
    np.testing.assert_allclose(to_numpy(normalized), expected, atol=1e-6)
    sigma = np.linalg.norm(kernel @ to_numpy(stock.layers[0].vector_u)[0])
    np.testing.assert_allclose(to_numpy(normalized), kernel / sigma, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("converged", [True, False])
def test_what_is_served_does_not_depend_on_their_vector(converged, sign):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((60, 50)).astype("float32")
    vector = sign * np.linalg.svd(kernel)[2][:1]
    if not converged:
        vector = rng.standard_normal((1, 50))
        vector /= np.linalg.norm(vector)
    wrapper = SpectralNormalization(layers.Dense(50))
    wrapper.build((None, 60))
    wrapper.kernel.assign(kernel)
    wrapper.refresh()
    wrapper.take_vector_u(vector.astype("float32"))
    (served,) = wrapper.normalized_weights().values()
    assert spectral_norm(to_numpy(served)) == pytest.approx(1, rel=1e-3)


def test_a_vector_for_other_matrices_is_left():
    wrapper = SpectralNormalization(layers.Conv2D(4, 3, groups=2))
    wrapper.build((None, 8, 8, 4))
    before = to_numpy(wrapper.vector_u)
    # Theirs is for the kernel as one matrix, ours for two.
    wrapper.take_vector_u(np.ones((1, 4), "float32") / 2)
    np.testing.assert_array_equal(to_numpy(wrapper.vector_u), before)
