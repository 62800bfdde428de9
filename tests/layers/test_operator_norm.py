"""SpectralNormalization(norm="operator"): the map that the layer applies."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn import spectral_norm as certified_norm
from keras_sn.layers import SpectralNormalization
from keras_sn.models import fold_model
from tests.truth import dense_matrix
from tests.truth import spectral_norm

SIZE = 16
# name: (layer, how far the norm may be from the bound)
CONVOLUTIONS = {
    "3x3": (lambda: layers.Conv2D(5, 3, padding="same"), 0.02),
    "5x5": (lambda: layers.Conv2D(5, 5), 0.02),
    "7x7": (lambda: layers.Conv2D(5, 7, padding="same"), 0.05),
    "strided": (lambda: layers.Conv2D(5, 3, strides=2), 0.02),
    "patches": (lambda: layers.Conv2D(5, 2, strides=2), 0.02),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=2), 0.02),
    "dilated": (lambda: layers.Conv2D(5, 3, dilation_rate=2), 0.02),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        0.02,
    ),
    "transposed": (lambda: layers.Conv2DTranspose(5, 3, strides=2), 0.02),
    "separable": (lambda: layers.SeparableConv2D(5, 3), 0.02),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_norm_of_the_map_after_training(kind):
    make, tolerance = CONVOLUTIONS[kind]
    wrapper = SpectralNormalization(make(), norm="operator", norm_bound=1.5)
    # The training image is smaller than the test's, its size unknown.
    model = keras.Sequential([keras.Input((None, None, 4)), wrapper])
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((32, 10, 10, 4)).astype("float32")
    targets = rng.standard_normal(model(inputs).shape).astype("float32")
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(keras.optimizers.SGD(0.02), "mse", jit_compile=jit)
    history = model.fit(inputs, targets, batch_size=8, epochs=5, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]

    bounds = certified_norm(wrapper, rtol=1e-3)
    assert bounds.upper <= 1.5 * (1 + tolerance)
    assert bounds.lower >= 1.5 * (1 - tolerance)
    matrix = dense_matrix(wrapper, (SIZE, SIZE, 4))
    assert spectral_norm(matrix) <= 1.5 * 1.02


@pytest.mark.parametrize(("size", "excess"), [(3, 0.04), (5, 0.18), (7, 0.13)])
def test_what_is_promised_between_the_frequencies(size, excess):
    """As the docstring says; one channel is the worst of widths tried."""
    model = keras.Sequential([keras.Input((None, None, 1))])
    for seed in range(12):
        start = keras.initializers.RandomNormal(seed=seed)
        conv = layers.Conv2D(1, size, kernel_initializer=start)
        # Each takes what the one before it puts out: one channel.
        model.add(SpectralNormalization(conv, norm="operator"))
    served = [certified_norm(w, rtol=1e-3).lower for w in model.layers]
    assert 1.005 < max(served) <= 1 + excess
    folded = fold_model(model, certified=True)
    assert all(certified_norm(conv).upper <= 1 for conv in folded.layers)


def test_state_is_small_and_knows_no_input_size():
    wrapper = SpectralNormalization(layers.Conv2D(5, 3), norm="operator")
    wrapper.build((None, None, None, 4))
    frequencies, width = wrapper.vector_u.shape
    assert width == 2 * 5
    assert frequencies <= 160


def test_clip_with_the_norm_of_the_map():
    wrapper = SpectralNormalization(
        layers.Conv2D(5, 3), norm="operator", mode="clip", norm_bound=2.0
    )
    wrapper.build((None, 8, 8, 4))
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 5))
    for scale, expected in ((1e-3, None), (10.0, 2.0)):
        wrapper.layer.kernel.assign(scale * kernel)
        wrapper.refresh()
        plain = certified_norm(wrapper.layer, rtol=1e-3).upper
        bounds = certified_norm(wrapper, rtol=1e-3)
        assert bounds.upper == pytest.approx(expected or plain, rel=0.02)


def test_dense_is_the_same_for_both_norms():
    for norm in ("kernel", "operator"):
        wrapper = SpectralNormalization(layers.Dense(5), norm=norm)
        wrapper.build((None, 6))
        assert spectral_norm(dense_matrix(wrapper, (6,))) == pytest.approx(
            1.0, rel=1e-5
        )


def test_batch_normalization_bounds_the_folded_scale():
    wrapper = SpectralNormalization(
        layers.BatchNormalization(), norm="operator", norm_bound=0.5
    )
    wrapper.build((None, 6))
    rng = np.random.default_rng(0)
    wrapper.layer.gamma.assign(rng.standard_normal(6))
    wrapper.layer.moving_variance.assign(rng.uniform(0.1, 4, 6))
    assert spectral_norm(dense_matrix(wrapper, (6,))) == pytest.approx(
        0.5, rel=1e-5
    )
