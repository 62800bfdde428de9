"""fold_model: a normalized model as plain Keras layers."""

import functools
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from keras_sn.keras_access import all_layers
from keras_sn.keras_access import is_graph
from keras_sn.keras_access import own_weights
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.layers.weight_selection import select_maps
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.linear_maps.registry import walk
from keras_sn.linear_maps.weights import VariableWeight
from keras_sn.models.graph_copy import GraphCopy
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.graph_copy import view_graph
from keras_sn.models.graph_copy import without
from keras_sn.models.layer_config import NO_CONFIG
from keras_sn.models.layer_config import folded_name
from keras_sn.models.layer_config import layer_inside
from keras_sn.models.layer_config import rebuilt
from keras_sn.models.layer_config import rebuilt_or_shared
from keras_sn.models.layer_config import unwrapped
from keras_sn.norms.host_norm import SMALLEST_NORM
from keras_sn.norms.host_norm import host_norm
from keras_sn.norms.spectral_norm import spectral_norm

# Each round brings a weight to its bound but for the rounding of its dtype.
_ROUNDS = 8


def fold_model(model: Layer, certified: bool = False) -> Layer:
    """The same model without wrappers, the normalized weights baked in.

    Every `SpectralNormalization` gives way to the layer inside of it, with
    its weights normalized. So the result is made of the layers one would have
    written without `keras_sn`: it is saved, served, quantized and exported by
    Keras alone. The model given stays as it is.

    A folded layer has the name that the wrapper was given; where Keras made
    that name up (`spectral_normalization_7`), the name of the layer inside,
    unless another layer of the model has that one.

    A layer that Keras cannot make anew from its config (one without
    `get_config`) is shared with the model given, and a warning says so.

    Args:
        model: A built model: Sequential or Functional, with branches, shared
            layers and models inside; or a layer, such as a subclassed model
            wrapped whole.
        certified: `False`: the weights are divided by their norm, which is
            computed to 1e-6 in float64 whatever the state of the wrapper,
            with `norm="operator"` at the frequencies that training looks
            at; no certificate. `True`: the weights are divided by the certified
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
            wrappers in its own code, which no copy can take out (the message
            says the way that works); or if `certified` and a weight is not
            finite.

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
    return folded(model, certified).model


def folded(model: Layer, certified: bool = False) -> GraphCopy:
    """`fold_model`, and which layer stands for which."""
    names = _names(model)
    copy = copy_graph(model, functools.partial(_unwrapped_layer, names))
    for layer, twin in copy.leaves:
        _bake(layer, twin, certified)
    return copy


def folded_view(model: Layer) -> Layer:
    """A folded model to look at, which shares all that stays as it is."""
    names = _names(model)

    def replace(layer: Layer) -> Layer:
        return _unwrapped_layer(names, layer) if wrappers_in(layer) else layer

    view = view_graph(model, replace)
    for layer, twin in view.leaves:
        if twin is not layer:
            _bake(layer, twin, certified=False)
    return view.model


def wrappers_in(layer: Layer) -> list[SpectralNormalization]:
    """Our wrappers in a layer, itself included."""
    return [
        part
        for part in all_layers(layer)
        if isinstance(part, SpectralNormalization)
    ]


def _names(model: Layer) -> dict[int, str]:
    """Dict `{id(wrapper): name of the folded layer}` of a model's layers."""
    if not is_graph(model):
        return {}
    names: dict[int, str] = {}
    for layer in model.layers:
        names.update(_names(layer))
    wanted = {
        id(layer): folded_name(layer)
        for layer in model.layers
        if isinstance(layer, SpectralNormalization)
    }
    taken = [wanted.get(id(layer), layer.name) for layer in model.layers]
    for layer in model.layers:
        if id(layer) in wanted:
            name = wanted[id(layer)]
            names[id(layer)] = name if taken.count(name) == 1 else layer.name
    return names


def _unwrapped_layer(names: dict[int, str], layer: Layer) -> Layer:
    if isinstance(layer, SpectralNormalization):
        return layer_inside(layer, names.get(id(layer), folded_name(layer)))
    if not wrappers_in(layer):
        return rebuilt_or_shared(layer)
    try:
        twin = rebuilt(layer, unwrapped)
    except NO_CONFIG as error:
        raise ValueError(_how_to_fold(layer)) from error
    if wrappers_in(twin):
        raise ValueError(_how_to_fold(layer))
    return twin


def _how_to_fold(layer: Layer) -> str:
    kind, name = type(layer).__name__, layer.name
    return (
        f"Layer '{name}' ({kind}) creates SpectralNormalization layers in its "
        "own code, so they cannot be taken out of a copy. Call its `call` on "
        "symbolic inputs, which gives a Functional model of the same layers, "
        "and fold that: inputs = keras.Input(shape); keras.Model(inputs, "
        f"{name}.call(inputs)). Or leave its layers as they are and wrap it "
        f"whole, SpectralNormalization({kind}(...))."
    )


def _bake(layer: Layer, twin: Layer, certified: bool) -> None:
    """Writes the normalized weights of `layer` into its copy."""
    if wrappers_in(twin):
        # Created when it was built.
        raise ValueError(_how_to_fold(layer))
    wrappers = wrappers_in(layer)
    values: dict[int, np.ndarray] = {}
    for wrapper in wrappers:
        values.update(_merged_lora(wrapper.layer))
        for linear_map in maps_of(wrapper):
            value = _normalized(linear_map, wrapper)
            values[id(linear_map.weights[0].variable)] = value
    copy_weights(layer, twin, _left_out(wrappers), values=values)
    if certified:
        for wrapper, variable, linear_map in normalized_copies(layer, twin):
            _shrink(linear_map, variable, float(wrapper.norm_bound))


def maps_of(wrapper: SpectralNormalization) -> list[LinearMap]:
    """The maps that a wrapper normalizes."""
    return select_maps(wrapper.layer, wrapper.norm, wrapper.weight_names)


def _normalized(
    linear_map: LinearMap, wrapper: SpectralNormalization
) -> np.ndarray:
    """The weight of a map, normalized, in float64."""
    bound = float(wrapper.norm_bound)
    norm = host_norm(linear_map)
    value = ops.convert_to_numpy(linear_map.weights[0].value())
    value = value.astype("float64")
    # As the wrapper: a weight that is as good as zero is no direction.
    if norm <= SMALLEST_NORM:
        norm = 1.0
    if wrapper.mode == "clip" and norm <= bound:
        return value
    return value * (bound / norm)


def normalized_copies(
    layer: Layer, twin: Layer
) -> Iterator[tuple[SpectralNormalization, keras.Variable, LinearMap]]:
    """Yields each wrapper in `layer`, a weight's copy, and the copy's map."""
    wrappers = wrappers_in(layer)
    sources = without(layer.weights, _left_out(wrappers))
    copies = {
        id(source): variable
        for source, variable in zip(sources, twin.weights, strict=True)
    }
    for wrapper in wrappers:
        maps = {
            id(m.weights[0].variable): m
            for m in linear_maps(twin, wrapper.norm).values()
        }
        for source in maps_of(wrapper):
            variable = copies[id(source.weights[0].variable)]
            # A weight that was chosen by name has no map in the registry.
            linear_map = maps.get(id(variable)) or MatrixMap(
                VariableWeight(twin, variable)
            )
            yield wrapper, variable, linear_map


def _left_out(
    wrappers: list[SpectralNormalization],
) -> list[keras.Variable]:
    """Weights that a folded layer does not have."""
    state = [v for wrapper in wrappers for v in own_weights(wrapper)]
    return state + [
        v for wrapper in wrappers for v in _lora_variables(wrapper.layer)
    ]


def _merged_lora(layer: Layer) -> dict[int, np.ndarray]:
    """Dict `{id(kernel): the sum that the layer applies}` of LoRA layers."""
    return {
        id(v): ops.convert_to_numpy(getattr(part, v.name))
        for part in _lora_layers(layer)
        for v in own_weights(part)
        if f"lora_{v.name}_a" in [w.name for w in own_weights(part)]
    }


def _lora_variables(layer: Layer) -> list[keras.Variable]:
    return [
        v
        for part in _lora_layers(layer)
        for v in own_weights(part)
        if v.name.startswith("lora_")
    ]


def _lora_layers(layer: Layer) -> list[Layer]:
    return [p for p in walk(layer) if getattr(p, "lora_enabled", False)]


def _shrink(
    linear_map: LinearMap, variable: keras.Variable, norm_bound: float
) -> None:
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


def _epsilon(dtype: str) -> float:
    return {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}.get(
        dtype, 2.0**-23
    )
