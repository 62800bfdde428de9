"""Tests of upgrade_model."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.models import fold_model
from keras_sn.models import upgrade_model
from tests.models.networks import assert_close
from tests.models.networks import predict
from tests.models.networks import sequential
from tests.truth import to_numpy


def stock_model():
    Stock = layers.SpectralNormalization
    inputs = keras.Input((6, 6, 4))
    x = Stock(layers.Conv2D(4, 3), power_iterations=2, name="conv")(inputs)
    x = Stock(layers.Conv2D(4, 3, groups=2), name="grouped")(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, Stock(layers.Dense(3), name="score")(x))


def trained_stock_model():
    model = stock_model()
    model.compile("sgd", "mse")
    data = np.random.default_rng(0).standard_normal((4, 6, 6, 4))
    model.fit(data, np.ones((4, 3)), epochs=2, verbose=0)
    return model, data.astype("float32")


def test_state_is_kept():
    model, _ = trained_stock_model()
    upgraded = upgrade_model(model)
    old, new = model.get_layer("conv"), upgraded.get_layer("conv")
    assert type(new) is SpectralNormalization
    assert new.power_iterations == 2
    for a, b in [
        (old.vector_u, new.vector_u),
        (old.layer.kernel, new.layer.kernel),
        (old.layer.bias, new.layer.bias),
    ]:
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_inside_of_another_layer():
    stock = layers.SpectralNormalization(layers.Dense(3))
    inputs = keras.Input((4, 5))
    model = keras.Model(
        inputs, layers.TimeDistributed(stock, name="steps")(inputs)
    )
    new = upgrade_model(model).get_layer("steps").layer
    assert type(new) is SpectralNormalization
    np.testing.assert_array_equal(
        to_numpy(stock.layer.kernel), to_numpy(new.layer.kernel)
    )
    np.testing.assert_array_equal(
        to_numpy(stock.vector_u), to_numpy(new.vector_u)
    )
    folded = fold_model(upgrade_model(model))
    assert type(folded.get_layer("steps").layer) is layers.Dense


def test_every_weight_is_normalized(tmp_path):
    """Also from JAX, whose files hold kernels of any norm."""
    model, data = trained_stock_model()
    for layer in (model.get_layer("conv"), model.get_layer("grouped")):
        layer.layer.kernel.assign(10 * layer.layer.kernel)
    path = tmp_path / "stock.keras"
    model.save(path)
    upgraded = upgrade_model(path)
    for name in ("conv", "grouped"):
        ((_, kernel),) = upgraded.get_layer(name).normalized_weights().items()
        kernel = keras.ops.convert_to_numpy(kernel)
        groups = np.split(kernel, 2 if name == "grouped" else 1, axis=-1)
        norms = [np.linalg.norm(g.reshape(-1, g.shape[-1]), 2) for g in groups]
        assert max(norms) == pytest.approx(1, abs=1e-3)
    assert_close(
        predict(upgraded, data), predict(fold_model(upgraded), data), 1e-4
    )


def test_nothing_to_upgrade():
    with pytest.raises(ValueError, match="nothing to upgrade"):
        upgrade_model(sequential())
