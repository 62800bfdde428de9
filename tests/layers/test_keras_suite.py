"""Keras's own tests of its SpectralNormalization, run on ours."""

import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from tests.layers.harness import HiddenStateMixin

suite = pytest.importorskip(
    "keras.src.layers.normalization.spectral_normalization_test",
    reason="older packages of Keras come without its tests",
    exc_type=ModuleNotFoundError,
)


@pytest.fixture(autouse=True)
def _ours_in_place_of_theirs(monkeypatch):
    monkeypatch.setattr(
        suite.layers, "SpectralNormalization", SpectralNormalization
    )


class TestKerasSuite(HiddenStateMixin, suite.SpectralNormalizationTest):
    """All of it, but for one assertion."""

    def test_apply_layer(self):
        # Theirs asserts that inference before any training call returns the
        # un-normalized 4.0. Here weights are normalized from the first call
        # on (contract, point 3); the rest of their test is kept.
        images = np.ones((1, 2, 2, 1))
        wrapper = SpectralNormalization(
            layers.Conv2D(
                1,
                (2, 2),
                kernel_initializer="ones",
                data_format="channels_last",
            ),
            power_iterations=8,
        )
        expected = np.full((1, 1, 1, 1), 2.0)
        self.assertAllClose(wrapper(images, training=False), expected)
        self.assertAllClose(wrapper(images, training=True), expected)
