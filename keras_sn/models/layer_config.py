"""Making a layer anew from its config, with wrappers put in or taken out."""

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras.layers import Layer

from keras_sn.layers.spectral_normalization import SpectralNormalization

Config = dict[str, Any]
Rule = Callable[[Config], Config | None]

# What every layer takes by its `**kwargs`.
_BASE_ARGUMENTS = ("name", "trainable", "dtype")
_OURS = "keras_sn>SpectralNormalization"
# What Keras names a wrapper that was given no name.
_MADE_UP = re.compile(r"spectral_normalization(_\d+)?")
# What `get_config` and `from_config` raise where a class supports neither.
NO_CONFIG = (NotImplementedError, TypeError, ValueError)


def rebuilt(layer: Layer, rule: Rule | None = None) -> Layer:
    """A new, unbuilt layer from the config of another.

    Args:
        layer: The layer; it stays as it is.
        rule: Function that takes the serialized form of a layer anywhere in
            the config and returns what to put in its place, or `None`.

    Returns:
        The new layer.
    """
    if isinstance(layer, keras.layers.Lambda):
        return _rebuilt_lambda(layer)
    config = layer.get_config()
    if rule is not None:
        config = edited(config, rule)
    new = from_config(type(layer), config)
    # The config may leave out what `Layer.get_config` would have put in.
    new.name = layer.name
    new.trainable = layer.trainable
    return new


def from_config(cls: type[Layer], config: Config) -> Layer:
    """A layer from its config, which may hold more than the class takes.

    As some of keras-hub's do, which store derived numbers too.
    """
    try:
        return cls.from_config(config)
    except NO_CONFIG:
        taken = {*inspect.signature(cls.__init__).parameters, *_BASE_ARGUMENTS}
        known = {key: config[key] for key in config if key in taken}
        if len(known) == len(config):
            raise
        return cls.from_config(known)


def rebuilt_or_shared(layer: Layer, rule: Rule | None = None) -> Layer:
    """`rebuilt`, or the layer itself where its class has no config.

    Where Keras cannot make a layer anew it cannot copy it at all.
    """
    try:
        return rebuilt(layer, rule)
    except NO_CONFIG as error:
        warnings.warn(
            f"Layer '{layer.name}' ({type(layer).__name__}) cannot be made "
            "anew from its config, so the copy shares it with the model "
            f"given: training one changes the other. {error}",
            stacklevel=8,
        )
        return layer


def edited(config: Any, rule: Rule) -> Any:
    """A copy of a config with `rule` applied to every layer in it."""
    if isinstance(config, dict):
        replacement = rule(config) if "class_name" in config else None
        if replacement is not None:
            return edited(replacement, rule)
        return {key: edited(value, rule) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)([edited(value, rule) for value in config])
    return config


def layer_inside(wrapper: keras.layers.Wrapper, name: str) -> Layer:
    """A new layer like the one in our wrapper, under the given name."""
    inner = wrapper.layer
    config = edited(inner.get_config(), unwrapped)
    config = _bare(config, name, wrapper.trainable)
    new = from_config(type(inner), config)
    new.name = name
    return new


def folded_name(wrapper: SpectralNormalization) -> str:
    """The name for the layer that takes the place of a wrapper.

    The one the wrapper was given; where Keras made it up, that of the layer
    inside.
    """
    return _folded_name(wrapper.name, wrapper.layer.name)


def _folded_name(outer: str, inner: str) -> str:
    return inner if _MADE_UP.fullmatch(outer) else outer


def is_wrapper_config(config: Config) -> bool:
    """Whether a serialized form is that of our wrapper."""
    return config.get("registered_name") == _OURS


def is_stock_config(config: Config) -> bool:
    """Whether it is that of `keras.layers.SpectralNormalization`."""
    return (
        config.get("class_name") == "SpectralNormalization"
        and config.get("module") == "keras.layers"
        and not config.get("registered_name")
    )


def unwrapped(config: Config) -> Config | None:
    """Rule: the layer inside of our wrapper, named by `folded_name`."""
    if not is_wrapper_config(config):
        return None
    outer = config["config"]
    inner = outer["layer"]
    trainable = outer.get("trainable", True)
    name = _folded_name(
        outer["name"], inner["config"].get("name", outer["name"])
    )
    return {**inner, "config": _bare(inner["config"], name, trainable)}


def layer_config_of_stock(
    wrapper: keras.layers.SpectralNormalization,
) -> Config:
    """The arguments of ours that stand for those of a stock wrapper."""
    return {
        "name": wrapper.name,
        "trainable": wrapper.trainable,
        "dtype": wrapper.dtype_policy,
        "power_iterations": wrapper.power_iterations,
    }


def upgraded(config: Config) -> Config | None:
    """Rule: our wrapper in place of the stock one."""
    if not is_stock_config(config):
        return None
    build_config = config.get("build_config")
    settings = {**config["config"], "norm": "kernel"}
    return {
        "module": "keras_sn.layers.spectral_normalization",
        "class_name": "SpectralNormalization",
        "config": settings,
        "registered_name": _OURS,
        "build_config": build_config and {"layer": build_config},
    }


def _bare(config: Config, name: str, trainable: bool) -> Config:
    """The config of a layer that takes the place of its wrapper."""
    config = _without_lora(edited(config, _bare_inside))
    if "name" in config:
        config["name"] = name
    if not trainable:
        config["trainable"] = False
    return config


def _bare_inside(config: Config) -> Config | None:
    settings = config.get("config")
    if not isinstance(settings, dict) or "lora_rank" not in settings:
        return None
    return {**config, "config": _without_lora(settings)}


def _without_lora(config: Config) -> Config:
    # The kernel that is put in has LoRA's correction merged.
    return {k: v for k, v in config.items() if not k.startswith("lora_")}


def _rebuilt_lambda(layer: keras.layers.Lambda) -> keras.layers.Lambda:
    # `from_config` would load the function as code from a file, which safe
    # mode refuses; the function itself is at hand.
    config = layer.get_config()
    shape = config.get("output_shape")
    config["function"] = layer.function
    config["arguments"] = dict(layer.arguments)
    if isinstance(shape, dict):
        config["output_shape"] = layer.compute_output_shape
    return keras.layers.Lambda(**config)
