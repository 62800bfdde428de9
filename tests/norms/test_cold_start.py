"""The cold start against singular vectors by numpy, and without any."""

import tracemalloc

import numpy as np
import pytest
from keras import layers

from keras_sn.linear_maps import ArrayWeight
from keras_sn.linear_maps import MatrixMap
from keras_sn.linear_maps import linear_maps
from keras_sn.norms.vector_tracking import VectorTracker as Tracker


def growth(linear_map, probes):
    """What the blocks make of the probes, relative to their norms."""
    blocks = linear_map.blocks()
    rows = probes
    if np.iscomplexobj(blocks):
        real, imaginary = np.split(probes, 2, axis=1)
        rows = real + 1j * imaginary
    pulled = np.einsum("bc,brc->br", rows, blocks.conj())
    exact = np.linalg.norm(blocks, ord=2, axis=(1, 2))
    return np.linalg.norm(pulled, axis=1) / exact


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (3, 3, 8, 5)])
def test_matrices_converge(shape):
    array = np.random.default_rng(1).standard_normal(shape).astype("float32")
    linear_map = MatrixMap(ArrayWeight(array))
    u = Tracker(linear_map).start()[0]
    assert u.shape == linear_map.probe_shape
    assert np.linalg.norm(u, axis=1) == pytest.approx(1)
    assert growth(linear_map, u).min() >= 1 - 1e-9


def test_a_large_matrix_comes_close():
    array = np.random.default_rng(1).standard_normal((1100, 1100))
    linear_map = MatrixMap(ArrayWeight(array.astype("float32")))
    assert growth(linear_map, Tracker(linear_map).start()[0]).min() >= 0.97


def test_a_large_matrix_takes_little_memory():
    """One copy of it, off the device; a product in float64 makes another."""
    side = 2048
    layer = layers.Dense(side)
    layer.build((None, side))
    (linear_map,) = linear_maps(layer).values()
    tracker = Tracker(linear_map)
    tracemalloc.start()
    tracker.start()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 1.1 * 4 * side * side


@pytest.mark.parametrize("filters", [4, 80])
def test_every_frequency_of_a_convolution(filters):
    layer = layers.Conv2D(filters, 3)
    layer.build((None, None, None, 70))
    (linear_map,) = linear_maps(layer, norm="operator").values()
    u = Tracker(linear_map).start()[0]
    assert u.shape == linear_map.probe_shape
    assert growth(linear_map, u).min() >= 0.97


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge(scale):
    array = np.random.default_rng(1).standard_normal((6, 4)).astype("float32")
    plain = Tracker(MatrixMap(ArrayWeight(array))).start()[0]
    scaled = Tracker(MatrixMap(ArrayWeight(np.float32(scale) * array))).start()[
        0
    ]
    np.testing.assert_allclose(scaled, plain, atol=1e-5)


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf])
def test_without_a_direction_it_is_generic(fill):
    linear_map = MatrixMap(ArrayWeight(np.full((5, 4), fill, "float32")))
    u = Tracker(linear_map).start()[0]
    assert np.isfinite(u).all()
    assert np.linalg.norm(u) == pytest.approx(1)
    assert len(np.unique(u)) == 4
