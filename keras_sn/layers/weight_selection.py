"""Which weights of a layer a wrapper normalizes."""

import keras

from keras_sn.linear_maps import linear_maps
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.both_reshapes import both_reshapes
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.weights import VariableWeight

BIDIRECTIONAL = "bidirectional"


def maps_by_norm(layer, norm):
    """`linear_maps`, with `"bidirectional"` for `norm` as well."""
    if norm != BIDIRECTIONAL:
        return linear_maps(layer, norm)
    maps = linear_maps(layer, "kernel")
    return {path: both_reshapes(each) for path, each in maps.items()}


def select_maps(layer, norm, weight_names):
    """The linear maps of the weights to normalize.

    Args:
        layer: A built layer.
        norm: `"kernel"`, `"operator"` or `"bidirectional"`.
        weight_names: Names, paths or ends of paths; `None` for every kernel.

    Returns:
        List of `LinearMap`.

    Raises:
        ValueError: If there is none, or a name fits no weight.
    """
    maps = maps_by_norm(layer, norm)
    if weight_names is None:
        selected = [m for m in maps.values() if _is_default(layer, m)]
        if not selected:
            raise ValueError(_nothing_found(layer))
        return selected
    chosen: dict[int, LinearMap] = {}
    for name in weight_names:
        found = _named(layer, maps, name)
        chosen.update((id(m.weights[0].variable), m) for m in found)
    return list(chosen.values())


def _is_default(layer, linear_map):
    """Kernels always; the scale of a BatchNormalization if wrapped itself."""
    owner = linear_map.weights[0].layer
    is_scale = isinstance(owner, keras.layers.BatchNormalization)
    return owner is layer or not is_scale


def _named(layer, maps, name):
    found = [m for m in maps.values() if _fits(m.path, name)]
    if found:
        return found
    variables = [
        v for v in layer.weights if v.trainable and _fits(v.path, name)
    ]
    if not variables:
        raise ValueError(
            f"No weight of layer '{layer.name}' ({type(layer).__name__}) is "
            f"named {name!r}. `weight_names` takes names, paths or ends of "
            f"paths of these: {[v.path for v in layer.weights]}."
        )
    for variable in variables:
        if len(variable.shape) < 2:
            raise ValueError(
                f"Weight '{variable.path}' of layer '{layer.name}' has the "
                f"shape {tuple(variable.shape)}; a spectral norm needs a "
                "weight with two axes or more."
            )
    return [MatrixMap(VariableWeight(layer, v)) for v in variables]


def _fits(path, name):
    return path == name or path.endswith("/" + name)


def relative_names(names, layer):
    """Names and paths of weights, without what stands before the layer.

    That part of a path depends on where the layer is.
    """
    before = (layer.path or "").rpartition("/")[0]
    return [name.removeprefix(before + "/") for name in names]


def _nothing_found(layer):
    known = [v.path for v in layer.weights]
    return (
        f"There is nothing to normalize in layer '{layer.name}': this "
        f"{type(layer).__name__} object has no attribute 'kernel' nor "
        "'embeddings', no registered linear map, and no sublayer that has. "
        f"Its weights are {known}; name those to normalize with "
        "`weight_names`, or register the layer with "
        "`keras_sn.linear_maps.register_linear_map`."
    )
