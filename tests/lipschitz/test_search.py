"""The search for a lower bound: any shape of model, and no harm if it fails."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz import register_rule


def images(*stack):
    return keras.Sequential([keras.Input((None, None, 3)), *stack])


@pytest.mark.parametrize(
    "model",
    [
        images(layers.Conv2D(4, 11)),
        images(*[layers.MaxPooling2D() for _ in range(4)]),
        images(layers.Cropping2D(12), layers.Conv2D(2, 3)),
        keras.Sequential(
            [keras.Input((None, 2)), layers.Conv1D(2, 20, dilation_rate=3)]
        ),
    ],
    ids=["large kernel", "many pools", "cropping", "dilation"],
)
def test_open_axes_get_a_size_that_works(model):
    report = lipschitz_bound(model)
    assert report.note is None
    assert 0.2 * report.upper < report.lower <= report.upper < math.inf


def test_no_size_works():
    """The bound is kept, and the report says what would help."""
    model = images(layers.Cropping2D(200))
    report = lipschitz_bound(model)
    assert report.upper == pytest.approx(1)
    assert report.lower == 0
    assert "Pass `data`" in report.note
    assert report.note in str(report)
    assert report.to_dict()["note"] == report.note


@pytest.mark.parametrize("samples", [1, 2, 3, 5])
def test_data_of_few_samples_and_of_its_own_size(samples):
    model = images(layers.Conv2D(4, 3), layers.GlobalMaxPooling2D())
    data = np.random.default_rng(0).normal(size=(samples, 5, 7, 3))
    report = lipschitz_bound(model, data=data)
    assert report.note is None
    assert 0 < report.lower <= report.upper


def test_data_by_name():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    outputs = layers.Concatenate()([ops.relu(a - 100.0), b])
    model = keras.Model({"b": b, "a": a}, 7 * outputs)
    x = {"a": np.full((2, 3), 200.0), "b": np.zeros((2, 2))}
    assert lipschitz_bound(model, data=x).lower == pytest.approx(7, rel=1e-3)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch(batch):
    x = keras.Input(batch_shape=(batch, 3))
    reshaped = keras.Model(x, 2.0 * ops.reshape(x, (batch, 3, 1)))
    whole = keras.Model(x, 2.0 * ops.reshape(x, (-1,)))
    for model in (reshaped, whole):
        report = lipschitz_bound(model)
        assert report.note is None
        assert report.upper == pytest.approx(2)
        assert report.lower == pytest.approx(2, rel=1e-3)
        assert report.lower <= report.upper
        data = np.ones((2, 3))
        assert lipschitz_bound(model, data=data).note is None


def test_a_scalar_output_of_a_fixed_batch():
    x = keras.Input(batch_shape=(4, 3))
    report = lipschitz_bound(keras.Model(x, ops.norm(x)))
    assert report.upper == pytest.approx(1)
    assert report.lower == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    "function", [lambda x: ops.sum(x), lambda x: ops.repeat(x, 2, axis=0)]
)
def test_outputs_without_a_batch_axis(function):
    inputs = keras.Input((3,))
    report = lipschitz_bound(keras.Model(inputs, function(inputs)))
    assert report.lower == 0
    assert "batch" in report.note


def test_a_model_that_raises_keeps_its_bound():
    class Fails(layers.Layer):
        def call(self, inputs):
            if not isinstance(inputs, keras.KerasTensor):
                raise RuntimeError("not today")
            return inputs

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    register_rule(Fails, "3")(lambda layer, call: 3.0)
    inputs = keras.Input((3,))
    report = lipschitz_bound(keras.Model(inputs, Fails()(inputs)))
    assert report.upper == pytest.approx(3)
    assert report.lower == 0
    assert "not today" in report.note


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("width", [1, 7])
def test_bounds_are_of_the_weights_as_they_are_applied(policy, width):
    """1.0039 in 16 bits is 1.00390625, 1.006 is 1.0078125."""
    weight = {"mixed_float16": 1.0039, "mixed_bfloat16": 1.006}[policy]
    applied = {"mixed_float16": 1.00390625, "mixed_bfloat16": 1.0078125}
    dense = layers.Dense(width, use_bias=False, dtype=policy)
    model = keras.Sequential([keras.Input((4,)), dense])
    dense.kernel.assign(np.full((4, width), weight))
    report = lipschitz_bound(model)
    exact = applied[policy] * math.sqrt(4 * width)
    assert report.upper == pytest.approx(exact, rel=1e-9)
    assert report.upper >= exact * (1 - 1e-12)
    assert 0.9 * exact < report.lower <= report.upper


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_batch_normalization_keeps_its_weights_in_single_precision(policy):
    """Its variables take no part in mixed precision."""
    layer = layers.BatchNormalization(epsilon=1e-6, dtype=policy)
    model = keras.Sequential([keras.Input((1,)), layer])
    layer.gamma.assign([1.006])
    layer.moving_variance.assign([1.3])
    upper = lipschitz_bound(model, lower=False).upper
    x = np.array([[0.0], [64.0]], "float32")
    y = ops.convert_to_numpy(ops.cast(model(x), "float32"))
    assert float(y[1, 0] - y[0, 0]) / 64 <= upper * (1 + 2.0**-8)
    assert upper == pytest.approx(1.006 / math.sqrt(1.3), rel=1e-5)
