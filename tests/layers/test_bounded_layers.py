"""Layers of bounded norm against dense matrices, Jacobians and each other."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_sn import layers
from keras_sn.linear_maps.registry import own_maps
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.models import norm_report
from keras_sn.models import normalize_model
from keras_sn.norms import spectral_norm
from tests import truth
from tests.layers.bounded_layers import BOUNDED
from tests.layers.bounded_layers import JIT
from tests.layers.bounded_layers import ORTHOGONAL
from tests.layers.bounded_layers import conv_of
from tests.layers.bounded_layers import fitted
from tests.layers.bounded_layers import randomize
from tests.layers.harness import Harness
from tests.slopes import measured_slope
from tests.thoroughness import left_out

each = pytest.mark.parametrize("case", BOUNDED, ids=str)
each_orthogonal = pytest.mark.parametrize("case", ORTHOGONAL, ids=str)


def singular_values(layer, shape):
    return np.linalg.svd(truth.dense_matrix(layer, shape), compute_uv=False)


def jacobian(layer, point, step=1e-2):
    """`(inputs, outputs)` by differences, the layer affine around there."""
    count = point.size
    steps = step * np.eye(count, dtype="float32").reshape(count, *point.shape)
    moved = truth.to_numpy(layer(point + steps)).reshape(count, -1)
    return (moved - truth.to_numpy(layer(point[None])).ravel()) / step


@each
def test_trains_saves_and_reloads(case, tmp_path):
    inputs = case.inputs()
    layer = case.make()
    model, losses = fitted(layer, inputs)
    if layer.trainable_weights:
        assert losses[-1] < losses[0]
    if case in ORTHOGONAL:
        values = singular_values(layer, case.shape)
        assert values.max() <= 1.0
        assert values.max() >= 0.9999
        if case.orthogonal:
            assert values.min() >= 0.9999
    outputs = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(inputs, verbose=0), outputs, rtol=1e-6, atol=1e-6
    )
    model.save_weights(tmp_path / "model.weights.h5")
    randomize(again)
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(
        again.predict(inputs, verbose=0), outputs, rtol=1e-6, atol=1e-6
    )


@each_orthogonal
def test_certificates_agree_with_the_dense_matrix(case):
    layer = case.layer()
    found = singular_values(layer, case.shape).max()
    bounds = spectral_norm(layer)
    bound = lipschitz_bound(layer, lower=False).upper
    assert found <= bounds.upper + 1e-6 <= 1.0
    assert bounds.lower <= 1.0
    assert bound == pytest.approx(bounds.upper, abs=1e-6)
    assert bounds.upper == pytest.approx(found, abs=2e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_whatever_the_variables_are(scale):
    """Small, large, and close to a matrix of a lower rank."""
    layer = layers.OrthogonalDense(6)
    layer.build((None, 6))
    raw = np.random.default_rng(0).standard_normal((6, 6))
    raw[:, 5] = raw[:, 0] + 1e-3 * raw[:, 5]
    layer.raw_kernel.assign((scale * raw).astype("float32"))
    values = singular_values(layer, (6,))
    assert 0.9999 < values.min() <= values.max() <= 1.0


def test_the_kernel_is_smooth_in_the_variables():
    """The signs of a QR decomposition jump where an entry changes its sign."""
    layer = layers.OrthogonalDense(3)
    layer.build((None, 3))
    raw = np.random.default_rng(0).standard_normal((3, 3))
    kernels = []
    for first in (1e-4, -1e-4):
        raw[0, 0] = first
        layer.raw_kernel.assign(raw.astype("float32"))
        kernels.append(truth.to_numpy(layer.kernel))
    assert np.abs(kernels[0] - kernels[1]).max() < 1e-3


@each_orthogonal
def test_norm_bound(case):
    layer = case.make()
    config = {**layer.get_config(), "norm_bound": 3.0}
    layer = type(layer).from_config(config)
    layer.build((None, *case.shape))
    assert singular_values(layer, case.shape).max() == pytest.approx(
        3.0, rel=1e-4
    )
    assert spectral_norm(layer).upper <= 3.0


@each_orthogonal
def test_the_linear_map_is_what_the_layer_does(case):
    layer = case.layer()
    (linear_map,) = own_maps(layer, "operator")
    if len(case.shape) > 1 and hasattr(linear_map, "at_size"):
        linear_map = linear_map.at_size(case.shape[:-1])
    inputs = case.inputs()
    zero = truth.to_numpy(layer(np.zeros_like(inputs[:1])))
    expected = truth.to_numpy(layer(inputs)) - zero
    if isinstance(layer, layers.OrthogonalDense):
        inputs = inputs.reshape(-1, case.shape[-1])
    outputs = truth.to_numpy(linear_map.matvec(inputs))
    np.testing.assert_allclose(
        outputs.ravel(), expected.ravel(), rtol=1e-4, atol=1e-5
    )
    other = np.random.default_rng(3).standard_normal(outputs.shape)
    pulled = truth.to_numpy(linear_map.rmatvec(other.astype("float32")))
    assert np.sum(outputs * other) == pytest.approx(
        np.sum(inputs * pulled), rel=1e-4, abs=1e-4
    )


@each
def test_slopes_are_at_most_one(case):
    layer = case.layer()
    rng = np.random.default_rng(0)
    assert measured_slope(layer, [case.shape], rng, pairs=64) <= 1.0
    bound = lipschitz_bound(layer, lower=False).upper
    assert bound <= 1.0 + 1e-6


@each
def test_a_fold_is_plain_and_computes_the_same(case):
    model = keras.Sequential([keras.Input(case.shape), case.layer()])
    inputs = case.inputs()
    expected = truth.to_numpy(model(inputs))
    for certified in (False, True):
        folded = fold_model(model, certified=certified)
        np.testing.assert_allclose(
            truth.to_numpy(folded(inputs)), expected, rtol=1e-4, atol=1e-4
        )
    if case in ORTHOGONAL:
        kinds = {type(part) for part in folded._flatten_layers()}
        assert all(kind.__module__.startswith("keras.") for kind in kinds)
        (row,) = norm_report(model).rows
        assert row.upper <= 1.0


@each
def test_normalizing_leaves_it_alone(case):
    last = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input(case.shape), case.layer(), last])
    first, second = normalize_model(model, norm="operator").layers
    assert type(first) is type(case.make())
    assert isinstance(second, layers.SpectralNormalization)
    with pytest.raises(ValueError, match="nothing to normalize"):
        layers.SpectralNormalization(case.make()).build((None, *case.shape))


def test_sorting():
    inputs = np.random.default_rng(0).standard_normal((5, 12)).astype("float32")
    for size in (1, 2, 3, 4, 12):
        outputs = truth.to_numpy(layers.GroupSort(size)(inputs))
        expected = np.sort(inputs.reshape(5, -1, size), axis=-1)
        np.testing.assert_array_equal(
            outputs, expected.reshape(5, 12).astype("float64")
        )


def test_reflections():
    layer = layers.Householder()
    layer.build((None, 6))
    randomize(layer)
    inputs = np.random.default_rng(1).standard_normal((5, 6)).astype("float32")
    angle = truth.to_numpy(layer.angle)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    pairs = inputs.reshape(5, 3, 2)
    side = np.sum(pairs * vectors, axis=-1, keepdims=True)
    mirrored = pairs - 2 * side * vectors
    expected = np.where(side >= 0, pairs, mirrored).reshape(5, 6)
    outputs = truth.to_numpy(layer(inputs))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["max_min", "group_sort", "householder"])
def test_activations_keep_the_norm_of_gradients(name):
    (case,) = (case for case in BOUNDED if case.name == name)
    # Far from where two numbers are equal.
    point = np.random.default_rng(3).permutation(24).reshape(case.shape)
    layer = case.make()
    layer.build((None, *case.shape))
    matrix = jacobian(layer, point.astype("float32"), step=0.25)
    values = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(values, 1.0, atol=1e-4)


def test_centering_by_numpy():
    layer = layers.BatchCentering(axis=1, momentum=0.75)
    inputs = np.random.default_rng(0).standard_normal((5, 3, 4))
    inputs = inputs.astype("float32")
    layer.build(inputs.shape)
    layer.beta.assign([1.0, 2.0, 3.0])
    beta = np.array([1.0, 2.0, 3.0])[:, None]
    mean = inputs.mean(axis=(0, 2))
    outputs = truth.to_numpy(layer(inputs, training=True))
    expected = inputs - mean[:, None] + beta
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    outputs = truth.to_numpy(layer(inputs))
    expected = inputs - 0.25 * mean[:, None] + beta
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    layer.trainable = False
    before = truth.to_numpy(layer.moving_mean)
    layer(inputs, training=True)
    np.testing.assert_array_equal(truth.to_numpy(layer.moving_mean), before)


def test_pooling_keeps_the_norm():
    layer = layers.NormPooling2D((2, 3))
    inputs = np.random.default_rng(0).standard_normal((5, 4, 7, 3))
    inputs = inputs.astype("float32")
    outputs = truth.to_numpy(layer(inputs))
    windows = inputs[:, :, :6].reshape(5, 2, 2, 2, 3, 3).astype("float64")
    expected = np.sqrt((windows**2).sum(axis=(2, 4)))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    zero = ops.zeros((1, 2, 3, 1))
    assert float(layer(zero)[0, 0, 0, 0]) == pytest.approx(1e-6, rel=1e-3)


def test_residual_layer_by_its_formula():
    layer = layers.SLLDense(5)
    layer.build((None, 4))
    randomize(layer)
    kernel, bias, log_q = map(truth.to_numpy, layer.weights)
    q = np.exp(log_q)
    diagonal = (np.abs(kernel.T @ kernel) * q[None] / q[:, None]).sum(axis=1)
    inputs = np.random.default_rng(1).standard_normal((6, 4)).astype("float32")
    hidden = np.maximum(inputs @ kernel + bias, 0)
    expected = inputs - 2 * (hidden / diagonal) @ kernel.T
    outputs = truth.to_numpy(layer(inputs))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_residual_convolution_is_lipschitz_by_its_matrix():
    """`T - A A^T` of the dense matrix, with zeros beyond the border."""
    layer = layers.SLLConv2D(4, 3)
    layer.build((None, 5, 4, 2))
    randomize(layer)
    plain = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)
    plain.build((None, 5, 4, 2))
    plain.kernel.assign(layer.kernel)
    matrix = truth.dense_matrix(plain, (5, 4, 2))
    diagonal = 2 / truth.to_numpy(layer.factors)
    gap = np.diag(np.tile(diagonal, 20)) - matrix.T @ matrix
    assert np.linalg.eigvalsh(gap).min() > 0


def test_a_residual_layer_of_zeros():
    layer = layers.SLLDense(5)
    layer.build((None, 4))
    layer.kernel.assign(ops.zeros((4, 5)))
    inputs = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(truth.to_numpy(layer(inputs)), inputs)


def dense_network():
    parts = [keras.Input((8,))]
    for _ in range(10):
        parts += [layers.OrthogonalDense(8), layers.GroupSort()]
    return keras.Sequential(parts)


def image_network():
    parts = [
        keras.Input((8, 8, 2)),
        layers.OrthogonalConv2D(8, 3),
        layers.GroupSort(),
        layers.OrthogonalConv2D(8, 3),
        layers.Householder(),
        layers.OrthogonalConv2D(16, 3, strides=2),
        layers.GroupSort(4),
        layers.OrthogonalConv2D(16, 3),
        layers.NormPooling2D(),
        layers.SLLConv2D(8, 3),
        layers.SLLConv2D(8, 3),
        layers.InvertibleDownsampling2D(),
        keras.layers.Flatten(),
        layers.OrthogonalDense(16),
        layers.GroupSort(),
        layers.SLLDense(16),
        layers.OrthogonalDense(16),
        layers.GroupSort(),
        layers.OrthogonalDense(16),
        layers.GroupSort(),
        layers.OrthogonalDense(4),
    ]
    return keras.Sequential(parts)


@pytest.mark.parametrize(
    "make",
    [
        dense_network,
        pytest.param(
            image_network,
            marks=left_out(
                "jax", "tensorflow", reason="half a minute before it runs"
            ),
        ),
    ],
)
def test_a_network_of_ten_is_certified(make):
    model = make()
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((32, *model.input_shape[1:]))
    targets = rng.standard_normal((32, *model.output_shape[1:]))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=JIT)
    model.fit(inputs, targets, epochs=3, verbose=0)
    report = lipschitz_bound(model)
    assert report.upper <= 1.0
    if make is dense_network:
        # Each map keeps all distances, so the bound is attained everywhere.
        assert report.lower >= 0.999
    slope = measured_slope(model, [model.input_shape[1:]], rng, pairs=64)
    assert slope <= report.upper


@pytest.mark.parametrize("case", [BOUNDED[0], BOUNDED[7]], ids=str)
def test_mixed_precision(case):
    layer = case.make()
    config = {**layer.get_config(), "dtype": "mixed_bfloat16"}
    layer = type(layer).from_config(config)
    outputs = layer(case.inputs())
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert all(v.dtype == "float32" for v in layer.weights)
    # The certificate is of the rounded kernel.
    assert 0.99 < spectral_norm(layer).upper < 1.02


@pytest.mark.parametrize(
    ("case", "parameters"), [(BOUNDED[0], 2), (BOUNDED[4], 4)], ids=str
)
def test_keras_layer_harness(case, parameters):
    layer = case.make()
    config = layer.get_config()
    for name in ("name", "trainable", "dtype"):
        config.pop(name)
    Harness("run_layer_test").run_layer_test(
        type(layer),
        init_kwargs=config,
        input_data=case.inputs(),
        expected_num_trainable_weights=parameters,
        expected_num_non_trainable_weights=0,
    )


def test_sizes_that_are_open():
    model = keras.Sequential(
        [keras.Input((None, None, 2)), layers.OrthogonalConv2D(3, 3)]
    )
    assert model.output_shape == (None, None, None, 3)
    inputs = np.ones((2, 5, 4, 2), "float32")
    assert model.predict(inputs, verbose=0).shape == (2, 5, 4, 3)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: layers.OrthogonalDense(0), (4,), "`units`"),
        (lambda: layers.OrthogonalDense(3, norm_bound=0), (4,), "norm_bound"),
        (conv_of(3, 2, strides=3), (6, 6, 2), "at least `strides`"),
        (conv_of(3, 3, padding="zero"), (6, 6, 2), "`padding`"),
        (conv_of(3, (3, 3, 3)), (6, 6, 2), "`kernel_size`"),
        (conv_of(3, 3, strides=2), (5, 6, 2), "divisible by its stride"),
        (conv_of(3, 3, strides=2), (None, None, 2), "must be known"),
        (conv_of(3, 9), (2, 2, 2), "at least 4"),
        (lambda: layers.GroupSort(0), (4,), "`group_size`"),
        (lambda: layers.GroupSort(3), (4,), "groups of 3"),
        (lambda: layers.Householder(), (5,), "groups of 2"),
        (lambda: layers.NormPooling2D(0), (4, 4, 1), "`pool_size`"),
        (
            lambda: layers.InvertibleDownsampling2D(2),
            (5, 4, 1),
            "must be multiples",
        ),
        (lambda: layers.SLLConv2D(3, 2), (4, 4, 1), "must be odd"),
        (lambda: layers.BatchCentering(momentum=2), (4,), "`momentum`"),
    ],
)
def test_bad_arguments(make, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        make()(keras.Input(shape))
    assert "Layer '" in str(error.value)
