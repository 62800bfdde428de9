"""The layer inside of a normalizing wrapper, and the weights it applies.

A wrapper that says `normalizes_itself` calls its `layer` with other weights
than the layer has; `normalized_values()` gives them.
"""

from typing import Any

import keras

from keras_sn.keras_access import applied_weights
from keras_sn.linear_maps.subclasses import overridden_in_class
from keras_sn.linear_maps.weights import Weight

# Tensors in place of variables, by the identity of the variable. (Paths are
# no keys: two variables may have the same.)
Overrides = dict[int, Any]


def is_normalizing(layer: object) -> bool:
    """Whether a layer is such a wrapper."""
    return bool(getattr(layer, "normalizes_itself", False))


def unwrap(
    layer: Any, overrides: Overrides | None = None
) -> tuple[keras.layers.Layer, Overrides]:
    """The layer inside of normalizing wrappers, and the weights they replace.

    Args:
        layer: Any layer. A wrapper stays closed that is not built, or that
            belongs to a subclass which may compute something else.
        overrides: Weights that are replaced already.

    Returns:
        `(layer, overrides)`, the overrides a dict `{id(variable): tensor}`.
    """
    overrides = overrides or {}
    while is_normalizing(layer) and layer.built and _is_known(layer):
        replaced = {id(v): value for v, value in layer.normalized_values()}
        overrides = {**overrides, **replaced}
        layer = layer.layer
    return layer, overrides


def _is_known(wrapper: Any) -> bool:
    """Whether the class of a wrapper does what it inherits."""
    kind = type(wrapper)
    declares = (c for c in kind.__mro__ if "normalizes_itself" in vars(c))
    # A wrapper takes the signatures of its layer, each object for itself.
    return not overridden_in_class(kind, next(declares, kind))


def applied_value(weight: Weight, overrides: Overrides) -> Any:
    """The tensor that is applied as a weight.

    A layer with mixed precision applies it rounded to its compute dtype.
    """
    if id(weight.variable) in overrides:
        return overrides[id(weight.variable)]
    if weight.layer is None:
        return weight.value()
    with applied_weights(weight.layer):
        return keras.ops.convert_to_tensor(weight.value())
