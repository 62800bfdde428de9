"""Tests of normalize_model: choice of layers, options, budget, bad input."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.models import normalize_model
from keras_sn.models.baking import wrappers_in
from tests.models.networks import NETWORKS
from tests.models.networks import assert_close
from tests.models.networks import predict
from tests.models.networks import randomized
from tests.models.networks import residual
from tests.models.networks import sequential
from tests.models.networks import shared

_BOUNDED = {network.name: network for network in NETWORKS if network.bounded}


def wrapped_names(model):
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, SpectralNormalization)
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ["hidden", "logits"]),
        (layers.Dense, ["hidden", "logits"]),
        ("hid*", ["hidden"]),
        (lambda layer: layer.name == "logits", ["logits"]),
        (["logits", "hidden"], ["hidden", "logits"]),
        ({"logits": None, layers.Dense: {"norm_bound": 2.0}}, ["hidden"]),
    ],
    ids=["default", "type", "pattern", "function", "list", "dict"],
)
def test_choice_of_layers(choice, expected):
    model = normalize_model(sequential(), layers=choice)
    assert wrapped_names(model) == expected


def test_options_of_a_rule_go_first():
    model = normalize_model(
        sequential(),
        layers={"logits": {"norm_bound": 3.0}, "hidden": {}},
        norm_bound=2.0,
        power_iterations=4,
    )
    hidden, logits = model.get_layer("hidden"), model.get_layer("logits")
    assert (hidden.norm_bound, logits.norm_bound) == (2.0, 3.0)
    assert hidden.power_iterations == logits.power_iterations == 4


def test_idempotent():
    model = normalize_model(randomized(sequential()), norm_bound=2.0)
    again = normalize_model(model)
    assert wrapped_names(again) == wrapped_names(model)
    assert again.get_layer("hidden").norm_bound == 2.0
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new)
        )


def test_weights_and_frozen_layers_are_kept():
    model = randomized(residual())
    model.layers[1].trainable = False
    normalized = normalize_model(model)
    assert not normalized.layers[1].trainable
    kernel = normalized.layers[1].layer.kernel
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(kernel),
        keras.ops.convert_to_numpy(model.layers[1].kernel),
    )
    folded = fold_model(normalized)
    assert not folded.layers[1].trainable


def test_shared_layers_stay_shared():
    folded = fold_model(normalize_model(shared()))
    tower = folded.get_layer("tower")
    assert isinstance(tower, keras.Sequential)
    assert len(folded.weights) == len(shared().weights)


def test_compiled_stays_compiled():
    model = sequential()
    model.compile("adam", "mse", metrics=["mae"])
    normalized = normalize_model(model)
    assert normalized.compiled
    normalized.train_on_batch(np.ones((2, 6)), np.ones((2, 3)))
    assert fold_model(normalized).compiled


def test_custom_loss_warns_and_leaves_uncompiled():
    def my_loss(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred)

    model = residual()
    model.compile("sgd", my_loss)
    with pytest.warns(UserWarning, match="is not compiled"):
        assert not normalize_model(model).compiled


def test_original_survives_training_of_the_copy():
    """JAX gives up the buffers of variables that a step updates."""
    model = sequential()
    normalized = normalize_model(model)
    normalized.compile("sgd", "mse")
    normalized.train_on_batch(np.ones((2, 6)), np.ones((2, 3)))
    assert np.isfinite(predict(model, np.ones((2, 6), "float32"))[0]).all()


def test_lambda_and_learnt_preprocessing():
    scale = layers.Normalization()
    scale.adapt(np.arange(12.0).reshape(4, 3))
    inputs = keras.Input((3,))
    x = layers.Lambda(lambda x: 2 * x)(scale(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    folded = fold_model(normalize_model(model, mode="clip", norm_bound=1e3))
    data = np.ones((2, 3), "float32")
    assert_close(predict(model, data), predict(folded, data), 1e-6)


@pytest.mark.parametrize("network", _BOUNDED.values(), ids=str)
def test_budget(network):
    lipschitz = 3.0
    model = randomized(network.make())
    normalized = normalize_model(model, lipschitz=lipschitz)
    folded = fold_model(normalized, certified=True)
    upper = lipschitz_bound(folded, method="product", lower=False).upper
    assert 0.9 * lipschitz < upper <= lipschitz


@pytest.mark.parametrize("network", [_BOUNDED["unet"], _BOUNDED["shared"]])
def test_budget_holds_for_other_weights(network):
    """Whatever training makes of the wrapped weights."""
    normalized = normalize_model(randomized(network.make()), lipschitz=2.0)
    randomized(normalized, seed=7)
    for wrapper in wrappers_in(normalized):
        wrapper.refresh()
    folded = fold_model(normalized, certified=True)
    upper = lipschitz_bound(folded, method="product", lower=False).upper
    assert 1.8 < upper <= 2.0


def test_budget_below_a_skip_connection():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inputs + layers.Dense(3)(inputs))
    with pytest.raises(ValueError, match="cannot be brought to"):
        normalize_model(model, lipschitz=0.9)
    normalized = normalize_model(model, lipschitz=1.5)
    assert normalized.layers[1].norm_bound == pytest.approx(0.5, rel=1e-3)


def test_budget_of_a_chain_is_spread_evenly():
    model = normalize_model(sequential(), lipschitz=4.0)
    shares = [model.get_layer(n).norm_bound for n in wrapped_names(model)]
    np.testing.assert_allclose(shares, [2.0, 2.0], rtol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalize_model("model.keras"), "Expected a Keras model"),
        (
            lambda: normalize_model(keras.Sequential([layers.Dense(2)])),
            "is not built",
        ),
        (
            lambda: normalize_model(
                keras.Sequential([keras.Input((2,)), layers.ReLU()])
            ),
            "no layer to normalize",
        ),
        (lambda: normalize_model(sequential(), "x*"), "fits no layer"),
        (lambda: normalize_model(sequential(), 7), "takes a layer class"),
        (
            lambda: normalize_model(sequential(), {"hidden": 3}),
            "takes a layer class",
        ),
        (
            lambda: normalize_model(sequential(), lipschitz=-1),
            "positive, finite",
        ),
        (
            lambda: normalize_model(sequential(), lipschitz=1, norm="kernel"),
            "chooses",
        ),
        (
            lambda: fold_model(keras.Sequential([layers.Dense(2)])),
            "is not built",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Discriminator(keras.Model):
    """A subclassed model with plain layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(5, activation="relu")
        self.head = layers.Dense(1)

    def call(self, inputs):
        return self.head(self.hidden(inputs))


class WrapsItself(keras.Model):
    """A subclassed model that creates wrappers in its own code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = SpectralNormalization(layers.Dense(1))

    def call(self, inputs):
        return self.head(inputs)


def test_subclassed_model_wrapped_whole():
    data = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    model = Discriminator()
    model(data)
    wrapped = normalize_model(model)
    assert isinstance(wrapped, SpectralNormalization)
    folded = fold_model(wrapped)
    assert type(folded) is Discriminator
    assert_close(predict(wrapped, data), predict(folded, data), 1e-5)


def test_subclassed_model_that_wraps_itself_says_how():
    model = WrapsItself()
    model(np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match=r"wrap it whole"):
        fold_model(model)


def test_lora_is_merged():
    model = normalize_model(sequential(), layers="hidden")
    dense = model.get_layer("hidden").layer
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.ones(dense.lora_kernel_b.shape))
    data = np.ones((2, 6), "float32")
    folded = fold_model(model)
    assert_close(predict(model, data), predict(folded, data), 1e-4)
    assert not folded.get_layer("hidden").lora_enabled
