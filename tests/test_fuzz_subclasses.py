"""Fuzzer: a subclass with one method overridden is never certified too low.

Of each layer class below, each method and property that may have a part in
its computation is overridden in turn, so that what it gives is three times as
much. Some overrides change the output and some do not; whatever the layer
then computes, no certified number is below its slope.
"""

import functools
import inspect
import math
import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.lipschitz import lipschitz_bound
from keras_sn.norms import spectral_norm
from tests.slopes import measured_slope
from tests.thoroughness import fuzzing

FACTOR = 3.0
FLAT, SERIES, IMAGE = (3,), (4, 2), (4, 4, 1)


def given(*args, **kwargs):
    return lambda cls: cls(*args, **kwargs)


# How to make each class, and the shape of each input.
CASES = [
    (layers.Dense, given(3), FLAT),
    (layers.EinsumDense, given("ab,bc->ac", 3), FLAT),
    (layers.Conv1D, given(2, 2), SERIES),
    (layers.Conv1D, given(2, 2, padding="causal"), SERIES),
    (layers.Conv2D, given(1, 2), IMAGE),
    (layers.Conv3D, given(1, 2), (2, 2, 2, 1)),
    (layers.Conv1DTranspose, given(2, 2), SERIES),
    (layers.Conv2DTranspose, given(1, 2), IMAGE),
    (layers.DepthwiseConv1D, given(2), SERIES),
    (layers.DepthwiseConv2D, given(2), IMAGE),
    (layers.SeparableConv1D, given(2, 2), SERIES),
    (layers.SeparableConv2D, given(1, 2), IMAGE),
    (layers.BatchNormalization, given(), FLAT),
    (layers.LayerNormalization, given(epsilon=1.0), FLAT),
    (layers.GroupNormalization, given(1, epsilon=1.0), FLAT),
    (layers.RMSNormalization, given(epsilon=1.0), FLAT),
    (layers.Normalization, given(mean=0.5, variance=2.0), FLAT),
    (layers.Rescaling, given(0.5), FLAT),
    (layers.Activation, given("tanh"), FLAT),
    (layers.ReLU, given(), FLAT),
    (layers.LeakyReLU, given(), FLAT),
    (layers.ELU, given(), FLAT),
    (layers.PReLU, given(), FLAT),
    (layers.Softmax, given(), FLAT),
    (layers.Identity, given(), FLAT),
    (layers.Dropout, given(0.5), FLAT),
    (layers.GaussianNoise, given(0.5), FLAT),
    (layers.ActivityRegularization, given(), FLAT),
    (layers.Flatten, given(), SERIES),
    (layers.Reshape, given((2, 4)), SERIES),
    (layers.Permute, given((2, 1)), SERIES),
    (layers.RepeatVector, given(2), FLAT),
    (layers.ZeroPadding1D, given(1), SERIES),
    (layers.ZeroPadding2D, given(1), IMAGE),
    (layers.Cropping1D, given(1), SERIES),
    (layers.UpSampling1D, given(2), SERIES),
    (layers.UpSampling2D, given(2), IMAGE),
    (layers.MaxPooling1D, given(2), SERIES),
    (layers.MaxPooling2D, given(2), IMAGE),
    (layers.AveragePooling1D, given(2), SERIES),
    (layers.AveragePooling2D, given(2), IMAGE),
    (layers.GlobalMaxPooling1D, given(), SERIES),
    (layers.GlobalAveragePooling1D, given(), SERIES),
    (layers.SimpleRNN, given(2), SERIES),
    (layers.TimeDistributed, lambda cls: cls(layers.Dense(2)), SERIES),
    (layers.Bidirectional, lambda cls: cls(layers.SimpleRNN(2)), SERIES),
    (keras.Sequential, lambda cls: cls([layers.Dense(3)]), FLAT),
    (layers.Add, given(), (FLAT, FLAT)),
    (layers.Subtract, given(), (FLAT, FLAT)),
    (layers.Average, given(), (FLAT, FLAT)),
    (layers.Maximum, given(), (FLAT, FLAT)),
    (layers.Minimum, given(), (FLAT, FLAT)),
    (layers.Concatenate, given(), (FLAT, FLAT)),
]

# What Keras asks around the computation, not for it. Overridden it gives no
# other function, but a false description.
AROUND = {
    "inputs",
    "outputs",
    "compute_mask",
    "compute_output_shape",
    "compute_output_spec",
    "compute_dtype",
    "dtype",
    "input_dtype",
    "variable_dtype",
    "path",
    "name",
}


def overridable(cls):
    """Names of the methods and properties that the class adds to Layer.

    And `call` and `__call__`, which every layer has.
    """
    names = ["__call__", "call"]
    for name, value in inspect.getmembers_static(cls):
        own = inspect.isfunction(value) or isinstance(value, property)
        if own and not hasattr(layers.Layer, name) and name not in AROUND:
            names.append(name)
    return names


def tripled(cls, name):
    """A subclass whose method or property `name` gives three times as much."""
    inherited = inspect.getattr_static(cls, name)

    def scaled(self, *args, **kwargs):
        value = function(self, *args, **kwargs)
        return keras.tree.map_structure(
            lambda x: FACTOR * x if is_float(x) else x, value
        )

    if isinstance(inherited, property):
        function = inherited.fget
        override = property(scaled)
    else:
        function = inherited
        override = functools.wraps(function)(scaled)
    body = {name: override}
    return types.new_class(
        f"Tripled{cls.__name__}", (cls,), {}, lambda space: space.update(body)
    )


def is_float(value):
    if isinstance(value, keras.Variable) or keras.ops.is_tensor(value):
        return keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(value.dtype)
        )
    return isinstance(value, keras.KerasTensor)


OVERRIDES = [
    (index, name)
    for index, (cls, _, _) in enumerate(CASES)
    for name in overridable(cls)
]


def drawn():
    """The overrides of this run in random order: all, or a sample of them."""
    count = min(fuzzing(sample=120), len(OVERRIDES))
    return np.random.default_rng(0).permutation(len(OVERRIDES))[:count]


def build(index, name, rng):
    cls, make, shapes = CASES[index]
    if not isinstance(shapes[0], tuple):
        shapes = (shapes,)
    layer = make(tripled(cls, name))
    inputs = [np.zeros((1, *shape), "float32") for shape in shapes]
    layer(inputs if len(inputs) > 1 else inputs[0])
    for variable in layer.weights:
        if variable.dtype == "float32":
            values = rng.standard_normal(variable.shape)
            positive = "variance" in variable.name
            variable.assign(np.abs(values) + 0.1 if positive else values)
    return layer, shapes


def certified_norm(layer):
    """The certified upper bound of the norm, `inf` where it is refused."""
    try:
        return spectral_norm(layer).upper
    except ValueError:
        return math.inf


@pytest.mark.parametrize("chosen", np.array_split(drawn(), 8), ids=range(8))
def test_no_override_is_certified_too_low(chosen):
    refused = 0
    for number in chosen:
        refused += check(*OVERRIDES[number])
    # An override that changes nothing, or does not run, tests nothing.
    assert refused >= len(chosen) // 5


def check(index, name):
    """Whether the bound of the layer is refused, having run."""
    rng = np.random.default_rng(index)
    cls = CASES[index][0]
    try:
        layer, shapes = build(index, name, rng)
        slope = measured_slope(layer, shapes, rng)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        # A layer that does not run cannot be steep.
        return False
    case = f"{cls.__name__}.{name} overridden: slope {slope}"
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer(inputs if inputs[1:] else inputs[0]))
    for bounded in (layer, model):
        report = lipschitz_bound(bounded, lower=False, time_limit=1.0)
        bound = report.upper
        assert slope <= bound, f"{case}, {report}"
    if len(shapes) == 1 and is_linear(cls):
        norm = certified_norm(layer)
        assert slope <= norm, f"{case}, spectral_norm {norm}"
    return math.isinf(bound)


def is_linear(cls):
    """Whether the layer is its linear map, with no activation behind."""
    return cls.__name__.startswith(
        ("Dense", "Einsum", "Conv", "Depthwise", "Separable", "BatchNorm")
    )
