"""trace: the graph of a built model or layer, nested models unfolded."""

import contextlib
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from keras_sn.keras_access import carries_mask
from keras_sn.keras_access import inputs_in_order
from keras_sn.keras_access import is_graph
from keras_sn.keras_access import nodes
from keras_sn.linear_maps.wrapped import Overrides
from keras_sn.linear_maps.wrapped import unwrap
from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.merge import Shape
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.call import ConstantOf
from keras_sn.lipschitz.rules.operations import operation_pieces
from keras_sn.lipschitz.rules.registry import Pieces
from keras_sn.lipschitz.rules.registry import pieces_of


def trace(
    model: keras.layers.Layer,
    constant_of: ConstantOf,
    shape: Shape | None = None,
    overrides: Overrides | None = None,
) -> Graph:
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
    shapes = build_shapes(model) if shape is None else [shape]
    sources = [
        walk.new_value() for _ in range(1 if shapes is None else len(shapes))
    ]
    target = walk.new_value()
    call = Call(shapes, {}, overrides, constant_of)
    if shapes is not None and len(shapes) > 1:
        with contextlib.suppress(Exception):
            # It broadcasts what it merges to this.
            call.output_shape = layer.compute_output_shape(shapes)

    def run(tensors: list) -> list:
        given = tensors[0] if len(tensors) == 1 else tensors
        return tree.flatten(model(given, training=False))

    pieces = pieces_of(layer, call)
    step = Step(layer.name, pieces, sources, [target], layer, run, shapes)
    return Graph(sources, [step], [target])


def _check_built(model: keras.Model) -> None:
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            f"Model '{model.name}' is not built, so its graph is not known. "
            "Start it with `keras.Input(shape)` or call it on data first."
        )


def build_shapes(layer: keras.layers.Layer) -> list[Shape] | None:
    """The input shapes a layer was built for, or `None`."""
    shape = (layer.get_build_config() or {}).get("input_shape")
    if not shape or isinstance(shape, dict):
        return None
    if all(isinstance(part, (list, tuple)) for part in shape):
        return [tuple(part) for part in shape]
    if any(isinstance(part, (list, tuple, dict)) for part in shape):
        return None
    return [tuple(shape)]


class _Walk:
    """Numbers values and collects steps."""

    def __init__(self, constant_of: ConstantOf):
        self.constant_of = constant_of
        self.steps: list[Step] = []
        self.count = 0

    def new_value(self) -> int:
        self.count += 1
        return self.count - 1

    def model(
        self,
        model: keras.Model,
        inputs: list[int],
        overrides: Overrides,
        prefix: str,
    ) -> list[int]:
        """Adds the steps of a model, returns the numbers of its outputs."""
        values = {
            id(tensor): value
            for tensor, value in zip(model.inputs, inputs, strict=True)
        }
        for node, operation in nodes(model):
            given = self.step(node, operation, values, overrides, prefix)
            for tensor, value in zip(node.outputs, given, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in model.outputs]

    def step(
        self,
        node: Any,
        operation: keras.Operation,
        values: dict[int, int],
        overrides: Overrides,
        prefix: str,
    ) -> list[int]:
        """Adds one use of an operation, returns the numbers of its outputs."""
        layer, replaced = unwrap(operation, overrides)
        name = prefix + layer.name
        arguments = _named_arguments(layer, node)
        if is_graph(layer):
            taken = _in_order(layer, node, arguments)
            if taken is not None:
                numbers = [values[id(tensor)] for tensor in taken]
                return self.model(layer, numbers, replaced, f"{name}/")
        tensors = _tensors(node)
        call = Call(
            [tuple(tensor.shape) for tensor in tensors],
            arguments,
            replaced,
            self.constant_of,
            tuple(node.outputs[0].shape) if node.outputs else None,
        )
        taken = [values[id(tensor)] for tensor in tensors]
        given = [self.new_value() for _ in node.outputs]
        pieces = _pieces(layer, node, call)
        run = _runner(operation, node, overrides)
        self.steps.append(
            Step(name, pieces, taken, given, layer, run, call.shapes)
        )
        return given


def _tensors(node: Any) -> list[keras.KerasTensor]:
    """The tensors that a use of an operation takes, wherever they stand."""
    flat = tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [x for x in flat if isinstance(x, keras.KerasTensor)]


def _named_arguments(layer: Any, node: Any) -> dict[str, Any]:
    """The arguments of the call by name, but the first."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    if not isinstance(layer, keras.layers.Layer):
        return dict(kwargs)
    named = {f"argument {i + 1}": arg for i, arg in enumerate(args) if i > 0}
    parameters = list(inspect.signature(layer.call).parameters)
    named.update(kwargs)
    if not args and parameters:
        named.pop(parameters[0], None)
    takes_mask = "mask" in parameters
    if takes_mask and any(carries_mask(tensor) for tensor in _tensors(node)):
        # What a layer before hands on without an argument in the graph.
        named["mask"] = "handed on by the layer before"
    return named


def _in_order(
    model: keras.Model, node: Any, arguments: dict[str, Any]
) -> list[keras.KerasTensor] | None:
    """What a nested model takes, in the order of its inputs.

    Returns:
        `None` if it is called with anything besides.
    """
    if any(
        part is not None and name != "training"
        for name, value in arguments.items()
        for part in tree.flatten(value)
    ):
        return None
    if arguments.get("training") is True or not node.arguments.args:
        return None
    try:
        found = inputs_in_order(model, node.arguments.args[0])
    except KeyError:
        return None
    symbolic = all(isinstance(x, keras.KerasTensor) for x in found)
    return found if symbolic and len(found) == len(model.inputs) else None


def _runner(
    operation: keras.Operation, node: Any, overrides: Overrides
) -> Callable[[list], list]:
    """The function that runs one use of an operation on tensors."""

    def run(tensors: list) -> list:
        following: Iterator = iter(tensors)
        args, kwargs = tree.map_structure(
            lambda x: (
                next(following) if isinstance(x, keras.KerasTensor) else x
            ),
            (node.arguments.args, node.arguments.kwargs),
        )
        if "training" in kwargs:
            kwargs["training"] = False
        with _replaced_weights(operation, overrides):
            return tree.flatten(operation(*args, **kwargs))

    return run


def _replaced_weights(
    operation: Any, overrides: Overrides
) -> contextlib.AbstractContextManager:
    """Context in which a layer has the weights of the wrapper around it."""
    variables = getattr(operation, "variables", [])
    mapping = [
        (variable, overrides.get(id(variable), variable.value))
        for variable in variables
    ]
    if not any(id(variable) in overrides for variable in variables):
        return contextlib.nullcontext()
    return keras.StatelessScope(mapping)


def _pieces(layer: Any, node: Any, call: Call) -> Pieces:
    if not call.shapes:
        # A constant: it does not move with the inputs.
        return [Identity("constant")]
    if is_graph(layer):
        return [
            unbounded(
                f"Model '{layer.name}' is called with more than its inputs, "
                "or with `training=True`.",
                "Call it on its inputs alone.",
            )
        ]
    if isinstance(layer, keras.layers.Layer):
        return pieces_of(layer, call)
    return operation_pieces(
        layer, node.arguments.args, node.arguments.kwargs, call
    )
