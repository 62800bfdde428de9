"""Muon: steps by NumPy's SVD, training, files, precision, accumulation."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.constraints import SpectralNorm
from keras_sn.constraints import constrain
from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps import linear_maps
from keras_sn.norms import spectral_norm
from keras_sn.optimizers import Muon
from tests.training.models import batches
from tests.training.models import mixed
from tests.training.models import set_weights
from tests.truth import kernel_norm
from tests.truth import spectral_norm as numpy_norm
from tests.truth import to_numpy


def polar_factor(matrix):
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def steps_of(layer, input_shape, rate=0.1, **options):
    """What one step with a random gradient takes off each weight."""
    layer.build(input_shape)
    optimizer = Muon(rate, model=layer, weight_decay=None, **options)
    optimizer.build(layer.trainable_variables)
    rng = np.random.default_rng(0)
    gradients, before = [], []
    for variable in layer.trainable_variables:
        gradient = rng.normal(size=variable.shape).astype("float32")
        gradients.append(keras.ops.convert_to_tensor(gradient))
        before.append(to_numpy(variable))
    optimizer.apply(gradients, layer.trainable_variables)
    steps = {
        v.path.split("/", 1)[-1]: (b - to_numpy(v)) / rate
        for v, b in zip(layer.trainable_variables, before, strict=True)
    }
    grads = dict(zip(steps, map(to_numpy, gradients), strict=True))
    return steps, grads


def test_dense():
    steps, gradients = steps_of(layers.Dense(8), (None, 32), steps=9)
    expected = polar_factor(gradients["kernel"]) * np.sqrt(8 / 32)
    np.testing.assert_allclose(steps["kernel"], expected, atol=1e-4)
    # AdamW's first step is the sign.
    np.testing.assert_allclose(
        steps["bias"], 0.1 * np.sign(gradients["bias"]), atol=1e-4
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strides", [1, 2])
def test_convolution_by_groups(groups, strides):
    layer = layers.Conv2D(6, 3, groups=groups, strides=strides)
    steps, gradients = steps_of(layer, (None, 8, 8, 4), steps=9)
    meeting = 9 if strides == 1 else 4
    scale = np.sqrt(6 / 4 / meeting)
    parts = np.split(gradients["kernel"], groups, axis=-1)
    expected = np.concatenate(
        [
            polar_factor(p.reshape(-1, p.shape[-1])).reshape(p.shape)
            for p in parts
        ],
        axis=-1,
    )
    np.testing.assert_allclose(steps["kernel"], scale * expected, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Dense(5), (None, 20)),
        (layers.Conv2D(12, 3), (None, 8, 8, 4)),
        (layers.Conv2D(4, 4, strides=2), (None, 8, 8, 16)),
        (layers.Conv1D(6, 5, dilation_rate=2, groups=2), (None, 16, 4)),
        (layers.Conv2DTranspose(3, 3, strides=2), (None, 8, 8, 6)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (None, 8, 8, 4)),
        (layers.EinsumDense("abc,bcd->abd", (6, 3)), (None, 6, 5)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_norm_of_a_step_is_at_most_that_of_the_width(layer, shape):
    """In the norm of the layer's own map, certified."""
    steps, _ = steps_of(layer, shape)
    layer.kernel.assign(steps["kernel"])
    (linear_map,) = linear_maps(layer).values()
    norm = spectral_norm(linear_map, rtol=1e-3).upper
    channels, filters = shape[-1], layer.compute_output_shape(shape)[-1]
    width = np.sqrt(filters / channels)
    # Five polynomials leave singular values within 12 % of 1.
    assert 0.4 * width < norm < 1.12 * width


def test_attention_heads_are_one_matrix():
    layer = layers.MultiHeadAttention(3, 4)
    layer.build((None, 5, 8), (None, 5, 8))
    optimizer = Muon(0.1, model=layer, weight_decay=None, steps=9)
    optimizer.build(layer.trainable_variables)
    kernel = layer.query_dense.kernel
    before = to_numpy(kernel)
    gradient = np.random.default_rng(0).normal(size=kernel.shape)
    gradients = [
        keras.ops.convert_to_tensor(
            gradient.astype("float32")
            if v is kernel
            else np.zeros(v.shape, "float32")
        )
        for v in layer.trainable_variables
    ]
    optimizer.apply(gradients, layer.trainable_variables)
    step = (before - to_numpy(kernel)) / 0.1
    expected = polar_factor(gradient.reshape(8, 12)) * np.sqrt(12 / 8)
    np.testing.assert_allclose(step.reshape(8, 12), expected, atol=1e-4)


def test_who_takes_adamw():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(10, 8),
            layers.Conv1D(8, 3),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            SpectralNormalization(layers.Dense(4, name="wrapped")),
            layers.Dense(3, name="logits"),
        ]
    )
    optimizer = Muon(model=model, exclude_layers=["logits"])
    optimizer.build(model.trainable_variables)
    matrices = [
        variable.path.split("/")[-2:]
        for variable, velocity in zip(
            model.trainable_variables, optimizer.velocities, strict=True
        )
        if velocity is None
    ]
    assert [name for *_, name in matrices] == ["kernel", "kernel"]
    assert [layer for layer, _ in matrices][-1] == "wrapped"


def loss_after(optimizer, model, **options):
    model.compile(optimizer, "mse", **options)
    history = model.fit(*batches(1)[0], epochs=12, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    return history


@pytest.mark.parametrize("method", ["polar_express", "newton_schulz"])
def test_fit_saves_and_goes_on(method, tmp_path):
    """The loaded model trains on as the one that was saved."""
    model = mixed()
    set_weights(model, 0.3)
    loss_after(Muon(0.02, model=model, method=method), model)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert isinstance(loaded.optimizer, Muon)
    assert loaded.optimizer.method == method
    x, y = batches(1)[0]
    for one in (model, loaded):
        one.fit(x, y, epochs=2, verbose=0)
    for ours, theirs in zip(
        model.trainable_variables, loaded.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(
            to_numpy(ours), to_numpy(theirs), rtol=1e-4, atol=1e-5
        )


def test_saved_before_training(tmp_path):
    model = mixed()
    model.compile(Muon(0.02, model=model), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(*batches(1)[0], verbose=0)
    assert sum(v is None for v in loaded.optimizer.velocities) == 6


def test_with_constraints_and_accumulation():
    model = mixed()
    constrain(model, SpectralNorm(0.5, "svd"))
    optimizer = Muon(
        0.05, model=model, gradient_accumulation_steps=2, use_ema=True
    )
    model.compile(optimizer, "mse")
    x, y = batches(1)[0]
    model.fit(x, y, batch_size=4, verbose=0)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    assert len(kernels) == 6
    dense = model.layers[-1]
    assert kernel_norm(dense, "kernel", to_numpy(dense.kernel)) < 0.505


def test_mixed_precision_and_schedule():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = mixed()
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
    model.compile(Muon(schedule, model=model), "mse")
    model.fit(*batches(1)[0], epochs=2, verbose=0)
    assert all(np.isfinite(to_numpy(v)).all() for v in model.weights)


def test_wrapped_layers_train():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            SpectralNormalization(layers.Conv2D(6, 3, activation="tanh")),
            layers.Flatten(),
            SpectralNormalization(layers.Dense(3)),
        ]
    )
    model.compile(Muon(0.1, model=model), "mse")
    history = model.fit(*batches(1)[0], epochs=12, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for layer in (model.layers[0], model.layers[-1]):
        (weight,) = layer.normalized_weights().values()
        matrix = to_numpy(weight).reshape(-1, weight.shape[-1])
        assert numpy_norm(matrix) == pytest.approx(1, rel=1e-2)


def test_bad_arguments():
    with pytest.raises(ValueError, match="polar_express"):
        Muon(method="qr")
    model, other = mixed(), mixed()
    with pytest.raises(ValueError, match="model=model"):
        Muon().build(model.trainable_variables)
    with pytest.raises(ValueError, match="kernel of the model"):
        Muon(model=other).build(model.trainable_variables)
