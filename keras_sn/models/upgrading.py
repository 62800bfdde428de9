"""upgrade_model: the wrapper of Keras becomes ours, state kept."""

import os

import keras
import numpy as np
from keras import ops

from keras_sn.keras_access import sublayers
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.models.files import load_model
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.graph_copy import paired_leaves
from keras_sn.models.layer_config import layer_config_of_stock
from keras_sn.models.layer_config import rebuilt
from keras_sn.models.layer_config import upgraded


def upgrade_model(model):
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
    if isinstance(model, (str, os.PathLike)):
        model = load_model(model)
    copy = copy_graph(model, _upgraded_layer)
    found = 0
    for layer, twin in paired_leaves(model, copy):
        stock = _stock_wrappers(layer)
        _check_upgraded(layer, twin)
        _copy_state(layer, twin, stock)
        found += len(stock)
    if not found:
        raise ValueError(
            f"There is no keras.layers.SpectralNormalization in model "
            f"'{model.name}', so there is nothing to upgrade."
        )
    return copy


def _upgraded_layer(layer):
    if isinstance(layer, keras.layers.SpectralNormalization):
        inner = rebuilt(layer.layer, upgraded)
        return SpectralNormalization(inner, **layer_config_of_stock(layer))
    return rebuilt(layer, upgraded)


def _copy_state(layer, twin, stock):
    ours = _pairs_of_wrappers(layer, twin)
    stock_ids = {id(w) for w in stock}
    new = [w for old, w in ours if id(old) in stock_ids]
    copy_weights(
        layer,
        twin,
        dropped=[w.vector_u for w in stock],
        added=[u for w in new for u in w.vectors_u.values()],
    )
    for old, wrapper in ours:
        if id(old) in stock_ids:
            _copy_vector(old, wrapper)


def _copy_vector(old, wrapper):
    wrapper.refresh()
    vectors = list(wrapper.vectors_u.values())
    vector = np.asarray(ops.convert_to_numpy(old.vector_u), "float32")
    # Otherwise the two normalize different matrices: groups, depthwise.
    if len(vectors) == 1 and tuple(vectors[0].shape) == vector.shape:
        vectors[0].assign(vector)


def _stock_wrappers(layer):
    return _found(layer, keras.layers.SpectralNormalization)


def _pairs_of_wrappers(layer, twin):
    """Pairs each wrapper, stock or ours, with the one in its place."""
    both = (keras.layers.SpectralNormalization, SpectralNormalization)
    return list(
        zip(
            _found(layer, both),
            _found(twin, SpectralNormalization),
            strict=True,
        )
    )


def _found(layer, classes):
    found = [layer] if isinstance(layer, classes) else []
    for inner in sublayers(layer):
        found.extend(_found(inner, classes))
    return list({id(w): w for w in found}.values())


def _check_upgraded(layer, twin):
    if _stock_wrappers(twin):
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) creates "
            "keras.layers.SpectralNormalization in its own code, which no "
            "copy can change. Import the wrapper from `keras_sn.layers` "
            "there, load the weights and call `refresh()` on each wrapper."
        )
