"""Operations of `keras.ops` in a graph, against their matrix or steepest."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.lipschitz import lipschitz_bound

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(4, 5)).astype("float32")
KERNEL = RNG.normal(size=(3, 3, 2, 4)).astype("float32")
BLOCKS = RNG.normal(size=(3, 4, 2)).astype("float32")


def dense_matrix(model, shape):
    size = math.prod(shape)
    basis = np.eye(size).reshape(size, *shape).astype("float32")
    points = np.concatenate([np.zeros((1, *shape), "float32"), basis])
    rows = [
        np.asarray(ops.convert_to_numpy(model(point[None]))).ravel()
        for point in points
    ]
    return np.array(rows[1:], "float64").T - np.array(rows[0])[:, None]


LINEAR = {
    "matmul": (lambda x: x @ MATRIX, (4,)),
    "matmul at positions": (lambda x: x @ MATRIX, (3, 4)),
    "matmul with a vector": (lambda x: ops.matmul(x, MATRIX[:, 0]), (3, 4)),
    "matmul in front": (lambda x: ops.matmul(MATRIX.T, x), (4, 3)),
    "dot": (lambda x: ops.dot(x, MATRIX), (4,)),
    "einsum": (lambda x: ops.einsum("bi,io->bo", x, MATRIX), (4,)),
    "einsum, constant first": (
        lambda x: ops.einsum("io,bi->bo", MATRIX, x),
        (4,),
    ),
    "einsum of blocks": (
        lambda x: ops.einsum("bij,ijk->bik", x, BLOCKS),
        (3, 4),
    ),
    "einsum that sums an axis": (
        lambda x: ops.einsum("bji,io->bo", x, MATRIX),
        (3, 4),
    ),
    "conv": (lambda x: ops.conv(x, KERNEL, padding="valid"), (6, 6, 2)),
    "conv with strides": (
        lambda x: ops.conv(x, KERNEL, strides=2, padding="same"),
        (6, 6, 2),
    ),
    "depthwise": (
        lambda x: ops.depthwise_conv(x, KERNEL[:, :, :, :1]),
        (6, 6, 2),
    ),
    "average": (lambda x: ops.average_pool(x, 2, 2), (6, 6, 2)),
    "average, overlapping": (
        lambda x: ops.average_pool(x, 3, 1, "same"),
        (5, 2),
    ),
    "repeat": (lambda x: ops.repeat(x, 3, axis=1), (4,)),
    "tile": (lambda x: ops.tile(x, (1, 2, 3)), (4, 2)),
    "split": (lambda x: ops.split(x, 2, axis=1)[1], (4,)),
    "split and join": (
        lambda x: ops.concatenate(ops.split(x, 2, axis=1)[::-1], axis=1),
        (4,),
    ),
    "take": (lambda x: ops.take(x, [0, 2, 2, 2, -1], axis=1), (4,)),
    "cast": (lambda x: 2 * ops.cast(x, "float32"), (4,)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_operations_against_their_matrix(name):
    function, shape = LINEAR[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, function(inputs))
    exact = np.linalg.norm(dense_matrix(model, shape), 2)
    report = lipschitz_bound(model)
    assert exact <= report.upper * (1 + 1e-6)
    assert report.lower <= report.upper
    # Parts that are joined again count side by side.
    slack = {"split and join": 1.415}.get(name, 1.001)
    if "conv" in name or name == "depthwise":
        slack = 1.3
    assert report.upper <= exact * slack


STEEPEST = {
    "log_softmax": (lambda x: ops.log_softmax(x), (4,), 2.0),
    "softmax of one": (lambda x: ops.softmax(x), (1,), 0.0),
    "max_pool": (lambda x: ops.max_pool(x, 2, 1), (4, 2), 2**0.5),
    "layer_normalization": (
        lambda x: ops.layer_normalization(x, epsilon=0.01),
        (4,),
        10.0,
    ),
    "layer_normalization, gamma": (
        lambda x: ops.layer_normalization(
            x, gamma=np.full(4, 2.0, "float32"), epsilon=0.01
        ),
        (4,),
        20.0,
    ),
    "celu": (lambda x: ops.celu(x, alpha=2.0), (4,), 1.0),
    "squareplus": (lambda x: ops.squareplus(x, b=0.0), (4,), 1.0),
}


@pytest.mark.parametrize("name", STEEPEST)
def test_other_operations_at_their_steepest(name):
    function, shape, expected = STEEPEST[name]
    inputs = keras.Input(shape)
    report = lipschitz_bound(keras.Model(inputs, function(inputs)))
    assert report.upper == pytest.approx(expected, rel=1e-5)
    assert report.lower <= report.upper
    if name in ("max_pool", "layer_normalization", "celu"):
        assert report.lower >= 0.9 * expected


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.celu(x, alpha=-1.0),
        lambda x: ops.soft_shrink(x, threshold=-1.0),
        lambda x: ops.squareplus(x, b=-1.0),
        lambda x: ops.matmul(MATRIX.T[:, :4], ops.transpose(x)),
        lambda x: ops.einsum("bi,bo->io", x, MATRIX[:, :1]),
        lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
    ],
)
def test_operations_without_a_bound(function):
    inputs = keras.Input(batch_shape=(4, 4))
    model = keras.Model(inputs, function(inputs))
    assert lipschitz_bound(model, lower=False).upper == math.inf


def test_an_operation_of_the_user_is_none_of_keras():
    """Whatever the class is called."""

    class Tanh(keras.Operation):
        def call(self, x):
            return 100 * x

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Tanh()(inputs))
    assert lipschitz_bound(model, lower=False).upper == math.inf


def test_layers_made_for_an_operation_leave_no_trace():
    """Names count on as before, and random numbers are the same."""
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, ops.conv(inputs, KERNEL))
    numbers = []
    for bounded in (False, True):
        keras.utils.set_random_seed(0)
        if bounded:
            lipschitz_bound(model, lower=False)
        layer = layers.Conv2D(2, 1)
        layer.build((None, 6, 6, 2))
        numbers.append(np.asarray(ops.convert_to_numpy(layer.kernel)))
    np.testing.assert_array_equal(*numbers)
    first = layers.Conv2D(1, 1).name
    lipschitz_bound(model, lower=False)
    second = layers.Conv2D(1, 1).name
    count = [int(name.rpartition("_")[2]) for name in (first, second)]
    assert count[1] == count[0] + 1
