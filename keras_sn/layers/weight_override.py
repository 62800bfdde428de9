"""Calling a layer with other values in place of some of its weights."""

import keras
from keras import tree

from keras_sn.keras_access import all_layers
from keras_sn.keras_access import rematerialization
from keras_sn.keras_access import without_rematerialization


def call_with_weights(layer, replacements, add_loss, args, kwargs):
    """Calls a layer with some of its variables replaced by tensors.

    Everything else the call does is kept: updates of non-trainable
    variables (BatchNormalization statistics, seeds) and losses.

    Args:
        layer: A built layer.
        replacements: List of `(variable, tensor)`.
        add_loss: Function that takes the losses of an eager call.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The outputs of the layer; gradients reach the tensors.
    """
    variables = _all_variables(layer)
    replaced = {id(variable): tensor for variable, tensor in replacements}
    values = [replaced.get(id(v), v.value) for v in variables]
    call = _call_rematerialized if rematerializes(layer) else _call
    outputs, updates, losses = call(layer, variables, values, args, kwargs)
    for variable, old, new in zip(variables, values, updates, strict=True):
        if not variable.trainable and new is not old:
            variable.assign(new)
    for add, loss in losses:
        (add or add_loss)(loss)
    return outputs


def rematerializes(layer):
    """Whether the layer or a sublayer was created in a `keras.RematScope`."""
    return any(
        rematerialization(part) is not None for part in all_layers(layer)
    )


def _call(layer, variables, values, args, kwargs):
    """Returns outputs, values after the call, and `(adder, loss)` pairs."""
    outputs, updates, scope = _call_in_scope(
        layer, variables, values, args, kwargs
    )
    outer = scope.original_scope
    if outer is None:
        return outputs, updates, [(None, loss) for loss in scope.losses]
    # The layer that added a loss knows it by identity. Handed as it is to the
    # scope outside it is counted once; added by the wrapper as well, twice.
    losses = scope.losses if outer.collect_losses else []
    return outputs, updates, [(outer.add_loss, loss) for loss in losses]


def _call_in_scope(layer, variables, values, args, kwargs):
    # A scope hides the scope around it (the traced values of a JAX step), so
    # it must hold every variable of the layer, not just the replaced ones.
    mapping = list(zip(variables, values, strict=True))
    with keras.StatelessScope(mapping, collect_losses=True) as scope:
        # The scope converts what it is given: to tell an update from a
        # conversion, read the values back before the call.
        given = [scope.get_current_value(v) for v in variables]
        outputs = layer(*args, **kwargs)
    updates = [
        value if (new := scope.get_current_value(v)) is held else new
        for v, value, held in zip(variables, values, given, strict=True)
    ]
    return outputs, updates, scope


def _call_rematerialized(layer, variables, values, args, kwargs):
    """`_call` under `keras.remat`, as a pure function of its tensors.

    The rematerialized call of a layer runs again during the backward pass,
    when the scope is long gone and the raw weights are back. So the scope
    goes inside the rematerialized function, and the layers within it do not
    rematerialize once more.
    """
    flat = tree.flatten((args, kwargs))
    tensors = [x for x in flat if keras.ops.is_tensor(x)]
    structure = []

    def pure(*flat_tensors):
        mapped = flat_tensors[: len(values)]
        rest = iter(flat_tensors[len(values) :])
        filled = [next(rest) if keras.ops.is_tensor(x) else x for x in flat]
        new_args, new_kwargs = tree.pack_sequence_as((args, kwargs), filled)
        with without_rematerialization(layer):
            outputs, updates, scope = _call_in_scope(
                layer, variables, mapped, new_args, new_kwargs
            )
        results = (outputs, updates, scope.losses)
        structure[:] = [results]
        return tuple(tree.flatten(results))

    # Updates are assigned in place; the backward pass needs the old values.
    held = [
        value if variable.trainable else keras.ops.copy(value)
        for variable, value in zip(variables, values, strict=True)
    ]
    flat_results = keras.remat(pure)(*held, *tensors)
    outputs, updates, losses = tree.pack_sequence_as(
        structure[0], list(flat_results)
    )
    return outputs, updates, [(None, loss) for loss in losses]


def _all_variables(layer):
    unique = {id(v): v for v in (*layer.variables, *layer.metrics_variables)}
    return list(unique.values())
