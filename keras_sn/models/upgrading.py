"""upgrade_model: the wrapper of Keras becomes ours, state kept."""

import os

from keras import ops
from keras.layers import Layer
from keras.layers import SpectralNormalization as Stock

from keras_sn.keras_access import all_layers
from keras_sn.keras_access import own_weights
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.models.files import load_model
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.layer_config import NO_CONFIG
from keras_sn.models.layer_config import layer_config_of_stock
from keras_sn.models.layer_config import rebuilt
from keras_sn.models.layer_config import rebuilt_or_shared
from keras_sn.models.layer_config import upgraded

Classes = type[Layer] | tuple[type[Layer], ...]


def upgrade_model(model: Layer | str | os.PathLike[str]) -> Layer:
    """A copy with `keras_sn` layers for `keras.layers.SpectralNormalization`.

    Weights, `power_iterations` and the singular vectors are kept. What
    changes is that the weights are normalized whenever the model is called.
    The stock layer normalizes by overwriting the kernel in training steps:
    on JAX that write is lost, so a model trained there has kernels of any
    norm, at inference too, and its predictions change here; elsewhere the
    kernel is one optimizer step away from normalized.

    Args:
        model: A built model or layer, or the path of a `.keras` file.

    Returns:
        A new model, compiled like the given one.

    Raises:
        ValueError: If the model is not built, there is no such layer in it,
            or the file cannot be read.

    Example:

    >>> import keras
    >>> from keras_sn.models import upgrade_model
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.SpectralNormalization(keras.layers.Dense(3)),
    ... ])
    >>> type(upgrade_model(model).layers[0]).__module__
    'keras_sn.layers.spectral_normalization'
    """
    source = (
        load_model(model) if isinstance(model, (str, os.PathLike)) else model
    )
    copy = copy_graph(source, _upgraded_layer)
    found = 0
    for layer, twin in copy.leaves:
        stock = _found(layer, Stock)
        # Created when it was built.
        if stock and _found(twin, Stock):
            raise ValueError(_how_to_upgrade(layer))
        _copy_state(layer, twin, stock)
        found += len(stock)
    if not found:
        raise ValueError(
            f"There is no keras.layers.SpectralNormalization in model "
            f"'{source.name}', so there is nothing to upgrade."
        )
    return copy.model


def _upgraded_layer(layer: Layer) -> Layer:
    if isinstance(layer, Stock):
        inner = rebuilt(layer.layer, upgraded)
        return SpectralNormalization(inner, **layer_config_of_stock(layer))
    if not _found(layer, Stock):
        return rebuilt_or_shared(layer)
    try:
        return rebuilt(layer, upgraded)
    except NO_CONFIG as error:
        raise ValueError(_how_to_upgrade(layer)) from error


def _copy_state(layer: Layer, twin: Layer, stock: list[Layer]) -> None:
    stock_ids = {id(wrapper) for wrapper in stock}
    # Wrappers that are ours already are copied like any other layer.
    replaced = [
        (old, new)
        for old, new in zip(
            _found(layer, (Stock, SpectralNormalization)),
            _found(twin, SpectralNormalization),
            strict=True,
        )
        if id(old) in stock_ids
    ]
    copy_weights(
        layer,
        twin,
        dropped=[old.vector_u for old, _ in replaced],
        added=[u for _, new in replaced for u in own_weights(new)],
    )
    for old, new in replaced:
        _copy_vector(old, new)


def _copy_vector(old: Layer, new: SpectralNormalization) -> None:
    new.refresh()
    if len(new.vectors_u) == 1:
        new.take_vector_u(ops.convert_to_numpy(old.vector_u))


def _found(layer: Layer, classes: Classes) -> list[Layer]:
    return [part for part in all_layers(layer) if isinstance(part, classes)]


def _how_to_upgrade(layer: Layer) -> str:
    return (
        f"Layer '{layer.name}' ({type(layer).__name__}) creates "
        "keras.layers.SpectralNormalization in its own code, which no "
        "copy can change. Import the wrapper from `keras_sn.layers` "
        "there, load the weights and call `refresh()` on each wrapper."
    )
