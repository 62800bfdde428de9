"""WeightNormalization by NumPy, by itself and below a spectral norm."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.layers import WeightNormalization
from keras_sn.linear_maps import linear_maps
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.models import norm_report
from keras_sn.models import normalize_model
from keras_sn.models import void_normalizations
from keras_sn.norms import spectral_norm
from tests import truth
from tests.gradients import gradients
from tests.gradients import inner
from tests.layers.bounded_layers import fitted

# With the axes of the kernel that an output is the sum over.
LAYERS = {
    "dense": (lambda: layers.Dense(5), (6,), (0,)),
    "conv1d": (lambda: layers.Conv1D(4, 3, use_bias=False), (7, 3), (0, 1)),
    "conv2d_grouped": (
        lambda: layers.Conv2D(4, 3, strides=2, groups=2),
        (6, 6, 4),
        (0, 1, 2),
    ),
    "single": (lambda: layers.Conv2D(1, 2), (4, 4, 1), (0, 1, 2)),
    "transposed": (
        lambda: layers.Conv2DTranspose(3, 3, strides=2),
        (3, 3, 2),
        (0, 1, 3),
    ),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (5, 5, 2),
        (0, 1),
    ),
}
each = pytest.mark.parametrize("name", LAYERS)


def built(name):
    """A layer whose lengths are not those of its kernel."""
    make, shape, axes = LAYERS[name]
    layer = WeightNormalization(make())
    layer.build((None, *shape))
    count = layer.gain.shape[0]
    layer.gain.assign(np.linspace(0.5, 2.0, count, dtype="float32"))
    return layer, shape, axes


def expected_kernel(layer, axes):
    kernel = truth.to_numpy(layer.kernel_variable)
    lengths = np.sqrt((kernel**2).sum(axis=axes, keepdims=True))
    return kernel / lengths * truth.to_numpy(layer.gain).reshape(lengths.shape)


def plain(layer, kernel):
    """The layer inside, with another kernel."""
    copy = type(layer.layer).from_config(layer.layer.get_config())
    copy.build((None, *LAYERS_BY_CLASS[type(copy).__name__]))
    weights = layer.layer.get_weights()
    copy.set_weights([kernel, *weights[1:]])
    return copy


LAYERS_BY_CLASS = {
    type(make()).__name__: shape
    for make, shape, _ in LAYERS.values()
    if len(shape) < 3 or shape[-1] > 1
}


@each
def test_lengths_are_those_of_the_gain(name):
    layer, shape, axes = built(name)
    kernel = expected_kernel(layer, axes)
    np.testing.assert_allclose(
        truth.to_numpy(layer.applied_kernel()), kernel, rtol=1e-5, atol=1e-6
    )
    (linear_map,) = linear_maps(layer).values()
    (folded,) = linear_map.folded_values()
    np.testing.assert_allclose(
        truth.to_numpy(folded), kernel, rtol=1e-5, atol=1e-6
    )
    if name == "single":
        return
    inputs = np.random.default_rng(0).standard_normal((3, *shape))
    inputs = inputs.astype("float32")
    np.testing.assert_allclose(
        truth.to_numpy(layer(inputs)),
        truth.to_numpy(plain(layer, kernel)(inputs)),
        rtol=1e-4,
        atol=1e-5,
    )


@each
def test_nothing_changes_at_first(name):
    make, shape, _ = LAYERS[name]
    layer = WeightNormalization(make())
    inputs = np.random.default_rng(0).standard_normal((2, *shape))
    inputs = inputs.astype("float32")
    outputs = truth.to_numpy(layer(inputs))
    expected = truth.to_numpy(layer.layer(inputs))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@each
def test_followed_by_a_spectral_norm(name):
    inner, shape, _ = built(name)
    layer = SpectralNormalization(inner, norm="operator", norm_bound=0.7)
    layer.build((None, *shape))
    before = truth.to_numpy(inner.gain)
    matrix = truth.dense_matrix(layer, shape)
    norm = truth.spectral_norm(matrix)
    # Other singular values of a convolution lie between the frequencies.
    assert norm <= 0.7 * 1.04
    if name == "dense":
        assert norm == pytest.approx(0.7, rel=2e-3)
    assert norm <= lipschitz_bound(layer, lower=False).upper * (1 + 1e-5)
    # One number for all lengths.
    (gain,) = layer.normalized_weights().values()
    ratios = truth.to_numpy(gain) / before
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)


@each
def test_a_fold_is_plain(name):
    inner, shape, _ = built(name)
    wrapped = SpectralNormalization(inner, norm="operator", norm_bound=0.7)
    wrapped.build((None, *shape))
    wrapped.refresh()
    inputs = np.random.default_rng(0).standard_normal((2, *shape))
    for layer in (inner, wrapped):
        model = keras.Sequential([keras.Input(shape), layer])
        for certified in (False, True):
            folded = fold_model(model, certified=certified)
            (twin,) = folded.layers
            assert type(twin) is type(inner.layer)
            np.testing.assert_allclose(
                truth.to_numpy(folded(inputs)),
                truth.to_numpy(model(inputs)),
                rtol=0.05 if certified else 2e-3,
                atol=0.02 if certified else 2e-3,
            )
    assert spectral_norm(twin).upper <= 0.7
    (row,) = norm_report(model).rows
    assert row.layer_class == type(inner.layer).__name__
    assert row.upper <= 0.7 * 1.05


def test_trains_saves_and_reloads(tmp_path):
    """The kernel, the lengths; the norm holds, and survives a file."""
    inputs = np.random.default_rng(0).standard_normal((16, 6))
    inputs = inputs.astype("float32")
    layer = SpectralNormalization(WeightNormalization(layers.Dense(4)))
    model, losses = fitted(layer, inputs)
    assert losses[-1] < losses[0]
    start = truth.to_numpy(layer.layer.gain)
    assert start.std() > 0.01
    matrix = truth.dense_matrix(layer, (6,))
    assert truth.spectral_norm(matrix) == pytest.approx(1.0, rel=1e-2)
    outputs = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(inputs, verbose=0), outputs, rtol=1e-6, atol=1e-6
    )


def test_gradient_is_that_of_the_formula():
    """Of `sum(c * outputs)`, by the derivative of the paper."""
    layer, _, _ = built("dense")
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((2, 6)).astype("float32")
    weights = rng.standard_normal((2, 5)).astype("float32")
    kernel = truth.to_numpy(layer.kernel_variable)
    gain = truth.to_numpy(layer.gain)
    # Not by a step of SGD: on TensorFlow 2.21 one variable may be updated
    # before the gradient of another, which needs it, is computed.
    of_both = gradients(
        lambda: inner(layer(inputs), weights),
        [layer.gain, layer.kernel_variable],
    )
    found_gain, found_kernel = map(truth.to_numpy, of_both)
    gradient = inputs.T @ weights
    lengths = np.linalg.norm(kernel, axis=0)
    unit = kernel / lengths
    of_gain = (gradient * unit).sum(axis=0)
    of_kernel = gain / lengths * (gradient - of_gain * unit)
    np.testing.assert_allclose(found_gain, of_gain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found_kernel, of_kernel, rtol=1e-4, atol=1e-4)


def test_in_a_model():
    """normalize_model wraps it, and a normalization behind is reported."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            WeightNormalization(layers.Dense(4), name="hidden"),
            layers.LayerNormalization(),
        ]
    )
    with pytest.warns(UserWarning, match="'hidden' has no effect"):
        normalized = normalize_model(model)
    hidden = normalized.get_layer("hidden")
    assert isinstance(hidden, SpectralNormalization)
    assert isinstance(hidden.layer, WeightNormalization)
    assert len(void_normalizations(normalized)) == 1
    assert not void_normalizations(model)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_narrow_types(dtype):
    inner = WeightNormalization(layers.Dense(4, dtype=dtype), dtype=dtype)
    layer = SpectralNormalization(inner, dtype=dtype)
    outputs = layer(np.ones((2, 6), "float32"), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    (gain,) = layer.normalized_weights().values()
    kernel = keras.ops.cast(inner.applied_kernel(gain), "float32")
    norm = truth.spectral_norm(truth.to_numpy(kernel))
    assert norm == pytest.approx(1.0, abs=0.01)
    # Outputs of eight bits are rounded as well.
    assert norm < lipschitz_bound(layer, lower=False).upper < 1.06


def test_a_layer_that_does_not_fit():
    layer = WeightNormalization(layers.LSTM(3, name="memory"))
    with pytest.raises(ValueError, match="layer 'memory' \\(LSTM\\)"):
        layer.build((None, 4, 2))
