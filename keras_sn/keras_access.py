"""Private names of Keras, and the walks over layers and graphs built on them.

Keras has no public way to do these. Everything private is in this file, and
tests/test_keras_access.py fails when Keras changes one of them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The direct sublayers of a layer, in the order of their creation."""
    # `layers` is an attribute of models alone.
    return list(layer._flatten_layers(include_self=False, recursive=False))


def all_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layer and all layers inside of it, each once, parents first."""
    found: dict[int, keras.layers.Layer] = {}
    pending = [layer]
    while pending:
        current = pending.pop(0)
        if id(current) not in found:
            found[id(current)] = current
            pending = sublayers(current) + pending
    return list(found.values())


def own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The weights of a layer that belong to none of its sublayers."""
    inherited = {
        id(v) for sublayer in sublayers(layer) for v in sublayer.weights
    }
    return [v for v in layer.weights if id(v) not in inherited]


def rematerialization(layer: keras.layers.Layer) -> Any:
    """The mode of the `keras.RematScope` a layer was created in, or `None`."""
    return layer._remat_mode


@contextlib.contextmanager
def without_rematerialization(layer: keras.layers.Layer) -> Iterator[None]:
    """Context in which a layer and its sublayers do not rematerialize."""
    modes = [(part, part._remat_mode) for part in all_layers(layer)]
    for part, _ in modes:
        part._remat_mode = None
    try:
        yield
    finally:
        for part, mode in modes:
            part._remat_mode = mode


def history(tensor: keras.KerasTensor) -> tuple[keras.Operation, Any]:
    """The operation that gave a symbolic tensor, and that use of it.

    Returns:
        `(operation, node)`; the node knows `arguments` and `outputs`.
    """
    # What Keras's own `Function` walks by.
    operation, node_index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[node_index]


def nodes(model: keras.Model) -> list[tuple[Any, keras.Operation]]:
    """The uses of operations between a model's inputs and outputs.

    Returns:
        List of `(node, operation)`, each behind those it depends on.
    """
    known = {id(tensor) for tensor in model.inputs}
    ordered = []
    pending = [(tensor, False) for tensor in reversed(model.outputs)]
    # Depth first with an explicit stack: graphs can be deeper than Python's.
    while pending:
        tensor, ready = pending.pop()
        if id(tensor) in known:
            continue
        operation, node = history(tensor)
        if ready:
            known.update(id(output) for output in node.outputs)
            ordered.append((node, operation))
            continue
        pending.append((tensor, True))
        pending.extend((t, False) for t in node.arguments.keras_tensors)
    return ordered


def functional_call() -> Any:
    """The `call` of a Functional model, which runs the model's graph."""
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor)).call


def is_graph(layer: Any) -> bool:
    """Whether a layer is a model that runs the graph it shows.

    A subclass with a `call` of its own may do anything.
    """
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call
    return isinstance(layer, keras.Function) and (
        not isinstance(layer, keras.Model)
        or type(layer).call is functional_call()
    )
