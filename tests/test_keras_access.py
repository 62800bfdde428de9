"""Private names of Keras: each is there and means what keras_access expects.

One test per name. When Keras changes one, it fails here, by name, and not
somewhere in the middle of a walk.
"""

import ast
import inspect

import keras
import numpy as np
from keras import layers
from keras.src import backend

from keras_sn import keras_access
from tests.source import private_attributes

# The test of each private name that keras_access reads or calls.
GUARDS = {
    "_flatten_layers": "test_flatten_layers",
    "_remat_mode": "test_remat_mode",
    "_keras_history": "test_keras_history",
    "_inbound_nodes": "test_inbound_nodes",
    "_keras_mask": "test_keras_mask",
    "_get_variable_index": "test_variable_index",
    "keras.src.backend": "test_autocast_scope",
    "keras.src.": "test_operations_are_known_by_their_module",
}


def test_each_private_name_has_a_test():
    tree = ast.parse(inspect.getsource(keras_access))
    used = {attribute.attr for attribute in private_attributes(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "keras.src":
            used |= {f"keras.src.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom | ast.Constant):
            name = getattr(node, "module", None) or getattr(node, "value", "")
            if str(name).startswith("keras.src"):
                used.add(name)
    assert used <= set(GUARDS)
    assert all(callable(globals()[test]) for test in GUARDS.values())


def nested_model():
    inner = keras.Sequential([layers.Dense(2, name="a"), layers.ReLU(name="b")])
    return keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)])


def test_flatten_layers():
    model = nested_model()
    inner, last = model.layers
    direct = [*model._flatten_layers(include_self=False, recursive=False)]
    # The input layer is a sublayer too.
    assert [part for part in direct if part in model.layers] == [inner, last]
    assert not {id(part) for part in inner.layers} & {id(p) for p in direct}
    # A layer that is no model, and the order of creation.
    both = layers.Bidirectional(layers.SimpleRNN(2))
    both.build((None, 4, 3))
    found = [*both._flatten_layers(include_self=False, recursive=False)]
    assert found == [both.forward_layer, both.backward_layer]
    assert not [
        *layers.Dense(2)._flatten_layers(include_self=False, recursive=False)
    ]


def test_remat_mode():
    with keras.RematScope(mode="full"):
        inside = layers.Dense(2)
    assert inside._remat_mode.mode == "full"
    assert layers.Dense(2)._remat_mode is None
    # It is read at each call: without it nothing rematerializes.
    inside._remat_mode = None
    assert inside(np.ones((1, 3))).shape == (1, 2)


def test_keras_history():
    layer = layers.Dense(2)
    first, second = layer(keras.Input((3,))), layer(keras.Input((3,)))
    for use, tensor in enumerate((first, second)):
        operation, node_index, tensor_index = tensor._keras_history
        assert operation is layer
        assert (node_index, tensor_index) == (use, 0)
    outputs = keras.ops.split(keras.Input((4,)), 2, axis=-1)
    assert [tensor._keras_history[2] for tensor in outputs] == [0, 1]


def test_inbound_nodes():
    layer = layers.Add()
    inputs = [keras.Input((3,)), keras.Input((3,))]
    output = layer(inputs)
    (node,) = layer._inbound_nodes
    assert [*map(id, node.arguments.keras_tensors)] == [*map(id, inputs)]
    assert [*map(id, node.outputs)] == [id(output)]
    arguments = node.arguments.args, node.arguments.kwargs
    assert arguments == ((inputs,), {})


def test_keras_mask():
    tokens = keras.Input((4,), dtype="int32")
    masked = layers.Embedding(5, 2, mask_zero=True)(tokens)
    assert masked._keras_mask is not None
    plain = layers.Embedding(5, 2)(tokens)
    assert getattr(plain, "_keras_mask", None) is None


def test_variable_index():
    variables = [keras.Variable(np.zeros(2)) for _ in range(3)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    found = [keras_access.variable_index(optimizer, v) for v in variables]
    assert found == [0, 1, 2]


def test_autocast_scope():
    variable = keras.Variable([1 + 2.0**-12], dtype="float32")
    with backend.AutocastScope("float16"):
        assert variable.value.dtype == keras.ops.ones(1, "float16").dtype
    assert variable.value.dtype == keras.ops.ones(1, "float32").dtype


def test_operations_are_known_by_their_module():
    x = keras.Input((3,))
    for made in (x + 1, keras.ops.relu(x), keras.ops.concatenate([x, x])):
        operation = made._keras_history[0]
        assert type(operation).__module__.startswith("keras.src.")


def test_what_is_built_on_them():
    model = nested_model()
    inner, last = model.layers
    names = [layer.name for layer in keras_access.all_layers(model)]
    assert names.index(inner.name) < names.index("a") < names.index("b")
    assert names.index("b") < names.index(last.name)
    assert len(names) == len(set(names))
    assert keras_access.own_weights(model) == []
    assert keras_access.own_weights(last) == last.weights
    steps = [operation for _, operation in keras_access.nodes(model)]
    assert [step for step in steps if step in (inner, last)] == [inner, last]


def test_a_graph_is_what_runs_the_graph_it_shows():
    inputs = keras.Input((3,))
    outputs = layers.Dense(2)(inputs)

    class Doubled(keras.Model):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class DoubledSequential(keras.Sequential):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Relabelled(keras.Model):
        """A graph with another train step, say."""

    assert keras_access.is_graph(keras.Model(inputs, outputs))
    assert keras_access.is_graph(keras.Sequential([layers.Dense(2)]))
    assert keras_access.is_graph(keras.Function(inputs, outputs))
    assert keras_access.is_graph(Relabelled(inputs, outputs))
    assert not keras_access.is_graph(Doubled(inputs, outputs))
    assert not keras_access.is_graph(DoubledSequential([layers.Dense(2)]))
    assert not keras_access.is_graph(layers.Dense(2))


def test_rematerialization_is_off_inside_the_context_only():
    with keras.RematScope(mode="full"):
        inner = layers.Dense(2)
    model = keras.Sequential([inner])
    mode = keras_access.rematerialization(inner)
    with keras_access.without_rematerialization(model):
        assert keras_access.rematerialization(inner) is None
    assert keras_access.rematerialization(inner) == mode
