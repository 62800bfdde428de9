"""The state of keras.layers.SpectralNormalization fits ours."""

import keras
import numpy as np
from keras import layers

from keras_sn.layers import SpectralNormalization
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
