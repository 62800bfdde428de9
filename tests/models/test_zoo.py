"""The large models of keras.applications; run by `make test-zoo`."""

import gc
import os

import keras
import numpy as np
import pytest

from keras_sn.linear_maps.registry import linear_maps
from keras_sn.models import fold_model
from keras_sn.models import normalize_model
from keras_sn.norms import spectral_norm
from tests.models.networks import assert_close
from tests.models.test_folding import holds_only_keras

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_SN_ZOO") != "1",
    reason="takes minutes per model: run `make test-zoo` (KERAS_SN_ZOO=1)",
)


MODELS = pytest.mark.parametrize(
    "name",
    [
        "ResNet50",
        "MobileNetV3Small",
        "EfficientNetV2B0",
        "ConvNeXtTiny",
        "DenseNet121",
    ],
)
SIZE = 32


def build(name):
    return getattr(keras.applications, name)(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=10
    )


@MODELS
def test_normalize_train_fold(name):
    normalized = normalize_model(build(name))
    data = np.random.default_rng(0).random((2, SIZE, SIZE, 3))
    data = 255 * data.astype("float32")
    # Clipped, since batch normalization of two images has huge gradients.
    optimizer = keras.optimizers.SGD(0.01, clipnorm=1.0)
    normalized.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        # XLA under TensorFlow is killed by DenseNet121, unwrapped as well.
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
    normalized.train_on_batch(data, np.array([1, 2]))
    folded = fold_model(normalized)
    expected = normalized.predict(data, verbose=0)
    assert np.isfinite(expected).all()
    assert_close([expected], [folded.predict(data, verbose=0)], 1e-4)
    assert holds_only_keras(folded)
    gc.collect()


@MODELS
def test_certified_fold(name):
    model = normalize_model(build(name), norm="operator")
    folded = fold_model(model, certified=True)
    checked = 0
    for path, linear_map in linear_maps(folded, norm="operator").items():
        if path.split("/")[-1] != "gamma":
            bounds = spectral_norm(linear_map)
            assert 0.95 < bounds.lower <= bounds.upper <= 1.0, path
            checked += 1
    assert checked
    gc.collect()
