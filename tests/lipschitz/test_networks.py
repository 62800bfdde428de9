"""Whole networks: exact cases, architectures, graphs, reports."""

import io
import json
import math
import time

import architectures
import keras
import networks
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.keras_access import history
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz.tracing import trace
from tests.thoroughness import EVERYTHING
from tests.thoroughness import left_out

on_one_backend = left_out(
    "jax", "tensorflow", reason="a residual network has all of its layers"
)
METHODS = ("product", "folded", "rescaled", "closed_form", "refined")


def numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def upper(model, method="auto"):
    return lipschitz_bound(model, method, lower=False).upper


def test_a_linear_network_is_exact():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(7),
            layers.BatchNormalization(),
            layers.Dense(4),
            layers.Dropout(0.5),
            layers.Dense(3),
        ]
    )
    networks.randomize(model, np.random.default_rng(0))
    outputs = numpy(model(np.eye(5, dtype="float32")))
    outputs -= numpy(model(np.zeros((1, 5), "float32")))
    exact = np.linalg.norm(outputs, 2)
    report = lipschitz_bound(model, "folded")
    assert report.upper == pytest.approx(exact, rel=1e-5)
    assert report.lower == pytest.approx(exact, rel=1e-4)
    assert report.lower <= report.upper < upper(model, "product")


@pytest.mark.parametrize("method", ["rescaled", "closed_form", "refined"])
def test_nonnegative_weights_are_exact(method):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu"),
            layers.Dense(5, "leaky_relu"),
            layers.Dense(3),
        ]
    )
    networks.randomize(model, np.random.default_rng(0))
    model.set_weights([np.abs(w) for w in model.get_weights()])
    kernels = [numpy(layer.kernel) for layer in model.layers]
    exact = np.linalg.norm(kernels[0] @ kernels[1] @ kernels[2], 2)
    assert exact <= upper(model, method) <= exact * (1 + 1e-6)
    # Inputs far inside of the orthant where every unit is on.
    report = lipschitz_bound(
        model, method, data=np.full((4, 4), 50.0, "float32")
    )
    assert report.lower == pytest.approx(exact, rel=1e-3)


def test_methods_fall_in_order():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, "gelu"),
            layers.BatchNormalization(),
            layers.Dense(12, "relu"),
            layers.Dense(8, "silu"),
            layers.Dense(3),
        ]
    )
    networks.randomize(model, np.random.default_rng(1))
    bounds = [upper(model, method) for method in METHODS]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 0.9 * bounds[0]
    assert upper(model) == pytest.approx(bounds[-1], rel=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: architectures.resnet18(4),
        pytest.param(lambda: architectures.vgg(4), marks=on_one_backend),
        pytest.param(lambda: architectures.unet(4), marks=on_one_backend),
    ],
    ids=["resnet18", "vgg", "unet"],
)
def test_convolutional_architectures(build):
    model = networks.randomize(build(), np.random.default_rng(0))
    product = upper(model, "product")
    folded = upper(model, "folded")
    rescaled = upper(model, "rescaled")
    assert rescaled < folded < product < math.inf


@pytest.mark.skipif(
    not EVERYTHING, reason="takes minutes: run `make test-thorough`"
)
@pytest.mark.parametrize("method", ["product", "folded", "rescaled", "auto"])
def test_resnet18_in_full_width_takes_less_than_a_minute(method):
    model = networks.randomize(
        architectures.resnet18(), np.random.default_rng(0)
    )
    start = time.process_time()
    assert upper(model, method) < math.inf
    assert time.process_time() - start < 60


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("LSTM", "SimpleRNN"),
        ("GRU", "SimpleRNN"),
        ("MultiHeadAttention", "L2 attention"),
        ("Attention", "L2 attention"),
    ],
)
def test_unbounded_layers_say_so(name, way_out):
    inputs = keras.Input((5, 4))
    if name == "MultiHeadAttention":
        x = layers.MultiHeadAttention(2, 2, name="culprit")(inputs, inputs)
    elif name == "Attention":
        x = layers.Attention(name="culprit")([inputs, inputs])
    else:
        x = getattr(layers, name)(3, name="culprit")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    report = lipschitz_bound(model, lower=False)
    assert report.upper == math.inf
    (row,) = report.unbounded
    assert "culprit" in row.name
    assert way_out in row.reason
    assert row.reason in str(report)


def test_residual_blocks_add_and_shared_layers_count_twice():
    inputs = keras.Input((3,))
    shared = layers.Dense(3, name="shared")
    x = layers.Add()([inputs, shared(shared(inputs))])
    model = keras.Model(inputs, x)
    shared.set_weights([2 * np.eye(3, dtype="float32"), np.zeros(3)])
    assert upper(model) == pytest.approx(5, rel=1e-6)
    assert lipschitz_bound(model).lower == pytest.approx(5, rel=1e-4)


def test_the_same_tensor_twice():
    inputs = keras.Input((3,))
    double = keras.Model(inputs, layers.Add()([inputs, inputs]))
    beside = keras.Model(inputs, layers.Concatenate()([inputs, inputs]))
    assert upper(double) == pytest.approx(2)
    assert upper(beside) == pytest.approx(math.sqrt(2))


def test_several_inputs_and_outputs_count_side_by_side():
    a, b = keras.Input((3,)), keras.Input((3,))
    assert upper(keras.Model([a, b], layers.Add()([a, b]))) == pytest.approx(
        math.sqrt(2)
    )
    beside = keras.Model([a, b], layers.Concatenate()([a, b]))
    assert upper(beside) == pytest.approx(1)
    assert upper(keras.Model(a, [a * 1.0, a * 1.0])) == pytest.approx(
        math.sqrt(2)
    )
    report = lipschitz_bound(beside)
    assert report.lower == pytest.approx(1, rel=1e-4)


def test_broadcasting_repeats():
    a, b = keras.Input((4, 1)), keras.Input((4, 9))
    model = keras.Model([a, b], layers.Add()([a, b]))
    report = lipschitz_bound(model)
    assert report.lower <= report.upper
    assert report.upper == pytest.approx(math.sqrt(10), rel=1e-6)
    assert report.lower == pytest.approx(report.upper, rel=1e-3)


def test_nested_models_are_walked():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(4)]
    )
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(inner(inputs)))
    networks.randomize(model, np.random.default_rng(0))
    assert upper(model) <= upper(inner) ** 2
    report = lipschitz_bound(model, "product", lower=False)
    assert report.upper == pytest.approx(upper(inner, "product") ** 2)
    assert all(row.name.startswith(inner.name) for row in report.layers)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: ops.relu(x) * 2.0, 2),
        (lambda x: -x + 1.0, 1),
        (lambda x: x / 4.0, 0.25),
        (lambda x: ops.reshape(x, (-1, 2, 3)), 1),
        (lambda x: ops.concatenate([x, ops.sin(x)], axis=-1), math.sqrt(2)),
        (lambda x: ops.mean(x, axis=-1), 1 / math.sqrt(6)),
        (lambda x: ops.sum(x, axis=-1), math.sqrt(6)),
        (lambda x: ops.max(x, axis=-1), 1),
        (lambda x: ops.maximum(x, 0.5), 1),
        (lambda x: x[:, 1:3], 1),
        (lambda x: ops.clip(x, -1, 1), 1),
        (lambda x: ops.softmax(x), 0.5),
        (lambda x: ops.abs(x - 0.5), 1),
        (lambda x: ops.leaky_relu(x, 3.0), 3),
        (lambda x: keras.activations.relu(x, max_value=1.0), 1),
        (lambda x: x * x, math.inf),
        (lambda x: ops.exp(x), math.inf),
        (lambda x: 1.0 / x, math.inf),
        (lambda x: ops.matmul(x, ops.transpose(x)), math.inf),
        (lambda x: ops.sum(x, axis=0), math.inf),
    ],
)
def test_operations_in_the_graph(function, expected):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, function(inputs))
    report = lipschitz_bound(model, lower=expected < math.inf)
    assert report.upper == pytest.approx(expected, rel=1e-5)
    assert report.lower <= report.upper
    if math.isinf(expected):
        assert report.unbounded[0].reason


def test_the_history_of_tensors_is_where_keras_keeps_it():
    """Fails if Keras moves what `graph.history` reads."""
    inputs = keras.Input((3,), name="start")
    layer = layers.Dense(2)
    first, second = layer(inputs), layer(inputs)
    for tensor in (first, second):
        operation, node = history(tensor)
        assert operation is layer
        assert node.outputs[0] is tensor
        assert node.arguments.keras_tensors == [inputs]
    assert len(trace(keras.Model(inputs, second), None).steps) == 1


def test_a_subclassed_model_is_refused_with_reason():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Mine()
    model(np.zeros((1, 3), "float32"))
    report = lipschitz_bound(model, lower=False)
    assert report.upper == math.inf
    assert "register_rule" in report.unbounded[0].reason


def test_errors():
    with pytest.raises(ValueError, match="not built"):
        lipschitz_bound(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match="not built"):
        lipschitz_bound(layers.Dense(3))
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="closed_form"):
        lipschitz_bound(model, "magic")


def test_a_single_layer_and_nan_weights():
    layer = layers.Dense(3)
    layer.build((None, 2))
    exact = np.linalg.norm(numpy(layer.kernel), 2)
    assert upper(layer) == pytest.approx(exact, rel=1e-6)
    layer.kernel.assign(np.full((2, 3), np.nan))
    assert upper(layer) == math.inf


def test_report_as_dict_text_table_and_plot():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)]
    )
    report = lipschitz_bound(model, "product")
    data = json.loads(json.dumps(report.to_dict()))
    assert data["upper"] == report.upper
    assert [row["name"] for row in data["layers"]] == [
        layer.name for layer in model.layers
    ]
    # Four units of three inputs need not be active together behind relu.
    guarantees = [row["guarantee"] for row in data["layers"]]
    assert guarantees == ["upper bound", "exact"]
    assert f"{report.upper:.6g}" in str(report)
    assert model.layers[1].name in str(report)
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=100, record=True, file=io.StringIO())
    console.print(report)
    assert model.layers[1].name in console.export_text()
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = report.plot()
    assert len(axes.patches) == 2


def test_progress_and_time_limit():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, "relu"),
            layers.Dense(8, "relu"),
            layers.Dense(3),
        ]
    )
    networks.randomize(model, np.random.default_rng(0))
    seen = []
    report = lipschitz_bound(
        model, "refined", lower=False, progress=lambda *a: seen.append(a)
    )
    assert seen
    assert report.upper <= seen[-1][2] * (1 + 1e-6)
    hurried = lipschitz_bound(model, "refined", lower=False, time_limit=0.0)
    assert report.upper <= hurried.upper <= upper(model, "product")


@pytest.mark.parametrize("method", ["product", "folded"])
def test_exact_is_said_only_where_it_is(method):
    """relu behind [1, -1] is never active in both units: the constant is 1."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2, "relu")])
    model.layers[0].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    report = lipschitz_bound(model, method)
    assert report.lower == pytest.approx(1, rel=1e-4)
    assert report.upper == pytest.approx(2**0.5)
    assert all(row.guarantee != "exact" for row in report.layers[:1])
    linear = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    (row,) = lipschitz_bound(linear, method).layers
    assert row.guarantee == "exact"


def test_the_time_limit_is_one():
    """What is found in time is a bound; the plain product is always found."""
    model = keras.Sequential(
        [keras.Input((700,)), layers.Dense(700, "relu"), layers.Dense(700)]
    )
    networks.randomize(model, np.random.default_rng(0))

    def timed(**kwargs):
        start = time.monotonic()
        found = lipschitz_bound(model, lower=False, **kwargs).upper
        return found, time.monotonic() - start

    timed(method="product")
    product, plain = timed(method="product")
    previous = product
    for limit in (0.1, 1.0):
        found, seconds = timed(time_limit=limit)
        assert found <= previous * (1 + 1e-9)
        # One more such step, for a machine that is busy.
        assert seconds <= 1.2 * limit + 2 * plain + 0.3
        previous = found
