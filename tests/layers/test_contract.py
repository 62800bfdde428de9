"""The promise of the layer: the norm asked for, in every phase of its life."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from tests.truth import dense_matrix
from tests.truth import spectral_norm
from tests.truth import to_numpy


def kernel_of_norm(norm, shape=(6, 5), seed=0):
    kernel = np.random.default_rng(seed).standard_normal(shape)
    return norm * kernel / spectral_norm(kernel)


def regression(shape=(32, 6), outputs=5):
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal(shape).astype("float32")
    return inputs, rng.standard_normal((len(inputs), outputs)).astype("float32")


@pytest.mark.parametrize("norm_bound", [1.0, 3.0])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_norm_after_fit_predict_and_reload(norm_bound, optimizer, tmp_path):
    wrapper = SpectralNormalization(layers.Dense(5), norm_bound=norm_bound)
    model = keras.Sequential([wrapper])
    inputs, targets = regression()
    model.compile(optimizer, "mse")
    model.fit(inputs, targets, epochs=10, batch_size=8, verbose=0)
    assert spectral_norm(dense_matrix(model, (6,))) == pytest.approx(
        norm_bound, rel=1e-3
    )
    model.predict(inputs, verbose=0)
    assert spectral_norm(dense_matrix(model, (6,))) == pytest.approx(
        norm_bound, rel=1e-3
    )
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert spectral_norm(dense_matrix(reloaded, (6,))) == pytest.approx(
        norm_bound, rel=1e-3
    )


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_norm_at_inference_after_steps_too_large_to_follow(rate):
    wrapper = SpectralNormalization(layers.Dense(40))
    model = keras.Sequential([wrapper])
    inputs, targets = regression((64, 50), 40)
    model.compile(keras.optimizers.Adam(rate), "mse")
    model.fit(inputs, targets, epochs=3, batch_size=16, verbose=0)
    assert spectral_norm(dense_matrix(model, (50,))) == pytest.approx(
        1.0, rel=1e-3
    )


def test_fit_and_evaluate_see_the_same_weights():
    model = keras.Sequential([SpectralNormalization(layers.Dense(5))])
    inputs, targets = regression()
    model.build(inputs.shape)
    model.layers[0].layer.kernel.assign(kernel_of_norm(10.0))
    model.layers[0].refresh()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    fit = model.fit(inputs, targets, batch_size=32, verbose=0)
    evaluated = model.evaluate(inputs, targets, batch_size=32, verbose=0)
    assert fit.history["loss"][0] == pytest.approx(evaluated, abs=1e-5)


def test_clip_leaves_a_small_kernel_alone_to_the_last_bit():
    plain = layers.Dense(5)
    wrapper = SpectralNormalization(plain, mode="clip")
    inputs, _ = regression()
    wrapper.build(inputs.shape)
    plain.kernel.assign(kernel_of_norm(0.5))
    wrapper.refresh()
    (weight,) = wrapper.normalized_weights().values()
    np.testing.assert_array_equal(to_numpy(weight), to_numpy(plain.kernel))
    kernel = dense_matrix(plain, (6,))
    np.testing.assert_array_equal(dense_matrix(wrapper, (6,)), kernel)


@pytest.mark.parametrize(("norm", "expected"), [(0.5, 0.5), (9.0, 2.0)])
def test_clip_bounds_only_what_exceeds_the_bound(norm, expected):
    wrapper = SpectralNormalization(
        layers.Dense(5), mode="clip", norm_bound=2.0
    )
    wrapper.build((None, 6))
    wrapper.layer.kernel.assign(kernel_of_norm(norm))
    wrapper.refresh()
    assert spectral_norm(dense_matrix(wrapper, (6,))) == pytest.approx(
        expected, rel=1e-5
    )


def test_trainable_weights_are_never_assigned():
    wrapper = SpectralNormalization(layers.Dense(5))
    inputs, _ = regression()
    wrapper(inputs)
    before = to_numpy(wrapper.layer.kernel)
    wrapper(inputs, training=True)
    np.testing.assert_array_equal(to_numpy(wrapper.layer.kernel), before)


def test_u_moves_in_training_only():
    wrapper = SpectralNormalization(layers.Dense(5))
    inputs, _ = regression()
    wrapper(inputs)
    wrapper.layer.kernel.assign(kernel_of_norm(2.0, seed=7))
    before = to_numpy(wrapper.vector_u)
    wrapper(inputs)
    np.testing.assert_array_equal(to_numpy(wrapper.vector_u), before)
    wrapper(inputs, training=True)
    assert np.abs(to_numpy(wrapper.vector_u) - before).max() > 0.01


def test_more_power_iterations_follow_faster():
    errors = []
    for power_iterations in (1, 10):
        wrapper = SpectralNormalization(
            layers.Dense(50), power_iterations=power_iterations
        )
        wrapper.build((None, 60))
        kernel = kernel_of_norm(1.0, (60, 50), seed=7)
        wrapper.layer.kernel.assign(kernel)
        wrapper(np.zeros((1, 60), "float32"), training=True)
        left = np.linalg.svd(kernel)[2][0]
        errors.append(1 - abs(left @ to_numpy(wrapper.vector_u)[0]))
    assert errors[1] < errors[0] / 2


def test_config_round_trips_every_argument():
    wrapper = SpectralNormalization(
        layers.LSTM(3),
        power_iterations=2,
        norm="operator",
        norm_bound=0.5,
        mode="clip",
        weight_names=["recurrent_kernel"],
        name="bounded",
        trainable=False,
    )
    config = wrapper.get_config()
    copy = SpectralNormalization.from_config(dict(config))
    assert copy.get_config() == config
    for key, value in {
        "power_iterations": 2,
        "norm": "operator",
        "norm_bound": 0.5,
        "mode": "clip",
        "weight_names": ["recurrent_kernel"],
        "name": "bounded",
        "trainable": False,
    }.items():
        assert config[key] == value


def test_weight_names_pick_by_name_and_by_path():
    inputs = np.zeros((2, 4, 3), "float32")
    for names, count in (
        (["recurrent_kernel"], 2),
        (["forward_lstm/lstm_cell/kernel"], 1),
        (["kernel", "backward_lstm/lstm_cell/recurrent_kernel"], 3),
    ):
        wrapper = SpectralNormalization(
            layers.Bidirectional(layers.LSTM(3, name="lstm")),
            weight_names=names,
        )
        wrapper(inputs)
        assert len(wrapper.vectors_u) == count


def test_weight_names_take_weights_the_registry_does_not_know():
    class Bilinear(layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight(
                shape=(input_shape[-1], 4), name="table"
            )

        def call(self, inputs):
            return keras.ops.matmul(inputs, self.table)

    wrapper = SpectralNormalization(Bilinear(), weight_names=["table"])
    wrapper(np.zeros((2, 6), "float32"))
    assert spectral_norm(dense_matrix(wrapper, (6,))) == pytest.approx(
        1.0, rel=1e-5
    )


def test_a_model_inside_keeps_its_own_wrappers():
    inner = keras.Sequential(
        [
            SpectralNormalization(layers.Dense(4), norm_bound=2.0),
            layers.Dense(3),
        ]
    )
    wrapper = SpectralNormalization(inner)
    wrapper(np.zeros((2, 6), "float32"))
    assert len(wrapper.vectors_u) == 1
    assert spectral_norm(dense_matrix(inner.layers[0], (6,))) == pytest.approx(
        2.0, rel=1e-5
    )


BAD_ARGUMENTS = [
    ({"power_iterations": 0}, "`power_iterations` should be greater than zero"),
    ({"power_iterations": 1.5}, "`power_iterations`"),
    (
        {"norm": "frobenius"},
        r"`norm` must be one of \['kernel', 'operator', 'bidirectional'\]",
    ),
    ({"norm_bound": 0}, "`norm_bound` must be a positive"),
    ({"norm_bound": float("inf")}, "`norm_bound` must be a positive"),
    ({"norm_bound": "1"}, "`norm_bound` must be a positive"),
    ({"mode": "project"}, "`mode` must be one of"),
    ({"weight_names": []}, "`weight_names` must be a non-empty list"),
    ({"weight_names": "kernel"}, "`weight_names` must be a non-empty list"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments(arguments, message):
    """The message names the layer, one of many in a model."""
    with pytest.raises(ValueError, match=message + ".*'logits'"):
        SpectralNormalization(layers.Dense(2, name="logits"), **arguments)


def test_not_a_layer():
    with pytest.raises(ValueError, match="supplied to Wrapper"):
        SpectralNormalization("dense")


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (layers.ReLU, {}, "nothing to normalize in layer 'named'"),
        (layers.LayerNormalization, {}, "nothing to normalize"),
        (
            lambda name: layers.Dense(2, name=name),
            {"weight_names": ["embeddings"]},
            "No weight of layer 'named'.*'embeddings'.*kernel",
        ),
        (
            lambda name: layers.Dense(2, name=name),
            {"weight_names": ["bias"]},
            r"bias' of layer 'named' has the shape \(2,\)",
        ),
        (
            lambda name: SpectralNormalization(layers.Dense(2), name=name),
            {},
            "nothing to normalize in layer 'named'",
        ),
    ],
)
def test_what_cannot_be_normalized(layer, arguments, message):
    wrapper = SpectralNormalization(layer(name="named"), **arguments)
    with pytest.raises(ValueError, match=message):
        wrapper(np.zeros((2, 3), "float32"))


@pytest.mark.parametrize(
    "cell", [layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell]
)
def test_a_cell_is_refused_with_the_way_out(cell):
    with pytest.raises(ValueError, match=r"Wrap the RNN instead"):
        SpectralNormalization(cell(3))
    wrapper = SpectralNormalization(layers.RNN(cell(3)))
    wrapper(np.zeros((2, 4, 3), "float32"))
    assert len(wrapper.vectors_u) == 2


def test_unbuilt_wrapper_says_so():
    wrapper = SpectralNormalization(layers.Dense(2, name="d"), name="sn")
    for method in (wrapper.refresh, wrapper.normalized_weights):
        with pytest.raises(ValueError, match="'sn' is not built"):
            method()


def test_wrong_input_width_names_the_layer():
    wrapper = SpectralNormalization(layers.Dense(2), name="sn")
    wrapper(np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match="sn"):
        wrapper(np.zeros((2, 4), "float32"))
