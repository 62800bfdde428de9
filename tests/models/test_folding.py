"""Tests of normalize_model and fold_model on networks of each kind."""

import numpy as np
import pytest

from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.linear_maps.registry import walk
from keras_sn.models import fold_model
from keras_sn.models import normalize_model
from keras_sn.norms import spectral_norm
from tests.models.networks import NETWORKS
from tests.models.networks import assert_close
from tests.models.networks import fit_one_step
from tests.models.networks import predict
from tests.models.networks import randomized


def holds_only_keras(model):
    return all(
        type(layer).__module__.startswith("keras.")
        and not getattr(layer, "normalizes_itself", False)
        for layer in walk(model)
    )


def wrappers(model):
    return [
        layer
        for layer in model.layers
        if isinstance(layer, SpectralNormalization)
    ]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_normalize_train_fold(network):
    model = randomized(network.make())
    before = [np.array(w) for w in model.get_weights()]
    normalized = normalize_model(model)
    fit_one_step(normalized, network)
    folded = fold_model(normalized)
    inputs = network.inputs(seed=1)
    expected = predict(normalized, inputs)
    assert_close(expected, predict(folded, inputs), 1e-4)
    assert holds_only_keras(folded)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in normalized.layers] == names
    assert [layer.name for layer in folded.layers] == names
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert_close(expected, predict(normalized, inputs), 0)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_certified_fold(network):
    model = normalize_model(
        randomized(network.make()), norm="operator", norm_bound=0.7
    )
    folded = fold_model(model, certified=True)
    maps = linear_maps(folded, norm="operator")
    checked = 0
    for path, linear_map in maps.items():
        if path.split("/")[-1] != "gamma":
            bounds = spectral_norm(linear_map)
            assert 0.68 < bounds.lower <= bounds.upper <= 0.7, path
            checked += 1
    assert checked
