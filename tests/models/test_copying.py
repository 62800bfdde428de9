"""Tests of copies of models whose layers or classes are out of the ordinary."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.models import export_model
from keras_sn.models import fold_model
from keras_sn.models import normalize_model
from keras_sn.models import upgrade_model
from tests.models.networks import assert_close
from tests.models.networks import predict


@keras.saving.register_keras_serializable("keras_sn_tests")
class AutoConfig(layers.Layer):
    """No `get_config`: Keras makes one of the arguments."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


@keras.saving.register_keras_serializable("keras_sn_tests")
class NamelessConfig(AutoConfig):
    """A config without name and `trainable`, which Keras loads all the same."""

    def get_config(self):
        return {"factor": self.factor}


@keras.saving.register_keras_serializable("keras_sn_tests")
class DerivedConfig(layers.Dense):
    """A config with a number that the constructor does not take."""

    def get_config(self):
        return {**super().get_config(), "twice_units": 2 * self.units}


class NoConfig(layers.Layer):
    """No config can be made: the argument is no value."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = [inner]

    def call(self, inputs):
        return inputs + self.inner[0](inputs)

    def get_config(self):
        raise NotImplementedError("no config")


class MyLoss(keras.losses.Loss):
    """Not registered, so a compile config with it cannot be read."""

    def call(self, y_true, y_pred):
        return keras.ops.mean((y_true - y_pred) ** 2)


DATA = np.random.default_rng(0).standard_normal((3, 8)).astype("float32")


def network(last, wrapper=SpectralNormalization):
    inputs = keras.Input((8,))
    return keras.Model(inputs, last(wrapper(layers.Dense(4))(inputs)))


@pytest.mark.parametrize("cls", [AutoConfig, NamelessConfig])
@pytest.mark.parametrize("trainable", [True, False])
def test_config_without_a_name(cls, trainable):
    stock = network(
        cls(2.0, name="twice", trainable=trainable),
        layers.SpectralNormalization,
    )
    model = network(cls(2.0, name="twice", trainable=trainable))
    copies = [fold_model(model), normalize_model(model), upgrade_model(stock)]
    for copy in copies:
        layer = copy.get_layer("twice")
        assert type(layer) is cls
        assert layer.trainable == trainable
        assert layer is not model.get_layer("twice")
    for copy in copies[:2]:
        assert_close(predict(model, DATA), predict(copy, DATA), 1e-4)


def test_config_that_holds_more():
    """As of ViTPatchingAndEmbedding in keras-hub."""
    model = network(DerivedConfig(3, name="last"))
    normalized = normalize_model(model)
    assert normalized.get_layer("last").layer is not model.get_layer("last")
    folded = fold_model(normalized)
    assert type(folded.get_layer("last")) is DerivedConfig
    assert_close(predict(normalized, DATA), predict(folded, DATA), 1e-4)


def test_wrapped_layer_without_config_cannot_be_folded():
    inner = NoConfig(layers.Dense(8))
    model = keras.Sequential(
        [keras.Input((8,)), SpectralNormalization(inner, name="outer")]
    )
    with pytest.raises(ValueError, match="The layer in 'outer', a NoConfig"):
        fold_model(model)


def test_layer_without_config_is_shared():
    last = NoConfig(layers.Dense(4), name="last")
    model = network(last)
    before = predict(model, DATA)
    with pytest.warns(UserWarning, match=r"Layer 'last' .*shares it"):
        copy = fold_model(model)
    assert copy.get_layer("last") is last
    assert_close(before, predict(copy, DATA), 1e-4)
    # Chosen by its kernel, it is wrapped whole.
    with pytest.warns(UserWarning, match=r"Layer 'last' .*shares it"):
        wrapper = normalize_model(model).get_layer("last")
    assert wrapper.layer is last
    assert_close(before, predict(model, DATA), 1e-7)


def test_wrapper_inside_a_layer_without_config():
    inner = SpectralNormalization(layers.Dense(4))
    model = network(NoConfig(inner, name="last"))
    with pytest.raises(ValueError, match="in its own code"):
        fold_model(model)


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="another backend gets the model as a file, which needs configs",
)
def test_export_needs_no_config(tmp_path, recwarn):
    model = network(NoConfig(layers.Dense(4)))
    model.get_layer(index=-1).trainable = False
    model.compile("sgd", MyLoss())
    assert export_model(model, tmp_path / "served").is_dir()
    assert not [w for w in recwarn if "shares it" in str(w.message)]
    assert model.trainable


@pytest.mark.parametrize("change", [normalize_model, fold_model])
def test_compiled_with_a_custom_loss(change):
    chain = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    for model in (chain, network(layers.ReLU())):
        model.compile("adam", MyLoss())
        with pytest.warns(UserWarning, match="is not compiled"):
            copy = change(model)
        assert not copy.compiled
        assert type(copy) is type(model)
        assert copy.name == model.name


@keras.saving.register_keras_serializable("keras_sn_tests")
class OwnStep(keras.Model):
    """A Functional model with a training step of its own."""

    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs)


class Task(keras.Model):
    """As in keras-hub: a graph made from other arguments."""

    def __init__(self, units, **kwargs):
        inputs = keras.Input((8,))
        super().__init__(inputs, layers.Dense(units)(inputs), **kwargs)

    def generate(self):
        return "text"


def test_classes_of_graphs():
    inputs = keras.Input((8,))
    model = OwnStep(inputs, layers.Dense(2)(inputs))
    model.compile("adam", "mse")
    copy = normalize_model(model)
    assert type(copy) is OwnStep
    assert copy.compiled
    model = Task(3, name="task")
    with pytest.warns(UserWarning, match="Model 'task' is a Task"):
        copy = normalize_model(model)
    assert copy.name == "task"
    assert predict(copy, DATA)[0].shape == (3, 3)


def test_frozen_models_inside():
    tower = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    tower.trainable = False
    model = keras.Sequential([keras.Input((8,)), tower, layers.Dense(2)])
    copy = normalize_model(model)
    assert not copy.layers[0].trainable
    assert len(copy.trainable_variables) == 2
    assert not model.layers[0].trainable
