"""The graph of a model as steps: which layer takes what and gives what."""

import dataclasses
import math

import keras
from keras import tree

from keras_sn.keras_access import is_graph
from keras_sn.keras_access import nodes
from keras_sn.linear_maps.wrapped import unwrap
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.rules.operations import operation_pieces
from keras_sn.lipschitz.rules.registry import Call
from keras_sn.lipschitz.rules.registry import pieces_of


@dataclasses.dataclass
class Step:
    """One use of a layer or operation.

    Attributes:
        name: Name of the layer, behind those of the models it is nested in.
        pieces: What it does: a list of pieces, or a `Merge`.
        inputs: Numbers of the values it takes, in order.
        outputs: Numbers of the values it gives.
    """

    name: str
    pieces: object
    inputs: list
    outputs: list


@dataclasses.dataclass
class Graph:
    """A model, nested ones unfolded.

    Attributes:
        inputs: Numbers of the values that are the model's inputs.
        steps: The steps, each behind those it depends on.
        outputs: Numbers of the values that are its outputs.
    """

    inputs: list
    steps: list
    outputs: list


def trace(model, constant_of, shape=None, overrides=None):
    """The graph of a built model or layer.

    Args:
        model: Functional or Sequential model, or any built layer.
        constant_of: Passed to the rules, see `Call`.
        shape: Shape of the input of a layer, where it does not know it.
        overrides: Weights that a wrapper around the model replaces.

    Returns:
        The `Graph`.

    Raises:
        ValueError: If the model is not built.
    """
    walk = _Walk(constant_of)
    layer, overrides = unwrap(model, overrides)
    if is_graph(layer):
        _check_built(layer)
        inputs = [walk.new_value() for _ in layer.inputs]
        outputs = walk.model(layer, inputs, overrides, "")
        return Graph(inputs, walk.steps, outputs)
    if not model.built:
        raise ValueError(
            f"Layer '{model.name}' is not built, so it has no weights yet. "
            "Call it on data or call `layer.build(input_shape)` first."
        )
    source, target = walk.new_value(), walk.new_value()
    shape = shape or _build_shape(model)
    call = Call(
        None if shape is None else [shape],
        {},
        overrides,
        constant_of,
    )
    step = Step(layer.name, pieces_of(layer, call), [source], [target])
    return Graph([source], [step], [target])


def _check_built(model):
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            f"Model '{model.name}' is not built, so its graph is not known. "
            "Start it with `keras.Input(shape)` or call it on data first."
        )


def _build_shape(layer):
    """The input shape a layer was built for, or `None`."""
    config = layer.get_build_config() or {}
    shape = config.get("input_shape")
    if shape and not isinstance(shape[0], (list, tuple, dict)):
        return tuple(shape)
    return None


class _Walk:
    """Numbers values and collects steps."""

    def __init__(self, constant_of):
        self.constant_of = constant_of
        self.steps = []
        self.count = 0

    def new_value(self):
        self.count += 1
        return self.count - 1

    def model(self, model, inputs, overrides, prefix):
        """Adds the steps of a model, returns the numbers of its outputs."""
        values = {
            id(tensor): value
            for tensor, value in zip(model.inputs, inputs, strict=True)
        }
        for node, operation in nodes(model):
            arguments = tree.flatten(
                (node.arguments.args, node.arguments.kwargs)
            )
            tensors = [a for a in arguments if isinstance(a, keras.KerasTensor)]
            taken = [values[id(tensor)] for tensor in tensors]
            given = self.step(
                node, operation, tensors, taken, overrides, prefix
            )
            for tensor, value in zip(node.outputs, given, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in model.outputs]

    def step(self, node, operation, tensors, taken, overrides, prefix):
        layer, overrides = unwrap(operation, overrides)
        name = prefix + layer.name
        if is_graph(layer) and len(layer.inputs) == len(taken):
            return self.model(layer, taken, overrides, f"{name}/")
        given = [self.new_value() for _ in node.outputs]
        call = Call(
            [tuple(tensor.shape) for tensor in tensors],
            node.arguments.kwargs,
            overrides,
            self.constant_of,
            tuple(node.outputs[0].shape) if node.outputs else None,
        )
        pieces = self.pieces(layer, node, call)
        self.steps.append(Step(name, pieces, taken, given))
        return given

    def pieces(self, layer, node, call):
        if not call.shapes:
            # A constant: it does not move with the inputs.
            return [Identity("constant")]
        if isinstance(layer, keras.layers.Layer):
            return pieces_of(layer, call)
        return operation_pieces(
            layer, node.arguments.args, node.arguments.kwargs, call
        )


def first_unbounded(graph):
    """`(name, reason)` of the first step without a finite constant."""
    for step in graph.steps:
        if isinstance(step.pieces, list):
            for piece in step.pieces:
                if math.isinf(piece.constant):
                    reason = piece.reason or "Its weights are not finite."
                    return step.name, reason
    return None
