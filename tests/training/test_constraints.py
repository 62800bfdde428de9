"""SpectralNorm as a constraint: by NumPy, and certified in training."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.constraints import SpectralNorm
from keras_sn.constraints import constrain
from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps import linear_maps
from keras_sn.norms import spectral_norm
from tests.thoroughness import draws
from tests.training.models import batches
from tests.training.models import mixed
from tests.training.models import set_weights
from tests.truth import dense_matrix
from tests.truth import to_numpy

METHODS = ["clip", "svd", "soft_cap", "hammer", "scale"]


def singular_values(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("method", ["clip", "svd"])
@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
def test_clip_is_the_nearest_matrix(shape, method, scale):
    matrix = scale * np.random.default_rng(0).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    expected = left * np.minimum(values, 1.5) @ right
    found = to_numpy(SpectralNorm(1.5, method)(matrix.astype("float32")))
    error = 1e-3 if scale > 1 else 2e-4
    np.testing.assert_allclose(found, expected, atol=error)


@pytest.mark.parametrize("silently", [False, True])
def test_a_decomposition_that_fails(silently, monkeypatch):
    """PyTorch's does, on kernels of 512 x 512 that were cut off before."""
    decompose = ops.svd

    def fail(*args, **kwargs):
        if not silently:
            raise RuntimeError("linalg.svd: The algorithm failed to converge")
        left, values, right = decompose(*args, **kwargs)
        return 1.2 * left, values, right

    matrix = np.random.default_rng(5).normal(size=(6, 4)).astype("float32")
    expected = to_numpy(SpectralNorm(0.7, "svd")(matrix))
    monkeypatch.setattr(ops, "svd", fail)
    found = to_numpy(SpectralNorm(0.7, "svd")(matrix))
    assert singular_values(expected)[0] == pytest.approx(0.7, rel=1e-5)
    np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.mark.parametrize("scale", [0.1, 0.4, 1.0, 20.0])
def test_soft_cap(scale):
    """Singular vectors stay, the values are those of the polynomial."""
    matrix = scale * np.random.default_rng(1).normal(size=(6, 9))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    found = to_numpy(SpectralNorm(1.0, "soft_cap")(matrix.astype("float32")))
    diagonal = left.T @ found @ right.T
    np.testing.assert_allclose(
        diagonal, np.diag(np.diag(diagonal)), atol=1e-4 * max(1, values[0])
    )
    capped = np.diag(diagonal)
    assert capped.max() <= 1.002
    if values[0] <= 1:
        np.testing.assert_allclose(capped, values, atol=1e-5)
    else:
        assert capped.max() > 0.99
        # Smooth and in order; what is small stays nearly as it is.
        assert (np.diff(capped) <= 1e-4).all()
        start = np.minimum(values, 81 / 62 * values / values[0])
        assert (capped <= start + 1e-4).all()


def test_soft_cap_is_the_published_polynomial():
    """`x - 3 a^2 x^5 + 3 a^3 x^7 - a^4 x^9`, with the `a` that fits."""
    values = np.array([1.2, 1.0, 0.5, 0.1])
    found = np.diag(to_numpy(SpectralNorm(1.0, "soft_cap")(np.diag(values))))
    grid = np.linspace(0, 0.5, 500001)
    image = 1.2 - 3 * grid**2 * 1.2**5 + 3 * grid**3 * 1.2**7
    image -= grid**4 * 1.2**9
    a = grid[np.argmax(image <= 1)]
    expected = values - 3 * a**2 * values**5 + 3 * a**3 * values**7
    expected -= a**4 * values**9
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_hammer_takes_the_largest_alone():
    rng = np.random.default_rng(2)
    left, _ = np.linalg.qr(rng.normal(size=(6, 4)))
    right, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    matrix = left * [3.0, 0.9, 0.5, 0.1] @ right
    expected = left * [1.0, 0.9, 0.5, 0.1] @ right
    found = SpectralNorm(1.0, "hammer")(matrix.astype("float32"))
    np.testing.assert_allclose(to_numpy(found), expected, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 5), (3, 3, 4, 5), (2, 3, 4)])
def test_within_the_limit_nothing_changes(method, shape):
    kernel = np.random.default_rng(3).normal(size=shape).astype("float32")
    kernel *= 0.9 / np.linalg.norm(kernel.reshape(-1, shape[-1]), 2)
    found = to_numpy(SpectralNorm(1.0, method)(kernel))
    np.testing.assert_allclose(found, kernel, atol=2e-5)
    zero = to_numpy(SpectralNorm(1.0, method)(0 * kernel))
    assert not zero.any()


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(6, 3),
        layers.Conv2D(6, 4, strides=2),
        layers.Conv2D(4, 3, groups=2),
        layers.Conv1D(5, 3, dilation_rate=2),
        layers.Conv2DTranspose(3, 3, strides=2),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
    ],
    ids=lambda layer: layer.name,
)
def test_operator_norm_of_a_bare_kernel(layer):
    """Whatever the strides and groups are, the map is within the limit."""
    rank = 3 if isinstance(layer, layers.Conv1D) else 4
    layer.build((None, *[12] * (rank - 2), 4))
    kernel = 5 * np.random.default_rng(4).normal(size=layer.kernel.shape)
    layer.kernel.assign(SpectralNorm(2.0, norm="operator")(kernel))
    assert spectral_norm(layer, rtol=1e-3).upper <= 2.02
    matrix = dense_matrix(layer, (*[12] * (rank - 2), 4))
    assert singular_values(matrix)[0] <= 2.02
    plain = getattr(layer, "groups", 1) == 1 and max(layer.strides) == 1
    if plain and not isinstance(layer, layers.DepthwiseConv2D):
        assert spectral_norm(layer).lower >= 1.96


@pytest.mark.parametrize(
    ("method", "norm"),
    [("clip", "operator"), ("clip", "kernel")]
    + [(method, "kernel") for method in draws(METHODS[1:], [])],
)
def test_held_after_every_step(method, norm):
    """Dense, convolution, attention: certified, after each step."""
    model = mixed()
    set_weights(model)
    constrain(model, SpectralNorm(0.8, method, norm))
    # What is small in one step is small for the hammer.
    rate = 1e-3 if method == "hammer" else 0.1
    model.compile(keras.optimizers.Adam(rate), "mse", jit_compile=False)
    maps = linear_maps(model, norm)
    assert len(maps) == 6
    if method == "hammer":
        constraint = SpectralNorm(0.8, "svd", norm)
        for linear_map in maps.values():
            variable = linear_map.weights[0].variable
            variable.assign(constraint.capped(linear_map, linear_map.values()))
    largest = 0.0
    for x, y in batches(6):
        model.train_on_batch(x, y)
        norms = [spectral_norm(m, rtol=1e-3) for m in maps.values()]
        assert max(bounds.upper for bounds in norms) <= 0.8 * 1.01
        largest = max(largest, *(bounds.lower for bounds in norms))
    assert largest >= 0.8 * 0.98


def test_attention_needs_the_map():
    """The heads side by side are one matrix; the last axis is one head."""
    layer = layers.MultiHeadAttention(3, 4)
    layer.build((None, 5, 8), (None, 5, 8))
    kernel = layer.query_dense.kernel
    constrain(layer, SpectralNorm(1.0, "svd"))
    kernel.assign(kernel.constraint(10 * kernel))
    matrix = to_numpy(kernel).reshape(8, 12)
    np.testing.assert_allclose(singular_values(matrix), 1, atol=1e-5)


@pytest.mark.parametrize("method", draws(METHODS, ["clip"]))
def test_save_load_and_fit(method, tmp_path):
    """By identifier, through a file; the loaded model stays constrained."""
    identifier = {
        "class_name": "keras_sn.constraints>SpectralNorm",
        "config": {"max_norm": 0.5, "method": method, "norm": "operator"},
    }
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, kernel_constraint=identifier),
            layers.Flatten(),
            layers.Dense(3, kernel_constraint=identifier),
        ]
    )
    path = tmp_path / "model.keras"
    model.save(path)
    model = keras.models.load_model(path)
    constraint = model.layers[0].kernel_constraint
    assert constraint.get_config() == identifier["config"]
    model.compile("adam", "mse")
    x, y = batches(1, (6, 6, 2), size=64)[0]
    model.fit(x, y, epochs=2, verbose=0)
    if method != "hammer":
        for layer in (model.layers[0], model.layers[-1]):
            assert spectral_norm(layer, rtol=1e-3).upper <= 0.505


def test_after_an_earlier_fit():
    """What is compiled already learns of the constraint."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = batches(1, (8,))[0]
    model.fit(x, y, verbose=0)
    constrain(model, SpectralNorm(0.1))
    model.fit(x, y, verbose=0)
    assert spectral_norm(model.layers[0]).upper <= 0.101


def test_narrow_weights_and_separable():
    with_policy = layers.Dense(5, dtype="bfloat16")
    with_policy.build((None, 7))
    capped = SpectralNorm(0.5)(with_policy.kernel)
    assert keras.backend.standardize_dtype(capped.dtype) == "bfloat16"
    separable = layers.SeparableConv2D(4, 3)
    separable.build((None, 8, 8, 3))
    constrain(separable, SpectralNorm(0.5, norm="operator"))
    kernel = separable.pointwise_kernel
    kernel.assign(kernel.constraint(20 * kernel))
    bounds = spectral_norm(separable, rtol=1e-3)
    assert 0.49 < bounds.lower < bounds.upper < 0.505


def test_bad_arguments():
    with pytest.raises(ValueError, match="positive"):
        SpectralNorm(0.0)
    with pytest.raises(ValueError, match="'clip', 'svd'"):
        SpectralNorm(method="cut")
    with pytest.raises(ValueError, match="norm"):
        SpectralNorm(norm="nuclear")
    with pytest.raises(ValueError, match="two axes"):
        SpectralNorm()(np.ones(3, "float32"))


def bare_norm():
    layer = layers.BatchNormalization(name="norm")
    layer.build((None, 3))
    return layer


def wrapped():
    layer = SpectralNormalization(layers.Dense(2))
    layer.build((None, 3))
    return layer


def with_lora():
    layer = layers.Dense(4)
    layer.build((None, 5))
    layer.enable_lora(2)
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (bare_norm, "no kernel in layer 'norm'"),
        (wrapped, "no kernel"),
        (with_lora, "LoRA"),
        (lambda: layers.Dense(3), "not built"),
    ],
)
def test_layers_that_cannot_be_constrained(layer, message):
    layer = layer()
    with pytest.raises(ValueError, match=message):
        constrain(layer, SpectralNorm())


def test_a_nan_stays_visible():
    kernel = np.array([[np.nan, 1.0], [0.0, 1.0]], "float32")
    for method in ("clip", "svd", "scale", "soft_cap"):
        constraint = SpectralNorm(0.5, method)
        found = to_numpy(constraint(ops.convert_to_tensor(kernel)))
        assert np.isnan(found).any()
