"""Regularizers: values and gradients by NumPy, training, serialization."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.norms import spectral_norm
from keras_sn.regularizers import Orthogonality
from keras_sn.regularizers import SpectralNorm
from keras_sn.regularizers import regularize
from tests.gradients import gradients
from tests.training.models import batches
from tests.training.models import mixed
from tests.truth import to_numpy

REGULARIZERS = [SpectralNorm, Orthogonality]


def numpy_penalty(kind, matrix):
    values = np.linalg.svd(matrix, compute_uv=False)
    if kind is SpectralNorm:
        return values[0] ** 2 / 2
    return ((values**2 - 1) ** 2).sum()


@pytest.mark.parametrize("kind", REGULARIZERS)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 3, 2, 5), (1, 1)])
def test_value_and_gradient(kind, shape):
    kernel = np.random.default_rng(0).normal(size=shape)
    matrix = kernel.reshape(-1, shape[-1])
    variable = keras.Variable(kernel, dtype="float32")
    regularizer = kind(0.3)
    value = float(to_numpy(regularizer(variable)))
    assert value == pytest.approx(0.3 * numpy_penalty(kind, matrix), rel=1e-4)
    (found,) = gradients(lambda: regularizer(variable), [variable])
    found = to_numpy(found).reshape(matrix.shape)
    direction = np.random.default_rng(1).normal(size=matrix.shape)
    step = 1e-5
    slope = (
        numpy_penalty(kind, matrix + step * direction)
        - numpy_penalty(kind, matrix - step * direction)
    ) / (2 * step)
    assert (found * direction).sum() == pytest.approx(0.3 * slope, rel=2e-3)


def test_operator_norm_of_a_convolution():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 6))
    variable = keras.Variable(kernel, dtype="float32")
    layer = layers.Conv2D(6, 3)
    layer.build((None, None, None, 4))
    layer.kernel.assign(kernel)
    norm = spectral_norm(layer, rtol=1e-4).upper
    regularizer = SpectralNorm(2.0, norm="operator")
    value = float(to_numpy(regularizer(variable)))
    assert value == pytest.approx(norm**2, rel=5e-3)
    # Homogeneous of degree two: <gradient, kernel> is twice the value.
    (found,) = gradients(lambda: regularizer(variable), [variable])
    assert (to_numpy(found) * kernel).sum() == pytest.approx(
        2 * value, rel=1e-3
    )


def test_orthogonality_at_all_frequencies():
    """The mean of what NumPy's transform of the kernel gives."""
    kernel = np.random.default_rng(0).normal(size=(5, 2, 3))
    symbol = np.moveaxis(np.fft.fft(kernel, 16, axis=0), 1, 2)[:9]
    gram = symbol.conj().swapaxes(1, 2) @ symbol
    expected = (np.abs(gram - np.eye(2)) ** 2).sum() / 9
    found = Orthogonality(1.0, "operator")(kernel.astype("float32"))
    assert float(to_numpy(found)) == pytest.approx(expected, rel=1e-4)
    delta = np.zeros((3, 3, 2, 2), "float32")
    delta[1, 1] = np.eye(2)
    assert float(to_numpy(Orthogonality(1.0, "operator")(delta))) < 1e-9


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_save_load_and_fit(kind, tmp_path):
    identifier = {
        "class_name": f"keras_sn.regularizers>{kind.__name__}",
        "config": {"l": 0.5, "norm": "operator"},
    }
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, kernel_regularizer=identifier),
            layers.Flatten(),
            layers.Dense(3, kernel_regularizer=identifier),
        ]
    )
    path = tmp_path / "model.keras"
    model.save(path)
    model = keras.models.load_model(path)
    regularizer = model.layers[0].kernel_regularizer
    assert regularizer.get_config() == identifier["config"]
    before = sum(float(to_numpy(loss)) for loss in model.losses)
    model.compile(keras.optimizers.SGD(0.02), "mse")
    x, y = batches(1, (6, 6, 2), size=64)[0]
    model.fit(x, y, epochs=5, verbose=0)
    assert len(model.losses) == 2
    after = sum(float(to_numpy(loss)) for loss in model.losses)
    assert after < 0.9 * before


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_every_kernel_of_a_model(kind):
    model = mixed()
    model.compile("sgd", "mse")
    x, y = batches(1)[0]
    plain = model.evaluate(x, y, verbose=0)
    regularize(model, kind(0.1, norm="operator"))
    assert len(model.losses) == 6
    model.compile("sgd", "mse")
    penalty = sum(float(to_numpy(loss)) for loss in model.losses)
    total = model.evaluate(x, y, verbose=0)
    assert total == pytest.approx(plain + penalty, rel=1e-4)
    model.fit(x, y, verbose=0)


def test_attention_by_its_own_matrix():
    layer = layers.MultiHeadAttention(3, 4)
    layer.build((None, 5, 8), (None, 5, 8))
    regularize(layer, SpectralNorm(1.0))
    kernel = to_numpy(layer.query_dense.kernel)
    expected = np.linalg.norm(kernel.reshape(8, 12), 2) ** 2 / 2
    kernel = layer.query_dense.kernel
    assert float(to_numpy(kernel.regularizer(kernel))) == pytest.approx(
        expected, rel=1e-3
    )


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_bad_arguments_and_zero(kind):
    with pytest.raises(ValueError, match="negative"):
        kind(-1.0)
    with pytest.raises(ValueError, match="norm"):
        kind(norm="nuclear")
    zero = keras.Variable(np.zeros((3, 3, 2, 2)), dtype="float32")
    for norm in ("kernel", "operator"):
        regularizer = kind(norm=norm)
        (found,) = gradients(lambda r=regularizer: r(zero), [zero])
        assert not to_numpy(found).any()
