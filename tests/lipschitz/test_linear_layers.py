"""Linear layers in a network: weights replaced from outside, odd sizes."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from tests import truth


def small(units, **kwargs):
    """A layer whose own kernel is a hundredth of the normalized one."""
    start = keras.initializers.RandomNormal(stddev=0.005, seed=1)
    return layers.Dense(units, kernel_initializer=start, **kwargs)


def small_model():
    return keras.Sequential([keras.Input((4,)), small(4)])


def functional_model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, small(4)(inputs))


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.TimeDistributed(small(4)),
        lambda: layers.TimeDistributed(small_model()),
        lambda: layers.TimeDistributed(functional_model()),
        lambda: layers.TimeDistributed(layers.TimeDistributed(small(4))),
        lambda: keras.Sequential([layers.TimeDistributed(small(4))]),
    ],
)
def test_normalized_weights_count_inside_of_layers(make):
    inner = make()
    shape = (2, 3, 4)
    if not isinstance(getattr(inner, "layer", None), layers.TimeDistributed):
        shape = (3, 4)
    wrapper = SpectralNormalization(inner)
    model = keras.Sequential([keras.Input(shape), wrapper])
    dense = truth.spectral_norm(truth.dense_matrix(model, shape))
    assert dense == pytest.approx(1.0, rel=1e-4)
    for layer in (model, wrapper):
        bound = lipschitz_bound(layer, lower=False).upper
        assert dense <= bound * (1 + 1e-5)
        assert bound == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("merge_mode", ["concat", "sum"])
def test_normalized_weights_count_in_both_directions(merge_mode):
    start = keras.initializers.RandomNormal(stddev=0.005, seed=1)
    rnn = layers.SimpleRNN(
        3,
        activation="linear",
        kernel_initializer=start,
        recurrent_initializer="zeros",
    )
    inner = layers.Bidirectional(rnn, merge_mode=merge_mode)
    wrapper = SpectralNormalization(inner, weight_names=["kernel"])
    model = keras.Sequential([keras.Input((2, 4)), wrapper])
    dense = truth.spectral_norm(truth.dense_matrix(model, (2, 4)))
    bound = lipschitz_bound(model, lower=False).upper
    assert 0.9 <= dense <= bound * (1 + 1e-5)


def test_an_activation_over_an_axis_that_einsum_moved():
    # The last axis of the output has 50 entries, that of the kernel two.
    layer = layers.EinsumDense("abc,cd->adb", (2, 50), activation="log_softmax")
    model = keras.Sequential([keras.Input((50, 2)), layer])
    kernel = truth.spectral_norm(truth.to_numpy(layer.kernel))
    expected = kernel * 50**0.5
    for bounded in (model, layer):
        bound = lipschitz_bound(bounded, lower=False).upper
        assert bound == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="JAX has no float64 unless it is started with it",
)
@pytest.mark.parametrize(
    "scales",
    [
        (1e-200, 1e-200, 1e300),
        (1e-320, 1e300, 1e20),
        (1e-160, 1e-160, 1e300),
        (1e300, 1e-200, 1e-200),
        (1e307, 1e-307, 1.0),
    ],
)
@pytest.mark.parametrize("method", ["product", "folded", "auto"])
def test_products_that_leave_the_range_on_the_way(scales, method):
    rng = np.random.default_rng(0)
    stack = [layers.Dense(3, use_bias=False, dtype="float64") for _ in scales]
    model = keras.Sequential([keras.Input((3,)), *stack])
    logarithm, product = 0.0, np.eye(3)
    for layer, scale in zip(stack, scales, strict=True):
        matrix = rng.standard_normal((3, 3))
        layer.kernel.assign(matrix * scale)
        product = product @ matrix
        logarithm += np.log(scale)
    true = np.log(truth.spectral_norm(product)) + logarithm
    bound = lipschitz_bound(model, method=method, lower=False).upper
    assert true <= np.log(bound) + 1e-3
    assert np.log(bound) <= true + 3.0
