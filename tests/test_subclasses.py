"""Subclasses that compute something else than their base: not certified."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.lipschitz import lipschitz_bound
from keras_sn.norms import spectral_norm
from tests import truth
from tests.test_one_truth import Mixing
from tests.test_one_truth import check


class InitializedConv2D(layers.Conv2D):
    """Another constructor and another `build`, the same computation."""

    def __init__(self, **kwargs):
        super().__init__(3, 2, padding="same", **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel.assign(np.ones(self.kernel.shape))

    def get_config(self):
        return {"name": self.name}


def test_a_subclass_with_its_own_constructor_is_certified():
    layer = InitializedConv2D()
    layer.build((None, 9, 9, 2))
    matrix = truth.dense_matrix(layer, (9, 9, 2))
    check(layer, truth.spectral_norm(matrix), "inherits all it computes")


def tripled(base, method):
    """A subclass whose inherited `call` gives three times as much."""
    inherited = getattr(base, method)

    # With the signature that Keras looks at.
    @functools.wraps(inherited)
    def scaled(self, *args, **kwargs):
        return 3 * inherited(self, *args, **kwargs)

    return type(f"Tripled{base.__name__}", (base,), {method: scaled})


class TripledKernel(layers.Dense):
    """A Dense layer that overrides what its `call` reads."""

    @property
    def kernel(self):
        return 3 * super().kernel


class Counted(layers.Dense):
    """A Dense layer that hands its work to a method it brings along."""

    def call(self, inputs, training=None):
        return self.five_times(inputs)

    def five_times(self, inputs):
        return 5 * super().call(inputs)


_SEQUENCE, _IMAGE = (9, 4), (7, 7, 2)
SUBCLASSES = {
    "dense": lambda: (tripled(layers.Dense, "call")(3), (4,)),
    "dense_other_call": lambda: (Counted(3), (4,)),
    "dense_kernel": lambda: (TripledKernel(3), (4,)),
    "einsum": lambda: (
        tripled(layers.EinsumDense, "call")("ab,bc->ac", 3),
        (4,),
    ),
    "conv1d": lambda: (tripled(layers.Conv1D, "call")(3, 2), _SEQUENCE),
    "conv2d": lambda: (tripled(layers.Conv2D, "call")(3, 2), _IMAGE),
    "conv3d": lambda: (tripled(layers.Conv3D, "call")(2, 2), (3, 3, 3, 2)),
    "conv2d_operation": lambda: (
        tripled(layers.Conv2D, "convolution_op")(3, 2),
        _IMAGE,
    ),
    "transposed": lambda: (
        tripled(layers.Conv2DTranspose, "call")(3, 2),
        _IMAGE,
    ),
    "depthwise": lambda: (
        tripled(layers.DepthwiseConv1D, "call")(3),
        _SEQUENCE,
    ),
    "separable": lambda: (
        tripled(layers.SeparableConv2D, "call")(3, 2),
        _IMAGE,
    ),
    "batch_normalization": lambda: (
        tripled(layers.BatchNormalization, "call")(),
        (4,),
    ),
    "registered": lambda: (tripled(Mixing, "call")(2, 3), (8,)),
}


def certified_norm(layer):
    """The certified upper bound, `inf` where it is refused."""
    try:
        return spectral_norm(layer).upper
    except ValueError:
        return math.inf


@pytest.mark.parametrize("name", SUBCLASSES)
def test_another_computation_is_not_certified(name):
    layer, shape = SUBCLASSES[name]()
    layer.build((None, *shape))
    dense = truth.spectral_norm(truth.dense_matrix(layer, shape))
    bound = lipschitz_bound(layer, lower=False).upper
    norm = certified_norm(layer)
    assert norm == bound == math.inf, f"{dense=}, {norm=}, {bound=}"
    with pytest.raises(ValueError, match=type(layer).__name__):
        spectral_norm(layer)


@pytest.mark.parametrize("name", SUBCLASSES)
def test_another_computation_in_a_network_is_not_bounded(name):
    layer, shape = SUBCLASSES[name]()
    inputs = keras.Input(shape)
    outputs = layers.Dense(2)(layers.Flatten()(layer(inputs)))
    report = lipschitz_bound(keras.Model(inputs, outputs), lower=False)
    assert math.isinf(report.upper), report
    assert any(layer.name in row.name for row in report.layers), report
