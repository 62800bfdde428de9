"""Certificates of models as they compute: rounding breaks none."""

import keras
import networks
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from tests.thoroughness import draws
from tests.thoroughness import fuzzing

POLICIES = ["float32", "mixed_bfloat16", "mixed_float16", "bfloat16"]
SHIFTS = draws(64, sample=16)


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def classes(model, x):
    outputs = ops.cast(model(x, training=False), "float32")
    outputs = np.asarray(ops.convert_to_numpy(outputs))
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(int)
    return outputs.argmax(axis=1)


def broken(model, x, radii, rng):
    """How many certificates random points break."""
    found = np.zeros(len(x), bool)
    before = classes(model, x)
    for _ in range(SHIFTS):
        shift = rng.standard_normal(x.shape).reshape(len(x), -1)
        shift /= np.linalg.norm(shift, axis=1, keepdims=True)
        shift = (0.999 * radii[:, None] * shift).reshape(x.shape)
        moved = (x.astype("float64") + shift).astype("float32")
        found |= (radii > 0) & (classes(model, moved) != before)
    return int(found.sum())


def dense():
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "relu"),
            layers.Dense(16, "tanh"),
            layers.Dense(3),
        ]
    )


def convolutional():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )


def residual():
    inputs = keras.Input((8,))
    x = layers.Dense(8, "gelu")(inputs)
    x = layers.LayerNormalization(epsilon=0.1)(layers.Add()([x, inputs]))
    return keras.Model(inputs, layers.Dense(1)(x))


def wrapped():
    return keras.Sequential(
        [
            keras.Input((8,)),
            SpectralNormalization(layers.Dense(16, "relu")),
            SpectralNormalization(layers.Dense(3)),
        ]
    )


@pytest.mark.parametrize("policy", POLICIES, indirect=True)
@pytest.mark.parametrize("build", [dense, convolutional, residual, wrapped])
def test_no_certificate_is_broken_by_random_points(policy, build):
    """At the smallest margins, where rounding decides."""
    rng = np.random.default_rng(0)
    model = networks.randomize(build(), rng)
    shape = model.inputs[0].shape[1:]
    x = rng.standard_normal((400, *shape)).astype("float32")
    radii = certified_radius(model, x)
    if policy == "float32":
        assert np.mean(radii > 0) > 0.9
    nearest = np.argsort(np.where(radii > 0, radii, np.inf))[:100]
    assert broken(model, x[nearest], radii[nearest], rng) == 0


def test_large_numbers_inside_that_cancel_at_the_end():
    """A float32 with a bias of 1e5 is off by 0.004, the logit is 0.006."""
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(1), layers.Dense(2)]
    )
    model.layers[0].set_weights([np.ones((1, 1)), np.array([1e5])])
    model.layers[1].set_weights([np.array([[0.0, 1.0]]), np.array([0, -1e5])])
    x = np.array([[0.006], [1.0]], "float32")
    near, far = certified_radius(model, x)
    # At 0.0035 it computes the other class; at 0 it is the other class.
    assert near < 0.0025
    assert 0.8 < far < 1.0


def test_numbers_near_the_end_of_the_range_have_no_radius():
    """Beyond 65504 float16 knows no number."""
    model = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(1, dtype="mixed_float16"),
            layers.Dense(2),
        ]
    )
    model.layers[0].set_weights([np.array([[30000.0]]), np.zeros(1)])
    model.layers[1].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    (radius,) = certified_radius(model, np.array([[2.0]], "float32"))
    assert radius < 0.2


def test_inputs_in_double_precision_are_rounded_before_they_count():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2)])
    model.layers[0].set_weights([np.array([[1.0, -1.0]]), np.array([-2.0, 2])])
    # Of the numbers near 2 float32 has one in 2.4e-7.
    (radius,) = certified_radius(model, np.array([[2.0 + 1e-8]]))
    assert radius <= 1e-8


def test_rounding_takes_little_of_the_radius_of_a_wide_network():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(256, "relu"),
            layers.Dense(256, "relu"),
            layers.Dense(10),
        ]
    )
    networks.randomize(model, rng)
    x = rng.random((32, 784)).astype("float32")
    outputs = np.asarray(ops.convert_to_numpy(model(x)), "float64")
    ends = np.sort(outputs, axis=1)
    bound = lipschitz_bound(model, "product", lower=False).upper
    whole = (ends[:, -1] - ends[:, -2]) / (2**0.5 * bound)
    radii = certified_radius(model, x, "product")
    assert np.median(radii / whole) > 0.7


def test_a_wrapper_around_a_model_serves_its_weights():
    """The steps inside run with the weights that the wrapper applies."""
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(3)]
    )
    model = keras.Sequential([keras.Input((4,)), SpectralNormalization(inner)])
    rng = np.random.default_rng(0)
    for variable in inner.trainable_variables:
        variable.assign(5 * rng.standard_normal(variable.shape))
    model.layers[0].refresh()
    x = rng.standard_normal((64, 4)).astype("float32")
    radii = certified_radius(model, x)
    folded = certified_radius(fold_model(model), x)
    np.testing.assert_allclose(radii, folded, rtol=1e-2, atol=1e-4)
    assert broken(model, x, radii, rng) == 0


@pytest.mark.parametrize(
    "seed", range(draws(fuzzing(12, everything=60), sample=3))
)
@pytest.mark.parametrize(
    "policy", ["float32", "mixed_float16", "mixed_bfloat16"], indirect=True
)
def test_random_networks(policy, seed):
    rng = np.random.default_rng([seed, 7])
    model = networks.random_network(rng)
    networks.randomize(model, rng, spread=rng.uniform(0.5, 2.0))
    report = lipschitz_bound(model, "folded", time_limit=3.0)
    assert report.lower <= report.upper, report
    if len(model.outputs[0].shape) != 2:
        return
    shape = model.inputs[0].shape[1:]
    x = rng.standard_normal((100, *shape)).astype("float32")
    radii = np.minimum(certified_radius(model, x, "folded"), 10.0)
    assert broken(model, x, radii, rng) == 0
