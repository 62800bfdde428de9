"""Where a spectral norm means nothing: directly before a normalization."""

import warnings
from typing import Any

import keras
from keras.layers import Layer

from keras_sn.keras_access import history
from keras_sn.keras_access import is_graph
from keras_sn.keras_access import nodes
from keras_sn.layers.joint_batch_normalization import JointBatchNormalization
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.layers.weight_normalization import WeightNormalization
from keras_sn.models.baking import wrapper_maps

_ALWAYS = (
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)


def void_normalizations(model: Layer) -> list[tuple[Layer, Layer]]:
    """The normalized layers whose norm the layer behind them takes out again.

    A BatchNormalization that is trained, a LayerNormalization, Group- or
    RMSNormalization divides by the size of what it gets. Dividing the kernel
    directly before it by a number changes nothing but the effective learning
    rate (and the weight of a bias). Models inside the model are opened, and
    those that are wrapped whole.

    Args:
        model: A built Sequential or Functional model; nothing is known of any
            other.

    Returns:
        List of `(layer, normalization)`: the normalized layer, a
        `SpectralNormalization` or one in a model that is wrapped whole, and
        the layer that makes it void.

    Example:

    >>> import keras
    >>> from keras_sn.layers import SpectralNormalization
    >>> from keras_sn.models import void_normalizations
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     SpectralNormalization(keras.layers.Dense(3), name="hidden"),
    ...     keras.layers.LayerNormalization(name="norm"),
    ... ])
    >>> [(a.name, b.name) for a, b in void_normalizations(model)]
    [('hidden', 'norm')]
    """
    return _pairs(model, None) if is_graph(model) else _inside(model)


def warn_of_void_normalizations(model: Layer) -> None:
    """Warns of each of `void_normalizations`, and says what to do instead."""
    for layer, normalization in void_normalizations(model):
        warnings.warn(_message(layer, normalization), stacklevel=3)


def _pairs(
    model: Any, wrapper: SpectralNormalization | None
) -> list[tuple[Layer, Layer]]:
    """The pairs in a graph, which `wrapper` may wrap whole."""
    found, seen = [], set()
    for node, operation in nodes(model):
        if is_graph(operation) and id(operation) not in seen:
            found += _pairs(operation, wrapper)
        elif isinstance(operation, SpectralNormalization):
            found += _inside(operation) if id(operation) not in seen else []
        if _divides_by_size(operation):
            for tensor in node.arguments.keras_tensors:
                before, _ = history(tensor)
                if _is_normalized(before, wrapper) and _ends_linear(before):
                    found.append((before, operation))
        seen.add(id(operation))
    return found


def _inside(layer: Layer) -> list[tuple[Layer, Layer]]:
    joint = isinstance(layer, JointBatchNormalization)
    if joint or not isinstance(layer, SpectralNormalization):
        return []
    return _pairs(layer.layer, layer) if is_graph(layer.layer) else []


def _divides_by_size(operation: keras.Operation) -> bool:
    if isinstance(operation, keras.layers.BatchNormalization):
        # A frozen one multiplies by constants.
        return bool(operation.trainable)
    return isinstance(operation, _ALWAYS)


def _is_normalized(layer: Any, wrapper: SpectralNormalization | None) -> bool:
    if wrapper is None:
        joint = isinstance(layer, JointBatchNormalization)
        return isinstance(layer, SpectralNormalization) and not joint
    return any(m.weights[0].layer is layer for m in wrapper_maps(wrapper))


def _ends_linear(layer: Any) -> bool:
    """Whether the output of a layer scales with its kernel."""
    while isinstance(layer, (SpectralNormalization, WeightNormalization)):
        layer = layer.layer
    linear_maps = (
        keras.layers.Dense,
        keras.layers.EinsumDense,
        keras.layers.Embedding,
    )
    is_convolution = hasattr(layer, "kernel_size") and hasattr(layer, "rank")
    activation = getattr(layer, "activation", None)
    return (isinstance(layer, linear_maps) or is_convolution) and (
        activation in (None, keras.activations.linear)
    )


def _message(layer: Layer, normalization: Layer) -> str:
    kind = type(normalization).__name__
    if isinstance(normalization, keras.layers.BatchNormalization):
        way_out = (
            "Bound the two as one map, with keras_sn.layers."
            f"JointBatchNormalization in place of '{layer.name}' and "
            f"'{normalization.name}'"
        )
    else:
        way_out = f"Take '{normalization.name}' out"
    return (
        f"Normalizing layer '{layer.name}' has no effect on what the model "
        f"computes: '{normalization.name}' ({kind}), directly behind it, "
        f"divides by the size of what it gets. {way_out}, or leave "
        f"'{layer.name}' as it is (`layers={{'{layer.name}': None, ...}}` of "
        "normalize_model)."
    )
