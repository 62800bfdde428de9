"""Which linear maps a layer's weights define: the registry and its walk."""

import keras

from keras_sn.keras_access import own_weights
from keras_sn.keras_access import sublayers
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.wrapped import is_normalizing

_BUILDERS: dict = {}
_NORMS = ("kernel", "operator")
# Names that the stock layer and common custom layers give to what they
# multiply their input with.
_KERNEL_NAMES = ("kernel", "recurrent_kernel", "embeddings")


def register_linear_map(layer_class):
    """Registers the builder of the linear maps of a layer class.

    The builder takes a built layer and `norm` (`"kernel"` or `"operator"`)
    and returns the list of `LinearMap` of the layer's own weights; the
    sublayers of the layer are visited on their own. It also serves
    subclasses that have no builder themselves.

    Args:
        layer_class: Subclass of `keras.layers.Layer`.

    Returns:
        A decorator for the builder.

    Raises:
        TypeError: If `layer_class` is no Keras layer class.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import (
    ...     AppliedWeight, MatrixMap, linear_maps, register_linear_map)
    >>> class Scaled(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.matrix = self.add_weight(
    ...             shape=(input_shape[-1], 3), name="matrix")
    ...     def call(self, inputs):
    ...         return keras.ops.matmul(inputs, self.matrix)
    >>> @register_linear_map(Scaled)
    ... def scaled(layer, norm):
    ...     return [MatrixMap(AppliedWeight(layer, "matrix"))]
    >>> layer = Scaled(name="scaled")
    >>> layer.build((None, 2))
    >>> linear_maps(layer)
    {'scaled/matrix': <MatrixMap scaled/matrix: (2,) -> (3,)>}
    """
    if not (
        isinstance(layer_class, type)
        and issubclass(layer_class, keras.layers.Layer)
    ):
        raise TypeError(
            "`register_linear_map` takes a subclass of `keras.layers.Layer`. "
            f"Received: {layer_class!r}"
        )

    def register(builder):
        _BUILDERS[layer_class] = builder
        return builder

    return register


def builder_of(layer):
    """The builder registered for the layer's class or its nearest base."""
    for cls in type(layer).__mro__:
        if cls in _BUILDERS:
            return _BUILDERS[cls]
    return _any_kernel


def linear_maps(layer, norm="operator"):
    """The linear maps that the weights of a layer define.

    Args:
        layer: A built Keras layer or model; its sublayers are visited too.
        norm: `"operator"`: the map the layer applies. `"kernel"`: the kernel
            reshaped to a matrix, the choice of Miyato et al.

    Returns:
        Dict `{path of the weight: LinearMap}`, in the order of the layers.

    Raises:
        ValueError: If the layer is not built, or `norm` is unknown.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import linear_maps
    >>> layer = keras.layers.Dense(3, name="dense")
    >>> layer.build((None, 2))
    >>> linear_maps(layer)
    {'dense/kernel': <MatrixMap dense/kernel: (2,) -> (3,)>}

    Reference:

    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957)
    """
    check_norm(norm)
    if not layer.built:
        raise ValueError(
            f"Layer '{layer.name}' is not built, so it has no weights yet. "
            "Call it on data or call `layer.build(input_shape)` first."
        )
    maps: dict = {}
    for sublayer in walk(layer):
        for linear_map in builder_of(sublayer)(sublayer, norm):
            # A layer knows better than its sublayer what a weight is for.
            maps.setdefault(linear_map.path, linear_map)
    return maps


def check_norm(norm):
    """Raises `ValueError` unless `norm` names a norm."""
    if norm not in _NORMS:
        raise ValueError(
            f"`norm` must be one of {list(_NORMS)}. Received: norm={norm!r}"
        )


def walk(layer):
    """Yields the layer and its sublayers, each once, parents first.

    A layer that says `normalizes_itself` is left out with all it holds: its
    weights are normalized already.
    """
    seen = set()
    pending = [layer]
    while pending:
        current = pending.pop(0)
        if id(current) in seen or is_normalizing(current):
            continue
        seen.add(id(current))
        yield current
        pending = sublayers(current) + pending


def _any_kernel(layer, norm):
    """Builder for unregistered layers: weights by their customary names."""
    del norm
    maps = []
    for name in _KERNEL_NAMES:
        if any(v.name == name and len(v.shape) > 1 for v in own_weights(layer)):
            maps.append(MatrixMap(AppliedWeight(layer, name)))
    return maps
