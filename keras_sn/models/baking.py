"""The weights of folded layers: normalized to the end, or certified."""

from collections.abc import Iterator

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from keras_sn.keras_access import all_layers
from keras_sn.keras_access import own_weights
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.layers.weight_selection import maps_by_norm
from keras_sn.layers.weight_selection import select_maps
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import walk
from keras_sn.linear_maps.weights import VariableWeight
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.graph_copy import without
from keras_sn.norms.host_norm import SMALLEST_NORM
from keras_sn.norms.host_norm import host_norm
from keras_sn.norms.spectral_norm import spectral_norm

# Each round brings a weight to its bound but for the rounding of its dtype.
_ROUNDS = 8


def wrappers_in(layer: Layer) -> list[SpectralNormalization]:
    """Our wrappers in a layer, itself included."""
    return [
        part
        for part in all_layers(layer)
        if isinstance(part, SpectralNormalization)
    ]


def bake(layer: Layer, twin: Layer, certified: bool) -> None:
    """Writes the normalized weights of a layer into its copy.

    Args:
        layer: Layer with wrappers in it, or one itself.
        twin: The same without wrappers.
        certified: Whether to divide by certified upper bounds of the norms.

    Raises:
        ValueError: If `certified` and a weight is not finite.
    """
    wrappers = wrappers_in(layer)
    values: dict[int, np.ndarray] = {}
    for wrapper in wrappers:
        values.update(_merged_lora(wrapper.layer))
        for linear_map in wrapper_maps(wrapper):
            value = normalized_weight(linear_map, wrapper)
            values[id(linear_map.weights[0].variable)] = value
    copy_weights(layer, twin, _left_out(wrappers), values=values)
    if certified:
        for wrapper, source, variable, linear_map in normalized_copies(
            layer, twin
        ):
            shrink(linear_map, variable, largest_norm(source, wrapper))


def wrapper_maps(wrapper: SpectralNormalization) -> list[LinearMap]:
    """The maps that a wrapper normalizes."""
    return select_maps(wrapper.layer, wrapper.norm, wrapper.weight_names)


def normalized_weight(
    linear_map: LinearMap, wrapper: SpectralNormalization
) -> np.ndarray:
    """The weight of a map, normalized, in float64."""
    bound, gain = wrapper.bound_and_gain(linear_map.weights[0].variable)
    norm = host_norm(linear_map)
    value = ops.convert_to_numpy(linear_map.weights[0].value())
    value = value.astype("float64")
    # As the wrapper: a weight that is as good as zero is no direction.
    if norm <= SMALLEST_NORM:
        norm = 1.0
    if wrapper.mode == "clip" and norm <= bound:
        return value * gain
    return value * (gain * bound / norm)


def largest_norm(
    linear_map: LinearMap, wrapper: SpectralNormalization
) -> float:
    """The norm that a normalized weight may have."""
    bound, gain = wrapper.bound_and_gain(linear_map.weights[0].variable)
    return abs(gain) * bound


def normalized_copies(
    layer: Layer, twin: Layer
) -> Iterator[
    tuple[SpectralNormalization, LinearMap, keras.Variable, LinearMap]
]:
    """Yields wrappers in `layer`, a weight's map, its copy, the copy's map."""
    wrappers = wrappers_in(layer)
    sources = without(layer.weights, _left_out(wrappers))
    copies = {
        id(source): variable
        for source, variable in zip(sources, twin.weights, strict=True)
    }
    for wrapper in wrappers:
        maps = {
            id(m.weights[0].variable): m
            for m in maps_by_norm(twin, wrapper.norm).values()
        }
        for source in wrapper_maps(wrapper):
            variable = copies[id(source.weights[0].variable)]
            # A weight that was chosen by name has no map in the registry.
            linear_map = maps.get(id(variable)) or MatrixMap(
                VariableWeight(twin, variable)
            )
            yield wrapper, source, variable, linear_map


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


def shrink(
    linear_map: LinearMap, variable: keras.Variable, norm_bound: float
) -> None:
    """Scales a weight until its map is certified not to exceed a bound.

    Raises:
        ValueError: If that cannot be certified.
    """
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
