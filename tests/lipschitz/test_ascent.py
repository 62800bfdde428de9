"""Lower bounds: never above the truth, whatever gradients say."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.lipschitz.lower.ascent import lower_bound


def test_a_gradient_that_is_not_one_is_not_believed():
    """A part that is held constant hides from the gradient: 3 x - 2 x."""
    inputs = keras.Input((3,))
    outputs = 3.0 * inputs - ops.stop_gradient(2.0 * inputs)
    model = keras.Model(inputs, outputs)
    assert lower_bound(model) <= 1
    assert lower_bound(model) == pytest.approx(1, rel=1e-3)


def test_kinks_where_no_gradient_exists():
    """Both branches of `relu(x) - relu(-x) = x`, at the origin."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, ops.relu(inputs) - ops.relu(-inputs))
    bound = lower_bound(model, data=np.zeros((4, 3), "float32"))
    assert bound <= 1
    assert bound == pytest.approx(1, rel=1e-5)


def test_constants_and_integer_inputs():
    inputs = keras.Input((3,))
    assert lower_bound(keras.Model(inputs, 0.0 * inputs + 1.0)) == 0
    tokens = keras.Input((3,), dtype="int32")
    model = keras.Model(tokens, layers.Embedding(5, 2)(tokens))
    assert lower_bound(model) == 0
