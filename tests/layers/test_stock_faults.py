"""What users hit with keras.layers.SpectralNormalization: each stays fixed."""

import copy

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from tests.gradients import gradients
from tests.truth import dense_matrix
from tests.truth import spectral_norm
from tests.truth import to_numpy

RNG = np.random.default_rng(5)
INPUTS = RNG.standard_normal((8, 4)).astype("float32")


def dense(kernel=None, **arguments):
    wrapper = SpectralNormalization(layers.Dense(3), **arguments)
    wrapper.build((None, 4))
    if kernel is not None:
        wrapper.layer.kernel.assign(kernel)
        wrapper.refresh()
    return wrapper


def test_real_minus_fake_with_one_backward():
    critic = keras.Sequential(
        [
            SpectralNormalization(layers.Dense(8, activation="relu")),
            SpectralNormalization(layers.Dense(1)),
        ]
    )
    critic.build((None, 4))
    result = gradients(
        lambda: keras.ops.mean(
            keras.ops.subtract(
                critic(INPUTS, training=True),
                critic(2 * INPUTS, training=True),
            )
        ),
        critic.trainable_variables[:1],
    )
    assert np.abs(to_numpy(result[0])).max() > 0


def test_embedding_of_integers():
    wrapper = SpectralNormalization(layers.Embedding(10, 4))
    ids = RNG.integers(0, 10, size=(3, 5))
    assert np.abs(to_numpy(wrapper(ids))).min() > 0
    wrapper(RNG.integers(0, 10, size=(3, 9)))  # another sequence length
    (gradient,) = gradients(
        lambda: keras.ops.sum(keras.ops.square(wrapper(ids, training=True))),
        wrapper.trainable_variables,
    )
    gradient = keras.ops.convert_to_tensor(gradient)
    assert np.abs(to_numpy(gradient)).max() > 0


def test_frozen_wrapper_changes_nothing():
    wrapper = dense()
    wrapper.trainable = False
    wrapper.layer.kernel.assign(RNG.standard_normal((4, 3)))
    before = to_numpy(wrapper.vector_u)
    inference = to_numpy(wrapper(INPUTS))
    for _ in range(3):
        training = to_numpy(wrapper(INPUTS, training=True))
    np.testing.assert_array_equal(training, inference)
    np.testing.assert_array_equal(to_numpy(wrapper.vector_u), before)
    assert not wrapper.layer.trainable_variables


@pytest.mark.parametrize("deferred", [True, False])
def test_inference_before_training_is_normalized(deferred):
    model = keras.Sequential(
        [] if deferred else [keras.Input((4,))],
    )
    model.add(SpectralNormalization(layers.Dense(3)))
    model.predict(INPUTS, verbose=0)
    assert spectral_norm(dense_matrix(model, (4,))) == pytest.approx(
        1.0, rel=1e-5
    )


EXTREMES = {
    "zero": (0.0, 0.0),
    "tiny": (1e-30, 1.0),
    "huge": (1e30, 1.0),
}


@pytest.mark.parametrize("way", ["dense", "weights"])
@pytest.mark.parametrize("size", EXTREMES)
def test_extreme_kernels(size, way):
    scale, expected = EXTREMES[size]
    kernel = scale * RNG.standard_normal((4, 3))
    arguments = {} if way == "dense" else {"activity_regularizer": "l2"}
    wrapper = SpectralNormalization(layers.Dense(3, **arguments))
    wrapper.build((None, 4))
    wrapper.layer.kernel.assign(kernel)
    wrapper.refresh()
    for training in (False, True, False):
        outputs = to_numpy(wrapper(INPUTS, training=training))
        assert np.isfinite(outputs).all()
    assert spectral_norm(dense_matrix(wrapper, (4,))) == pytest.approx(
        expected, rel=1e-4
    )
    (gradient,) = gradients(
        lambda: keras.ops.sum(wrapper(INPUTS, training=True)),
        [wrapper.layer.kernel],
    )
    assert np.isfinite(to_numpy(gradient)).all()


@pytest.mark.parametrize("size", EXTREMES)
def test_extreme_kernels_compiled(size):
    """A compiler may reorder what keeps numbers within range."""
    scale, expected = EXTREMES[size]
    model = keras.Sequential(
        [keras.Input((4,)), SpectralNormalization(layers.Dense(3))]
    )
    wrapper = model.layers[0]
    wrapper.layer.kernel.assign(scale * RNG.standard_normal((4, 3)))
    wrapper.refresh()
    (weight,) = wrapper.normalized_weights().values()
    images = INPUTS @ to_numpy(weight)
    jit_compile = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)
    assert spectral_norm(to_numpy(weight)) == pytest.approx(expected, rel=1e-4)
    loss = model.train_on_batch(INPUTS, np.zeros_like(images))
    assert loss == pytest.approx(np.mean(images**2), rel=1e-4)
    for variable in model.weights:
        assert np.isfinite(to_numpy(variable)).all()


def test_u_orthogonal_to_the_kernel():
    kernel = np.zeros((4, 3))
    kernel[:, 0] = 5
    wrapper = dense(kernel)
    wrapper.vector_u.assign([[0.0, 1.0, 0.0]])
    assert np.isfinite(to_numpy(wrapper(INPUTS, training=True))).all()
    wrapper(INPUTS, training=True)
    assert spectral_norm(dense_matrix(wrapper, (4,))) == pytest.approx(
        1.0, rel=1e-5
    )


def test_nan_stays_visible_and_leaves_u_alone():
    wrapper = dense()
    before = to_numpy(wrapper.vector_u)
    kernel = to_numpy(wrapper.layer.kernel)
    kernel[0, 0] = np.nan
    wrapper.layer.kernel.assign(kernel)
    assert np.isnan(to_numpy(wrapper(INPUTS, training=True))).all()
    np.testing.assert_array_equal(to_numpy(wrapper.vector_u), before)


def test_nan_in_one_group_stays_visible():
    wrapper = SpectralNormalization(
        layers.Conv2D(6, 3, groups=2), norm="operator"
    )
    wrapper.build((None, 8, 8, 4))
    kernel = to_numpy(wrapper.layer.kernel)
    kernel[0, 0, 0, -1] = np.nan
    wrapper.layer.kernel.assign(kernel)
    inputs = np.ones((1, 8, 8, 4), "float32")
    assert np.isnan(to_numpy(wrapper(inputs, training=True))).all()
    assert np.isfinite(to_numpy(wrapper.vector_u)).all()


def test_a_zero_kernel_leaves_u_alone():
    """What comes after it may be orthogonal to a constant vector."""
    wrapper = dense(np.zeros((4, 3)))
    before = to_numpy(wrapper.vector_u)
    wrapper(INPUTS, training=True)
    np.testing.assert_array_equal(to_numpy(wrapper.vector_u), before)
    wrapper.layer.kernel.assign([[1, 0, -1], [-1, 0, 1], [0, 0, 0], [0, 0, 0]])
    wrapper(INPUTS, training=True)
    assert spectral_norm(dense_matrix(wrapper, (4,))) == pytest.approx(
        1.0, rel=1e-5
    )


def test_channels_first_with_another_width():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first convolution on a CPU")
    wrapper = SpectralNormalization(
        layers.Conv2D(3, 3, data_format="channels_first")
    )
    wrapper(np.zeros((1, 2, 8, 8), "float32"))
    assert wrapper(np.zeros((1, 2, 9, 11), "float32")).shape == (1, 3, 7, 9)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "kind", ["dense", "embedding", "conv1d", "conv2d", "nested"]
)
def test_lora_normalizes_the_kernel_that_is_applied(kind, before):
    layer, name, inputs = {
        "dense": (layers.Dense(3), "kernel", INPUTS),
        "embedding": (
            layers.Embedding(9, 4),
            "embeddings",
            RNG.integers(0, 9, (2, 5)),
        ),
        "conv1d": (layers.Conv1D(5, 3), "kernel", INPUTS[None]),
        "conv2d": (layers.Conv2D(5, 1), "kernel", INPUTS[None, None]),
        "nested": (layers.Dense(3), "kernel", INPUTS),
    }[kind]

    def enable():
        layer.enable_lora(2)
        factor = getattr(layer, f"lora_{name}_b")
        factor.assign(RNG.standard_normal(tuple(factor.shape)))

    inner = keras.Sequential([layer]) if kind == "nested" else layer
    if before:
        inner(inputs)
        enable()
    wrapper = SpectralNormalization(inner)
    wrapper(inputs)
    if not before:
        enable()
        wrapper.refresh()
    applied = to_numpy(getattr(layer, name))
    norm = spectral_norm(applied.reshape(-1, applied.shape[-1]))
    bias = 0 if kind == "embedding" else to_numpy(layer.bias)
    expected = (to_numpy(layer(inputs)) - bias) / norm + bias
    np.testing.assert_allclose(
        to_numpy(wrapper(inputs)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("before", [True, False])
def test_quantized_layer_says_to_fold_first(before):
    layer = layers.Dense(3, name="quantized")
    wrapper = SpectralNormalization(layer)
    if before:
        layer.build((None, 4))
        layer.quantize("int8")
    else:
        wrapper(INPUTS)
        layer.quantize("int8")
    with pytest.raises(ValueError, match=r"'quantized' is quantized.*Fold"):
        wrapper(INPUTS)


def test_one_layer_in_two_wrappers():
    layer = layers.Dense(3)
    one = SpectralNormalization(layer)
    three = SpectralNormalization(layer, norm_bound=3.0)
    one(INPUTS, training=True)
    np.testing.assert_allclose(
        to_numpy(three(INPUTS)), 3 * to_numpy(one(INPUTS)), rtol=1e-5
    )


def test_deepcopy_is_independent():
    wrapper = dense()
    outputs = to_numpy(wrapper(INPUTS))
    other = copy.deepcopy(wrapper)
    np.testing.assert_array_equal(to_numpy(other(INPUTS)), outputs)
    wrapper.layer.kernel.assign(np.ones((4, 3)))
    wrapper(INPUTS, training=True)
    np.testing.assert_array_equal(to_numpy(other(INPUTS)), outputs)


def test_clone_model():
    model = keras.Sequential([keras.Input((4,)), dense(norm_bound=2.0)])
    clone = keras.models.clone_model(model)
    assert clone.layers[0].norm_bound == 2.0
    clone.set_weights(model.get_weights())
    # The clone finds the norm anew, the model has it by its state.
    np.testing.assert_allclose(
        to_numpy(clone(INPUTS)), to_numpy(model(INPUTS)), rtol=1e-5
    )


def test_losses_are_counted_once():
    plain = layers.LSTM(3, kernel_regularizer="l2", activity_regularizer="l1")
    wrapper = SpectralNormalization(plain)
    model = keras.Sequential([keras.Input((5, 4)), wrapper])
    inputs = RNG.standard_normal((2, 5, 4)).astype("float32")
    outputs = to_numpy(model(inputs))
    penalty = 0.01 * np.sum(to_numpy(plain.cell.kernel) ** 2)
    expected = penalty + 0.01 * np.abs(outputs).sum() / len(inputs)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    total = model.evaluate(inputs, outputs, verbose=0)
    assert total == pytest.approx(expected, rel=1e-4)
    fit = model.fit(inputs, outputs, verbose=0)
    assert fit.history["loss"][0] == pytest.approx(expected, rel=1e-3)


POLICIES = ["mixed_float16", "mixed_bfloat16", "float64"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["dense", "conv", "embedding", "gru"])
def test_dtype_policies(kind, policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless jax_enable_x64 is set")
    keras.config.set_dtype_policy(policy)
    make, inputs = {
        "dense": (lambda: layers.Dense(30), RNG.standard_normal((8, 40))),
        "conv": (
            lambda: layers.Conv2D(3, 3),
            RNG.standard_normal((4, 6, 6, 2)),
        ),
        "embedding": (
            lambda: layers.Embedding(9, 4),
            RNG.integers(0, 9, (4, 3)),
        ),
        "gru": (lambda: layers.GRU(4), RNG.standard_normal((4, 5, 3))),
    }[kind]
    wrapper = SpectralNormalization(make(), norm_bound=2.0)
    model = keras.Sequential([wrapper])
    outputs = model(inputs)
    dtype = wrapper.layer.compute_dtype
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    model.compile("sgd", "mse")
    model.fit(inputs, np.ones(outputs.shape), verbose=0)
    wide = "float64" if policy == "float64" else "float32"
    for u in wrapper.vectors_u.values():
        assert u.dtype == wide
        assert keras.backend.standardize_dtype(u.value.dtype) == wide
    for weight in wrapper.normalized_weights().values():
        matrix = to_numpy(weight).reshape(-1, weight.shape[-1])
        # The state is float32, so the norm is far better than the half
        # precision of the outputs.
        assert spectral_norm(matrix) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_time_distributed_wrapper_inside(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile is covered by test_backends_agree.py")
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.TimeDistributed(SpectralNormalization(layers.Dense(3))),
        ]
    )
    model.compile("sgd", "mse", jit_compile=jit_compile)
    inputs = RNG.standard_normal((8, 5, 4))
    history = model.fit(inputs, np.ones((8, 5, 3)), epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_states_and_initial_state_pass():
    inputs = keras.Input((5, 4))
    first = layers.LSTM(3, return_sequences=True, return_state=True)
    sequence, hidden, carry = SpectralNormalization(first)(inputs)
    outputs = SpectralNormalization(layers.LSTM(3))(
        sequence, initial_state=[hidden, carry]
    )
    model = keras.Model(inputs, outputs)
    assert model(RNG.standard_normal((2, 5, 4))).shape == (2, 3)
