"""fold_model: a normalized model as plain Keras layers."""

import numpy as np
from keras import ops

from keras_sn.keras_access import own_weights
from keras_sn.keras_access import sublayers
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import maps_of
from keras_sn.linear_maps.registry import walk
from keras_sn.linear_maps.weights import VariableWeight
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.graph_copy import paired_leaves
from keras_sn.models.graph_copy import without
from keras_sn.models.layer_config import layer_inside
from keras_sn.models.layer_config import rebuilt
from keras_sn.models.layer_config import unwrapped
from keras_sn.norms.spectral_norm import spectral_norm

# Each round brings a weight to its bound but for the rounding of its dtype.
_ROUNDS = 8


def fold_model(model, certified=False):
    """The same model without wrappers, the normalized weights baked in.

    Every `SpectralNormalization` gives way to the layer inside of it, under
    the wrapper's name, with the weights that the wrapper applies at
    inference. So the result is made of the layers one would have written
    without `keras_sn`: it is saved, served, quantized and exported by Keras
    alone. The model given stays as it is.

    Args:
        model: A built model: Sequential or Functional, with branches, shared
            layers and models inside; or a layer, such as a subclassed model
            wrapped whole.
        certified: `False`: the weights are those of the wrapper, whose norm
            is an estimate. `True`: the weights are divided by the certified
            upper bound of their norm (`keras_sn.norms.spectral_norm`), so
            that the bound `upper` of what is stored, after rounding to the
            dtype of the weight, is at most the wrapper's `norm_bound`. The
            norm is the one the wrapper was told to bound: with
            `norm="operator"` that of the map the layer applies, with
            `norm="kernel"` that of the kernel as a matrix, which for a
            convolution is not the norm of the layer.

    Returns:
        A new model (or layer), compiled like the given one.

    Raises:
        ValueError: If the model is not built; if a subclassed model creates
            wrappers in its own code, which no copy can take out; or if
            `certified` and a weight is not finite.

    Example:

    >>> import keras
    >>> from keras_sn.layers import SpectralNormalization
    >>> from keras_sn.models import fold_model
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     SpectralNormalization(keras.layers.Dense(3), name="hidden"),
    ... ])
    >>> fold_model(model).get_layer("hidden").__class__.__name__
    'Dense'
    """
    copy = copy_graph(model, _unwrapped_layer)
    for layer, twin in paired_leaves(model, copy):
        if wrappers_in(twin):
            raise ValueError(_how_to_fold(layer))
        _bake(layer, twin, certified)
    return copy


def wrappers_in(layer):
    """Our wrappers in a layer, itself included."""
    found = [layer] if isinstance(layer, SpectralNormalization) else []
    for inner in sublayers(layer):
        found.extend(wrappers_in(inner))
    return list({id(w): w for w in found}.values())


def _unwrapped_layer(layer):
    if isinstance(layer, SpectralNormalization):
        return layer_inside(layer)
    try:
        return rebuilt(layer, unwrapped)
    except (NotImplementedError, TypeError, ValueError) as error:
        if wrappers_in(layer):
            raise ValueError(_how_to_fold(layer)) from error
        raise


def _how_to_fold(layer):
    return (
        f"Layer '{layer.name}' ({type(layer).__name__}) creates "
        "SpectralNormalization layers in its own code, so they cannot be "
        "taken out of a copy. Leave its layers as they are and wrap it whole, "
        f"SpectralNormalization({type(layer).__name__}(...)), which folds; or "
        "write it as a Functional model."
    )


def _bake(layer, twin, certified):
    """Writes the normalized weights of `layer` into its copy."""
    wrappers = wrappers_in(layer)
    dropped = [u for w in wrappers for u in w.vectors_u.values()]
    values = {}
    for wrapper in wrappers:
        dropped.extend(_lora_variables(wrapper.layer))
        values.update(_merged_lora(wrapper.layer))
        for variable, value in wrapper.normalized_values():
            values[id(variable)] = ops.convert_to_numpy(value)
    copy_weights(layer, twin, dropped=dropped, values=values)
    if certified:
        for wrapper, variable, linear_map in normalized_copies(layer, twin):
            _shrink(linear_map, variable, wrapper.norm_bound)


def normalized_copies(layer, twin):
    """Yields each wrapper in `layer`, a weight's copy, and the copy's map."""
    wrappers = wrappers_in(layer)
    dropped = [u for w in wrappers for u in w.vectors_u.values()]
    dropped += [v for w in wrappers for v in _lora_variables(w.layer)]
    positions = {
        id(v): i for i, v in enumerate(without(layer.weights, dropped))
    }
    for wrapper in wrappers:
        maps = {
            id(m.weights[0].variable): m for m in maps_of(twin, wrapper.norm)
        }
        for normalized, _ in wrapper.normalized_values():
            variable = twin.weights[positions[id(normalized)]]
            # A weight that was chosen by name has no map in the registry.
            yield (
                wrapper,
                variable,
                maps.get(id(variable))
                or MatrixMap(VariableWeight(twin, variable)),
            )


def _merged_lora(layer):
    """Dict `{id(kernel): the sum that the layer applies}` of LoRA layers."""
    return {
        id(v): ops.convert_to_numpy(getattr(part, v.name))
        for part in _lora_layers(layer)
        for v in own_weights(part)
        if f"lora_{v.name}_a" in [w.name for w in own_weights(part)]
    }


def _lora_variables(layer):
    return [
        v
        for part in _lora_layers(layer)
        for v in own_weights(part)
        if v.name.startswith("lora_")
    ]


def _lora_layers(layer):
    return [p for p in walk(layer) if getattr(p, "lora_enabled", False)]


def _shrink(linear_map, variable, norm_bound):
    margin = _epsilon(variable.dtype)
    for _ in range(_ROUNDS):
        upper = spectral_norm(linear_map).upper
        if upper <= norm_bound:
            return
        value = np.asarray(ops.convert_to_numpy(variable), dtype="float64")
        variable.assign(value * (norm_bound / upper * (1 - margin)))
        margin *= 2
    raise ValueError(
        f"The norm of '{variable.path}' could not be certified to be at most "
        f"{norm_bound}: the last bound was {upper}."
    )


def _epsilon(dtype):
    return {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}.get(
        dtype, 2.0**-23
    )
