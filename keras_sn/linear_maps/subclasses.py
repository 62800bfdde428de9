"""Whether a subclass of a layer still computes what the layer computes."""

import inspect

import keras

# What a subclass may define without computing something else.
_HARMLESS = {
    "__init__",
    "build",
    "build_from_config",
    "compute_mask",
    "compute_output_shape",
    "compute_output_spec",
    "count_params",
    "from_config",
    "get_build_config",
    "get_config",
    "load_own_variables",
    "save_own_variables",
}
# Of the names with two underscores, those that change what a call does.
_HARMFUL = {"__call__", "__getattr__", "__getattribute__", "__new__"}
# Keras wraps the first two for each layer object, and sets the loss of models.
_WRAPPED_BY_KERAS = {"build", "quantize", "loss"}


def overridden_names(layer: keras.layers.Layer, layer_class: type) -> list[str]:
    """What makes a layer another one than the class it inherits from.

    Strict: any method, property or attribute of the class that a subclass, a
    mixin or the object itself replaces counts, but for configuration and
    what is known to leave the computation alone.

    Args:
        layer: The layer.
        layer_class: A class it is an instance of.

    Returns:
        Names, empty if the layer computes what `layer_class` computes.

    Example:

    >>> from keras_sn.linear_maps.subclasses import overridden_names
    >>> class Tripled(keras.layers.Dense):
    ...     def call(self, inputs):
    ...         return super().call(3 * inputs)
    >>> overridden_names(Tripled(1), keras.layers.Dense)
    ['call']
    """
    shadowed = {
        name
        for name in set(vars(layer)) - _WRAPPED_BY_KERAS
        if inspect.isroutine(getattr(layer_class, name, None))
    }
    return sorted(overridden_in_class(type(layer), layer_class) | shadowed)


def overridden_in_class(subclass: type, layer_class: type) -> set[str]:
    """`overridden_names` of a class, whatever its objects hold."""
    inherited = set(layer_class.__mro__)
    return {
        name
        for cls in subclass.__mro__
        if cls not in inherited
        for name in vars(cls)
        if _matters(name, layer_class)
        and _attribute(subclass, name) is not _attribute(layer_class, name)
    }


def _matters(name: str, layer_class: type) -> bool:
    if name in _HARMFUL:
        return True
    is_special = name.startswith("__") and name.endswith("__")
    return (
        not is_special and name not in _HARMLESS and hasattr(layer_class, name)
    )


def _attribute(cls: type, name: str) -> object:
    return inspect.getattr_static(cls, name, None)
