"""Calling a layer with other values in place of some of its weights."""

from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from keras_sn.keras_access import all_layers
from keras_sn.keras_access import rematerialization
from keras_sn.keras_access import without_rematerialization


class OverrideScope(keras.StatelessScope):
    """A scope in which some variables have other values.

    All other variables are read as without the scope, whoever they belong
    to. What the call assigns is collected, and handed on afterwards.

    Args:
        replacements: List of `(variable, tensor)`.

    Attributes:
        updates: Dict `{id(variable): (variable, value)}` of what was assigned.
    """

    def __init__(self, replacements: list) -> None:
        super().__init__(replacements, collect_losses=True)
        self.updates: dict[int, tuple[keras.Variable, Any]] = {}

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update: tuple) -> None:
        super().add_update(update)
        self.updates[id(update[0])] = update


def call_with_weights(
    layer: keras.layers.Layer,
    replacements: list,
    add_loss: Callable,
    args: tuple,
    kwargs: dict,
) -> Any:
    """Calls a layer with some of its variables replaced by tensors.

    Everything else the call does is kept: what it reads, updates of variables
    (BatchNormalization statistics, seeds, states of an RNN) and losses.

    Args:
        layer: A built layer.
        replacements: List of `(variable, tensor)`.
        add_loss: Function that takes the losses of an eager call.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The outputs of the layer; gradients reach the tensors.
    """
    call = _call_rematerialized if rematerializes(layer) else _call
    outputs, updates, losses = call(layer, replacements, args, kwargs)
    for variable, value in updates:
        variable.assign(value)
    for add, loss in losses:
        (add or add_loss)(loss)
    return outputs


def rematerializes(layer: keras.layers.Layer) -> bool:
    """Whether the layer or a sublayer was created in a `keras.RematScope`."""
    return any(
        rematerialization(part) is not None for part in all_layers(layer)
    )


def _call(layer, replacements, args, kwargs):
    """Returns outputs, `(variable, value)` pairs, and `(adder, loss)` pairs."""
    with OverrideScope(replacements) as scope:
        outputs = layer(*args, **kwargs)
    updates = list(scope.updates.values())
    outer = scope.original_scope
    if outer is None:
        return outputs, updates, [(None, loss) for loss in scope.losses]
    # The layer that added a loss knows it by identity. Handed as it is to the
    # scope outside it is counted once; added by the wrapper as well, twice.
    losses = scope.losses if outer.collect_losses else []
    return outputs, updates, [(outer.add_loss, loss) for loss in losses]


def _call_rematerialized(layer, replacements, args, kwargs):
    """`_call` under `keras.remat`, as a pure function of its tensors.

    The rematerialized call of a layer runs again during the backward pass,
    when the scope is long gone and the raw weights are back. So the scope
    goes inside the rematerialized function, and the layers within it do not
    rematerialize once more.
    """
    flat = tree.flatten((args, kwargs))
    tensors = [x for x in flat if keras.ops.is_tensor(x)]
    replaced = {id(variable): tensor for variable, tensor in replacements}
    variables = _all_variables(layer)
    structure: list = []

    def pure(*flat_tensors):
        mapped = flat_tensors[: len(variables)]
        rest = iter(flat_tensors[len(variables) :])
        filled = [next(rest) if keras.ops.is_tensor(x) else x for x in flat]
        new_args, new_kwargs = tree.pack_sequence_as((args, kwargs), filled)
        mapping = list(zip(variables, mapped, strict=True))
        with without_rematerialization(layer), OverrideScope(mapping) as scope:
            outputs = layer(*new_args, **new_kwargs)
        updated = [variable for variable, _ in scope.updates.values()]
        values = [value for _, value in scope.updates.values()]
        results = (outputs, values, scope.losses)
        structure[:] = [results, updated]
        return tuple(tree.flatten(results))

    # Updates are assigned in place; the backward pass needs the old values.
    held = [
        replaced[id(variable)]
        if id(variable) in replaced
        else variable.value
        if variable.trainable
        else keras.ops.copy(variable.value)
        for variable in variables
    ]
    flat_results = keras.remat(pure)(*held, *tensors)
    outputs, values, losses = tree.pack_sequence_as(
        structure[0], list(flat_results)
    )
    updates = list(zip(structure[1], values, strict=True))
    return outputs, updates, [(None, loss) for loss in losses]


def _all_variables(layer):
    unique = {id(v): v for v in (*layer.variables, *layer.metrics_variables)}
    return list(unique.values())
