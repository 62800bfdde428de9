"""Making a layer anew from its config, with wrappers put in or taken out."""

import keras

_OURS = "keras_sn>SpectralNormalization"


def rebuilt(layer, rule=None):
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
    return type(layer).from_config(config)


def edited(config, rule):
    """A copy of a config with `rule` applied to every layer in it."""
    if isinstance(config, dict):
        replacement = rule(config) if "class_name" in config else None
        if replacement is not None:
            return edited(replacement, rule)
        return {key: edited(value, rule) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)([edited(value, rule) for value in config])
    return config


def layer_inside(wrapper):
    """A new layer like the one in our wrapper, under the wrapper's name."""
    inner = wrapper.layer
    config = edited(inner.get_config(), unwrapped)
    config = _bare(config, wrapper.name, wrapper.trainable)
    return type(inner).from_config(config)


def is_wrapper_config(config):
    """Whether a serialized form is that of our wrapper."""
    return config.get("registered_name") == _OURS


def is_stock_config(config):
    """Whether it is that of `keras.layers.SpectralNormalization`."""
    return (
        config.get("class_name") == "SpectralNormalization"
        and config.get("module") == "keras.layers"
        and not config.get("registered_name")
    )


def unwrapped(config):
    """Rule: the layer inside of our wrapper, under the wrapper's name."""
    if not is_wrapper_config(config):
        return None
    outer = config["config"]
    inner = outer["layer"]
    name, trainable = outer["name"], outer.get("trainable", True)
    return {**inner, "config": _bare(inner["config"], name, trainable)}


def layer_config_of_stock(wrapper):
    """The arguments of ours that stand for those of a stock wrapper."""
    return {
        "name": wrapper.name,
        "trainable": wrapper.trainable,
        "dtype": wrapper.dtype_policy,
        "power_iterations": wrapper.power_iterations,
    }


def upgraded(config):
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


def _bare(config, name, trainable):
    """The config of a layer that takes the place of its wrapper."""
    config = _without_lora(edited(config, _bare_inside))
    if "name" in config:
        config["name"] = name
    if not trainable:
        config["trainable"] = False
    return config


def _bare_inside(config):
    settings = config.get("config")
    if not isinstance(settings, dict) or "lora_rank" not in settings:
        return None
    return {**config, "config": _without_lora(settings)}


def _without_lora(config):
    # The kernel that is put in has LoRA's correction merged.
    return {k: v for k, v in config.items() if not k.startswith("lora_")}


def _rebuilt_lambda(layer):
    # `from_config` would load the function as code from a file, which safe
    # mode refuses; the function itself is at hand.
    config = layer.get_config()
    shape = config.get("output_shape")
    config["function"] = layer.function
    config["arguments"] = dict(layer.arguments)
    if isinstance(shape, dict):
        config["output_shape"] = layer.compute_output_shape
    return keras.layers.Lambda(**config)
