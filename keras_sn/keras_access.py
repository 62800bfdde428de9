"""Private names of Keras, and the walks over layers and graphs built on them.

Keras has no public way to do these. Everything private is in this file, and
tests/test_keras_access.py fails when Keras changes one of them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src import backend


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


@contextlib.contextmanager
def recorded_outputs(
    layers: list[keras.layers.Layer],
) -> Iterator[dict[keras.layers.Layer, list]]:
    """Context in which the outputs of layers are kept, call by call.

    Yields:
        Dict `{layer: list of outputs}`.
    """
    outputs: dict[keras.layers.Layer, list] = {layer: [] for layer in layers}

    def recording(layer: keras.layers.Layer) -> Any:
        call = layer.call

        def recorded(*args: Any, **kwargs: Any) -> Any:
            outputs[layer].append(call(*args, **kwargs))
            return outputs[layer][-1]

        return recorded

    # `__call__` looks it up in the object.
    for layer in outputs:
        layer.call = recording(layer)
    try:
        yield outputs
    finally:
        for layer in outputs:
            del layer.call


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
    kind = type(layer)
    if isinstance(layer, keras.Model) and kind.__call__ is not (
        keras.Model.__call__
    ):
        return False
    if isinstance(layer, keras.Sequential):
        return kind.call is keras.Sequential.call
    return isinstance(layer, keras.Function) and (
        not isinstance(layer, keras.Model) or kind.call is functional_call()
    )


def inputs_in_order(model: keras.Model, structure: Any) -> list:
    """What a model is called with, in the order of `model.inputs`.

    Args:
        model: A Functional or Sequential model.
        structure: Tensors or arrays: one, a list, or a dict. A model that was
            made of a list takes a dict by the names of its inputs.

    Raises:
        KeyError: If an input is not named.
    """
    wanted = model.inputs
    if isinstance(structure, dict) and not isinstance(model, keras.Sequential):
        # The structure it was made of; the base class knows no `input`.
        wanted = model.input
        if isinstance(wanted, keras.KerasTensor):
            wanted = [wanted]
    if isinstance(structure, dict) and not isinstance(wanted, dict):
        return [structure[tensor.name] for tensor in wanted]
    return keras.tree.flatten(structure)


def carries_mask(tensor: keras.KerasTensor) -> bool:
    """Whether a symbolic tensor hands a mask on to the next layer."""
    return getattr(tensor, "_keras_mask", None) is not None


def is_keras_own(operation: keras.Operation) -> bool:
    """Whether an operation is one of `keras.ops`, not one of the user's."""
    return type(operation).__module__.startswith("keras.src.")


def applied_weights(
    layer: keras.layers.Layer,
) -> contextlib.AbstractContextManager:
    """Context in which variables read as the layer applies them.

    A layer with mixed precision rounds its weights to its compute dtype,
    those of its variables that take part in that.
    """
    narrow = layer.compute_dtype != layer.variable_dtype
    if not narrow or "float" not in layer.compute_dtype:
        return contextlib.nullcontext()
    return backend.AutocastScope(layer.compute_dtype)
