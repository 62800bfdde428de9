"""The warning that a norm means nothing: where it fires, and where not."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import JointBatchNormalization
from keras_sn.layers import SpectralNormalization
from keras_sn.models import normalize_model
from keras_sn.models import void_normalizations
from tests.layers.cases import CASES
from tests.models.networks import NETWORKS

# The only network of the zoo with a layer directly before a normalization.
EXPECTED = {
    "residual": [
        ("conv2d", "batch_normalization"),
        ("conv2d_1", "batch_normalization_1"),
    ],
    "mobile": [("depthwise_conv2d", "batch_normalization")],
}


def chain(*parts, shape=(6, 6, 4)):
    return keras.Sequential([keras.Input(shape), *parts])


def wrap(layer):
    return SpectralNormalization(layer)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_networks_of_the_zoo(network):
    keras.utils.clear_session(free_memory=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = normalize_model(network.make())
    found = [(a.name, b.name) for a, b in void_normalizations(model)]
    assert found == EXPECTED.get(network.name, [])
    said = [str(w.message) for w in caught if "no effect" in str(w.message)]
    assert len(said) == len(found)
    for message, (first, second) in zip(said, found, strict=True):
        assert f"'{first}'" in message
        assert f"'{second}'" in message
        assert "JointBatchNormalization" in message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_single_layers_of_the_zoo(case):
    model = case.model(SpectralNormalization(case.make()))
    assert not void_normalizations(model)


@pytest.mark.parametrize(
    ("make", "normalization"),
    [
        (lambda: layers.Conv2D(4, 3), layers.BatchNormalization),
        (lambda: layers.Dense(4), layers.LayerNormalization),
        (lambda: layers.Dense(4), lambda: layers.GroupNormalization(2)),
        (lambda: layers.SeparableConv2D(4, 3), layers.RMSNormalization),
        (
            lambda: layers.Conv2DTranspose(4, 3, activation="linear"),
            layers.BatchNormalization,
        ),
    ],
)
def test_fires(make, normalization):
    model = chain(wrap(make()), normalization(), layers.ReLU())
    ((first, second),) = void_normalizations(model)
    assert (first, second) == (model.layers[0], model.layers[1])
    nested = chain(model, layers.Flatten(), layers.Dense(2))
    assert len(void_normalizations(nested)) == 1
    whole = wrap(chain(make(), normalization()))
    assert len(void_normalizations(chain(whole))) == 1
    with pytest.warns(UserWarning, match="has no effect"):
        normalize_model(chain(make(), normalization()))


def frozen():
    layer = layers.BatchNormalization()
    layer.trainable = False
    return layer


@pytest.mark.parametrize(
    "parts",
    [
        lambda: [wrap(layers.Dense(4)), frozen()],
        lambda: [wrap(layers.Dense(4, "relu")), layers.LayerNormalization()],
        lambda: [
            wrap(layers.Dense(4)),
            layers.ReLU(),
            layers.LayerNormalization(),
        ],
        lambda: [layers.Dense(4), layers.BatchNormalization()],
        lambda: [layers.BatchNormalization(), wrap(layers.Dense(4))],
        lambda: [
            JointBatchNormalization(layers.Dense(4)),
            layers.LayerNormalization(),
        ],
        lambda: [
            wrap(layers.BatchNormalization()),
            layers.BatchNormalization(),
        ],
    ],
)
def test_does_not_fire(parts):
    assert not void_normalizations(chain(*parts()))


@pytest.mark.parametrize(
    "normalization", [layers.LayerNormalization, layers.BatchNormalization]
)
def test_it_is_true(normalization):
    """What is warned of: another bound, and the outputs are the same."""
    inputs = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
    outputs = []
    for norm_bound in (1.0, 2.0):
        layer = SpectralNormalization(
            layers.Dense(4, use_bias=False, kernel_initializer="ones"),
            norm_bound=norm_bound,
        )
        normalized = normalization(epsilon=1e-9)
        model = chain(layer, normalized, shape=(8,))
        layer.layer.kernel.assign(
            np.random.default_rng(1).standard_normal((8, 4))
        )
        layer.refresh()
        training = isinstance(normalized, layers.BatchNormalization)
        result = model(inputs, training=training)
        outputs.append(keras.ops.convert_to_numpy(result))
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)
