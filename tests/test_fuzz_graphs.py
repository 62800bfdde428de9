"""Fuzzer: random graphs are never steeper than their bound."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from tests.slopes import measured_slope
from tests.thoroughness import fuzzing

GRAPHS = fuzzing(sample=24)
BATCHES = 4
WIDTH = 4


class RandomGraph:
    """A Functional model drawn from a seed.

    Several inputs and outputs, layers used twice, models inside of models,
    operations on symbolic tensors. All values have few features, so that a
    random step comes close to the steepest one.

    Args:
        seed: What it is drawn from, printed by a failing test.
        depth: How deep models may be nested in it.
    """

    def __init__(self, seed, depth=1):
        self.rng = np.random.default_rng(seed)
        self.depth = depth
        self.described = []
        self.shared = {}
        inputs = [keras.Input((WIDTH,)) for _ in range(self.rng.integers(1, 4))]
        values = list(inputs)
        for _ in range(self.rng.integers(2, 9)):
            values.append(self.step(values))
        last = values[len(inputs) :]
        count = min(int(self.rng.integers(1, 4)), len(last))
        if len(inputs) == 1:
            (inputs,) = inputs
        self.model = keras.Model(inputs, last[-count:])
        self.randomize()
        self.name = f"seed {seed}: {', '.join(self.described)}"

    def step(self, values):
        """A new value out of some of those there are."""
        name = str(self.rng.choice([*UNARY, *BINARY]))
        self.described.append(name)
        # The newest is the likeliest, so that graphs get deep too.
        first = values[-1] if self.rng.random() < 0.6 else self.any(values)
        if name in UNARY:
            return UNARY[name](self, first)
        return BINARY[name](first, self.any(values))

    def any(self, values):
        return values[self.rng.integers(len(values))]

    def layer(self, kind, make):
        """A new layer of a kind, or one that was used before."""
        known = self.shared.setdefault(kind, [])
        if not known or self.rng.random() < 0.6:
            known.append(make())
        return known[self.rng.integers(len(known))]

    def dense(self, value):
        return self.layer("dense", lambda: layers.Dense(WIDTH))(value)

    def activation(self, value):
        name = self.rng.choice(["relu", "tanh", "gelu", "sigmoid", "softmax"])
        return layers.Activation(str(name))(value)

    def normalized(self, value):
        return self.layer(
            "normalized",
            lambda: SpectralNormalization(layers.Dense(WIDTH, "tanh")),
        )(value)

    def batch_normalization(self, value):
        return self.layer("batch", layers.BatchNormalization)(value)

    def nested(self, value):
        if self.depth == 0:
            return self.dense(value)
        inner = RandomGraph(int(self.rng.integers(2**31)), self.depth - 1)
        self.described.append(f"({inner.name})")
        model = inner.model
        count = len(model.inputs)
        results = model(value if count == 1 else [value] * count)
        return keras.tree.flatten(results)[0]

    def sequential(self, value):
        return self.layer(
            "sequential",
            lambda: keras.Sequential(
                [layers.Dense(3, "relu"), layers.Dropout(0.5), layers.Dense(4)]
            ),
        )(value)

    def convolution(self, value):
        value = layers.Reshape((WIDTH, 1))(value)
        value = layers.Conv1D(2, 2, padding="same")(value)
        value = layers.MaxPooling1D(2)(value)
        return layers.Flatten()(value)

    def randomize(self):
        for variable in self.model.weights:
            values = self.rng.standard_normal(variable.shape)
            if "variance" in variable.name:
                values = self.rng.uniform(0.1, 2.0, variable.shape)
            if variable.name != "vector_u" and variable.dtype == "float32":
                variable.assign(values.astype("float32"))
        for part in self.model.layers:
            if isinstance(part, SpectralNormalization):
                part.refresh()


UNARY = {
    "dense": RandomGraph.dense,
    "activation": RandomGraph.activation,
    "normalized": RandomGraph.normalized,
    "batch_normalization": RandomGraph.batch_normalization,
    "nested": RandomGraph.nested,
    "sequential": RandomGraph.sequential,
    "convolution": RandomGraph.convolution,
    "negative": lambda graph, x: -x,
    "scaled": lambda graph, x: 2.5 * x,
    "shifted": lambda graph, x: x + 3.0,
    "half": lambda graph, x: x / 2,
    "abs": lambda graph, x: ops.abs(x),
    "relu": lambda graph, x: ops.relu(x),
    "reversed": lambda graph, x: ops.flip(x, axis=-1),
    "part": lambda graph, x: ops.concatenate([x[:, :2], x[:, 1:3]], axis=-1),
    "centred": lambda graph, x: x - ops.mean(x, axis=-1, keepdims=True),
    "total": lambda graph, x: x + ops.sum(x, axis=-1, keepdims=True),
    "repeated": lambda graph, x: ops.repeat(x[:, :2], 2, axis=-1),
    "swapped": lambda graph, x: ops.reshape(
        ops.transpose(ops.reshape(x, (-1, 2, 2)), (0, 2, 1)), (-1, WIDTH)
    ),
    "clipped": lambda graph, x: ops.clip(x, -1.0, 1.0),
}
BINARY = {
    "add": lambda x, y: layers.Add()([x, y]),
    "plus": lambda x, y: x + y,
    "minus": lambda x, y: x - y,
    "subtract": lambda x, y: layers.Subtract()([x, y]),
    "average": lambda x, y: layers.Average()([x, y]),
    "maximum": lambda x, y: layers.Maximum()([x, y]),
    "minimum": lambda x, y: ops.minimum(x, y),
    "concatenate": lambda x, y: layers.Dense(WIDTH)(
        layers.Concatenate()([x, y])
    ),
    "times": lambda x, y: x * y,
}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_graph_is_steeper_than_its_bound(batch):
    seeds = range(batch, GRAPHS, BATCHES)
    print(f"seeds {list(seeds)}")
    finite = 0
    for seed in seeds:
        finite += check(RandomGraph(seed))
    assert finite >= len(seeds) // 3


def check(graph):
    report = lipschitz_bound(graph.model, lower=False, time_limit=1.0)
    if math.isinf(report.upper):
        assert report.unbounded, graph.name
        return False
    shapes = [x.shape[1:] for x in graph.model.inputs]
    slope = measured_slope(graph.model, shapes, graph.rng)
    assert slope <= report.upper, f"{graph.name}: {slope} > {report.upper}"
    return True
