"""What JAX makes of a model with wrappers: work, compilations, devices."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.norms import tracking
from tests.models.processes import OPTIMIZED
from tests.models.processes import run_code
from tests.truth import to_numpy

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="JAX only"
)


def stack(wrap, width, *units):
    return keras.Sequential(
        [keras.Input((width,)), *(wrap(layers.Dense(n)) for n in units)]
    )


def values(model):
    return (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )


_KINDS = {
    "dense": (lambda: layers.Dense(3), 6),
    "large dense": (lambda: layers.Dense(520), 520),
    "einsum": (lambda: layers.EinsumDense("ab,bc->ac", (3,)), 6),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", _KINDS)
def test_the_state_stays_unbatched_under_vmap(kind, training):
    """`out_axes=None` raises for a state that depends on the example."""
    layer, width = _KINDS[kind]
    wrapper = SpectralNormalization(layer())
    model = keras.Sequential([keras.Input((width,)), wrapper])
    batch = np.random.default_rng(0).standard_normal((8, width))
    batch = batch.astype("float32")
    trained, others = values(model)

    def one(row):
        return model.stateless_call(
            trained, others, row[None], training=training
        )

    outputs, state = jax.vmap(one, out_axes=(0, None))(batch)
    together, expected = model.stateless_call(
        trained, others, batch, training=training
    )
    np.testing.assert_allclose(outputs[:, 0], together, atol=1e-5)
    for found, value in zip(state, expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-5)


@pytest.mark.parametrize("widths", [(6, 4, 2), (520, 520, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_per_sample(training, widths):
    model = stack(SpectralNormalization, *widths)
    batch = np.random.default_rng(0).standard_normal((5, widths[0]))
    batch = batch.astype("float32")
    trained, others = values(model)

    def loss(weights, row):
        outputs, _ = model.stateless_call(
            weights, others, row[None], training=training
        )
        return (outputs**2).sum()

    gradient = jax.jit(jax.grad(loss))
    found = jax.vmap(gradient, in_axes=(None, 0))(trained, batch)
    for index, row in enumerate(batch):
        for each, alone in zip(found, gradient(trained, row), strict=True):
            np.testing.assert_allclose(each[index], alone, atol=1e-5)


def test_eager_calls_compile_nothing_anew():
    compiled = []
    model = stack(SpectralNormalization, 6, 8, 2)
    inputs = np.ones((1, 6), "float32")
    for _ in range(3):
        model(inputs)

    def listener(name, *_, **__):
        if "backend_compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    for _ in range(10):
        model(inputs)
    assert not compiled


# A small weight is multiplied with 16 rows at once, a large one with one.
@pytest.mark.parametrize(("size", "rows"), [(128, 16), (520, 1)])
def test_inference_multiplies_once_with_each_weight(monkeypatch, size, rows):
    """XLA also counts the branch not taken, so it is taken out here."""

    def operations(model):
        trained, others = values(model)
        run = jax.jit(
            lambda a, b, x: model.stateless_call(a, b, x, training=False)[0]
        )
        example = np.ones((1, size), "float32")
        lowered = run.lower(trained, others, example)
        return lowered.compile().cost_analysis()["flops"]

    plain = operations(stack(lambda layer: layer, size, size, size))
    monkeypatch.setattr(tracking, "traces_branches", lambda: False)
    wrapped = operations(stack(SpectralNormalization, size, size, size))
    product = 2 * 2 * size * size
    # The Gram matrix of several rows, and its squarings.
    small = 2 * (2 * rows**2 * size + 11 * 2 * rows**3) if rows > 1 else 0
    assert plain == pytest.approx(product, rel=0.02)
    assert wrapped - plain == pytest.approx(rows * product + small, rel=0.1)


_COLLECTIVES = """
import collections, json, re
import jax, keras, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from keras import layers
from keras_sn.layers import SpectralNormalization

mesh = Mesh(np.array(jax.devices()), ("d",))
found = {}

def put(array, *axes):
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))

for name in ("plain", "wrapped"):
    wrap = SpectralNormalization if name == "wrapped" else lambda layer: layer
    model = keras.Sequential([
        keras.Input((8, 8, 3)),
        wrap(layers.Conv2D(4, 3)),
        layers.Flatten(),
        wrap(layers.Dense(64)),
        wrap(layers.Dense(8)),
    ])
    trained = [put(v.value) for v in model.trainable_variables]
    others = [put(v.value) for v in model.non_trainable_variables]

    def loss(trained, others, inputs):
        outputs, _ = model.stateless_call(
            trained, others, inputs, training=True)
        return (outputs ** 2).mean()

    def infer(trained, others, inputs):
        return model.stateless_call(
            trained, others, inputs, training=False)[0]

    inputs = put(np.ones((64, 8, 8, 3), "float32"), "d")
    for step in (jax.value_and_grad(loss), infer):
        text = jax.jit(step).lower(trained, others, inputs).compile().as_text()
        pattern = (" (all-reduce|all-to-all|all-gather|collective-permute)"
                   r"(?:-start)?\\(")
        counts = collections.Counter(re.findall(pattern, text))
        found.setdefault(name, []).append(counts)
print(json.dumps([len(jax.devices()), found]))
"""


def test_a_sharded_batch_takes_no_more_collectives():
    process = run_code(
        _COLLECTIVES,
        "jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        **OPTIMIZED,
    )
    assert process.returncode == 0, process.stderr
    devices, counts = json.loads(process.stdout.splitlines()[-1])
    assert devices == 4
    train, inference = counts["plain"]
    assert train["all-reduce"] >= 1
    assert not inference
    assert counts["wrapped"] == counts["plain"]


def test_a_layer_that_reads_the_weights_of_another():
    """Tied weights: in `fit` they are passed in, and no leaves of a trace."""
    embedding = layers.Embedding(7, 4)

    class Logits(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(
                shape=(input_shape[-1], 4), name="kernel"
            )

        def call(self, inputs):
            hidden = keras.ops.matmul(inputs, self.kernel)
            table = keras.ops.transpose(embedding.embeddings)
            return keras.ops.matmul(hidden, table)

    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            embedding,
            SpectralNormalization(Logits()),
        ]
    )
    model.compile("sgd", "mse")
    ids = np.arange(12).reshape(4, 3) % 7
    before = to_numpy(model.layers[1].layer.kernel)
    model.fit(ids, np.ones((4, 3, 7), "float32"), verbose=0)
    assert np.abs(to_numpy(model.layers[1].layer.kernel) - before).max() > 0
