"""A wrapped layer behaves as the layer does: its state, arguments, files."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.layers import SpectralNormalization
from tests.truth import spectral_norm
from tests.truth import to_numpy


def test_a_stateful_rnn_remembers():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((8, 5, 4)).astype("float32")
    lstm = layers.LSTM(3, stateful=True)
    wrapper = SpectralNormalization(lstm)
    model = keras.Sequential([keras.Input(batch_shape=(8, 5, 4)), wrapper])
    plain = layers.LSTM(3, stateful=True)
    twin = keras.Sequential([keras.Input(batch_shape=(8, 5, 4)), plain])
    normalized = wrapper.normalized_weights()
    for source, target in zip(lstm.weights, plain.weights, strict=True):
        target.assign(to_numpy(normalized.get(source.path, source)))
    calls = {
        "eager": lambda model: to_numpy(model(inputs)),
        "compiled": lambda model: model.predict(
            inputs, batch_size=8, verbose=0
        ),
    }
    outputs = []
    for call in (*calls.values(), *calls.values()):
        outputs.append(call(model))
        np.testing.assert_allclose(outputs[-1], call(twin), atol=1e-5)
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    for ours, theirs in zip(lstm.states, plain.states, strict=True):
        np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), atol=1e-5)
    lstm.reset_states()
    np.testing.assert_allclose(to_numpy(model(inputs)), outputs[0], atol=1e-5)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_of_a_model(way):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            SpectralNormalization(layers.Dense(3)),
            SpectralNormalization(layers.Dense(2), norm_bound=2.0),
        ]
    )
    inputs = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    model.layers[0](inputs, training=True)
    outputs = to_numpy(model(inputs))
    if way == "deepcopy":
        twin = copy.deepcopy(model)
    else:
        twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(to_numpy(twin(inputs)), outputs)
    for ours, theirs in zip(model.variables, twin.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    model.layers[0].layer.kernel.assign(np.ones((4, 3)))
    np.testing.assert_array_equal(to_numpy(twin(inputs)), outputs)


class Noisy(layers.Layer):
    """Draws from the generator that all layers share."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 3), name="kernel")

    def call(self, inputs):
        noise = keras.random.normal((4, 3))
        return ops.matmul(inputs, self.kernel) + noise


def test_the_global_generator_moves_on():
    wrapper = SpectralNormalization(Noisy())
    inputs = np.ones((4, 3), "float32")
    draws = {to_numpy(wrapper(inputs)).tobytes() for _ in range(5)}
    assert len(draws) == 5
    if keras.backend.backend() == "jax":
        return  # which compiles no draw without a seed, wrapped or not
    model = keras.Sequential([wrapper])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    fit = model.fit(inputs, np.zeros((4, 3)), epochs=5, verbose=0)
    assert len(set(fit.history["loss"])) == 5


def test_weight_names_as_a_full_path_are_saved(tmp_path):
    wrapper = SpectralNormalization(
        layers.Dense(3, name="d"), weight_names=["disc/sn/d/kernel"], name="sn"
    )
    model = keras.Sequential([keras.Input((4,)), wrapper], name="disc")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(inputs), model.predict_on_batch(inputs)
    )
    nested = keras.Sequential([keras.Input((4,)), loaded], name="outer")
    nested.save(tmp_path / "nested.keras")
    again = keras.saving.load_model(tmp_path / "nested.keras")
    np.testing.assert_array_equal(
        again.predict_on_batch(inputs), model.predict_on_batch(inputs)
    )


def test_numbers_of_numpy_as_arguments():
    wrapper = SpectralNormalization(
        layers.Dense(3),
        power_iterations=np.int64(2),
        norm_bound=np.float32(0.5),
    )
    wrapper(np.ones((2, 4), "float32"), training=True)
    wrapper.refresh()
    (kernel,) = wrapper.normalized_weights().values()
    assert spectral_norm(to_numpy(kernel)) == pytest.approx(0.5, rel=1e-4)
    assert wrapper.get_config()["norm_bound"] == 0.5
    assert type(wrapper.get_config()["power_iterations"]) is int


def test_bidirectional_goes_around_the_rnn():
    with pytest.raises(ValueError, match="Wrap the other way round"):
        layers.Bidirectional(SpectralNormalization(layers.LSTM(3)))
    wrapper = SpectralNormalization(layers.Bidirectional(layers.LSTM(3)))
    wrapper(np.ones((2, 4, 3), "float32"))
    assert len(wrapper.vectors_u) == 4
    for kernel in wrapper.normalized_weights().values():
        assert spectral_norm(to_numpy(kernel)) == pytest.approx(1, rel=1e-4)
