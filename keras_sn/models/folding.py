"""fold_model: a normalized model as plain Keras layers."""

import functools

from keras.layers import Layer

from keras_sn.keras_access import all_layers
from keras_sn.keras_access import is_graph
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.models.baking import bake
from keras_sn.models.baking import wrappers_in
from keras_sn.models.graph_copy import GraphCopy
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import view_graph
from keras_sn.models.layer_config import NO_CONFIG
from keras_sn.models.layer_config import folded_name
from keras_sn.models.layer_config import layer_inside
from keras_sn.models.layer_config import rebuilt
from keras_sn.models.layer_config import rebuilt_or_shared
from keras_sn.models.layer_config import unwrapped
from keras_sn.models.plain_layers import bake_plain
from keras_sn.models.plain_layers import has_plain_twin
from keras_sn.models.plain_layers import plain_twin


def fold_model(model: Layer, certified: bool = False) -> Layer:
    """The same model without wrappers, the normalized weights baked in.

    Every `SpectralNormalization` gives way to the layer inside of it, with
    its weights normalized. So the result is made of the layers one would have
    written without `keras_sn`: it is saved, served, quantized and exported by
    Keras alone. The model given stays as it is. An orthogonal layer becomes a
    plain one with the kernel that it computes (and a circular convolution a
    small model, which wraps the image around and convolves).

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
        # Some create wrappers when they are built.
        if wrappers_in(twin):
            raise ValueError(_how_to_fold(layer))
        _bake(layer, twin, certified)
    return copy


def is_foldable(model: Layer) -> bool:
    """Whether there is anything in a model that `fold_model` changes."""
    return any(
        isinstance(part, SpectralNormalization) or has_plain_twin(part)
        for part in all_layers(model)
    )


def _bake(layer: Layer, twin: Layer, certified: bool) -> None:
    (bake_plain if has_plain_twin(layer) else bake)(layer, twin, certified)


def folded_view(model: Layer) -> Layer:
    """A folded model to look at, which shares all that stays as it is."""
    names = _names(model)

    def replace(layer: Layer) -> Layer:
        return _unwrapped_layer(names, layer) if is_foldable(layer) else layer

    view = view_graph(model, replace)
    for layer, twin in view.leaves:
        if twin is not layer:
            _bake(layer, twin, certified=False)
    return view.model


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
    if has_plain_twin(layer):
        return plain_twin(layer, names.get(id(layer)))
    if isinstance(layer, SpectralNormalization):
        name = names.get(id(layer), folded_name(layer))
        try:
            return layer_inside(layer, name)
        except NO_CONFIG as error:
            raise ValueError(_cannot_copy(layer)) from error
    if not wrappers_in(layer):
        return rebuilt_or_shared(layer)
    try:
        twin = rebuilt(layer, unwrapped)
    except NO_CONFIG as error:
        raise ValueError(_how_to_fold(layer)) from error
    if wrappers_in(twin):
        raise ValueError(_how_to_fold(layer))
    return twin


def _cannot_copy(wrapper: SpectralNormalization) -> str:
    inner = wrapper.layer
    return (
        f"The layer in '{wrapper.name}', a {type(inner).__name__}, cannot be "
        "made anew from its config, so there is no copy to hold the "
        "normalized weights. Give its class a `get_config` that holds every "
        "argument of its constructor."
    )


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
