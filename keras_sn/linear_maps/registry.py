"""Which linear maps a layer's weights define: the registry and its walk."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator

import keras

from keras_sn.keras_access import own_weights
from keras_sn.keras_access import sublayers
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.subclasses import overridden_names
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.weights import unique_keys
from keras_sn.linear_maps.wrapped import is_normalizing

Builder = Callable[[keras.layers.Layer, str], list[LinearMap]]

_BUILDERS: dict[type, Builder] = {}
_NORMS = ("kernel", "operator")
# Names that the stock layer and common custom layers give to what they
# multiply their input with.
_KERNEL_NAMES = ("kernel", "recurrent_kernel", "embeddings")


def register_linear_map(layer_class: type) -> Callable[[Builder], Builder]:
    """Registers the builder of the linear maps of a layer class.

    The builder takes a built layer and `norm` (`"kernel"` or `"operator"`)
    and returns the list of `LinearMap` of the layer's own weights; the
    sublayers of the layer are visited on their own.

    A layer registered here is normalized, certified, bounded as part of a
    network and folded like a layer of Keras. For the network bound it must be
    affine in its input: with a single map `A` it computes `f(A x + b)`, where
    `f` is its attribute `activation` if it has one, and `b` does not depend
    on the input. (Anything else needs `keras_sn.lipschitz.register_rule`,
    which comes first.) With several maps, which a layer may combine in any
    way, no bound of the network is claimed.

    The builder also serves subclasses that have none themselves; where a
    certificate is given, only those that replace nothing but configuration.

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

    def register(builder: Builder) -> Builder:
        _BUILDERS[layer_class] = builder
        return builder

    return register


def registered_classes() -> set[type]:
    """The classes with a linear map."""
    return set(_BUILDERS)


def nearest_class(
    layer: keras.layers.Layer, classes: Collection[type]
) -> type | None:
    """The class of a layer or its nearest base, of those given, or `None`.

    Whether the layer still computes what that one does is for
    `overridden_names` to tell.
    """
    return next((cls for cls in type(layer).__mro__ if cls in classes), None)


def why_unknown(layer: keras.layers.Layer) -> str | None:
    """Why it is not known which map a layer applies; `None` if it is."""
    kind = type(layer).__name__
    base = nearest_class(layer, _BUILDERS)
    if base is None:
        return f"no linear map is registered for {kind} layers"
    overridden = overridden_names(layer, base)
    if overridden:
        names = ", ".join(f"'{name}'" for name in overridden)
        return f"{kind} replaces {names} of {base.__name__}"
    return None


def own_maps(
    layer: keras.layers.Layer, norm: str, known: Collection[int] = ()
) -> list[LinearMap]:
    """The linear maps of a layer itself, without those of its sublayers.

    Args:
        layer: A built layer.
        norm: `"kernel"`: weights by their customary names will do.
            `"operator"`: what the layer applies, so it must be known.
        known: Identities of variables of which the layer around has told.

    Raises:
        ValueError: If it has such weights, but what it does with them is not
            known.
    """
    base = nearest_class(layer, _BUILDERS)
    reason = why_unknown(layer) if norm == "operator" else None
    if base is not None and reason is None:
        return _BUILDERS[base](layer, norm)
    maps = [
        m for m in _any_kernel(layer) if id(m.weights[0].variable) not in known
    ]
    if maps and reason is not None:
        raise ValueError(
            f"It is not known which linear map layer '{layer.name}' applies: "
            f"{reason}. Register it with "
            "`keras_sn.linear_maps.register_linear_map"
            f"({type(layer).__name__})`, or use norm='kernel' for the norm of "
            f"its weight {maps[0].path!r} as a matrix."
        )
    return maps


def maps_of(layer: keras.layers.Layer, norm: str) -> list[LinearMap]:
    """The linear maps of a layer and its sublayers, one for each weight.

    Weights are told apart by identity: their paths may be equal.

    Args:
        layer: A built layer or model.
        norm: `"kernel"` or `"operator"`.

    Returns:
        List of `LinearMap` with a variable to scale, in the order of the
        layers.

    Raises:
        ValueError: As for `linear_maps`.
    """
    pairs = maps_and_reasons(layer, norm, strict=True)
    return [linear_map for linear_map, _ in pairs]


def maps_and_reasons(
    layer: keras.layers.Layer, norm: str, strict: bool = False
) -> list[tuple[LinearMap, str | None]]:
    """The same, and with them the kernels of layers that are not known.

    Args:
        layer: A built layer or model.
        norm: `"kernel"` or `"operator"`.
        strict: Whether to raise for layers that are not known.

    Returns:
        List of `(linear_map, reason)`. Where there is a reason why it is not
        known what a layer applies, the map is of its kernel as a matrix.

    Raises:
        ValueError: If the layer is not built, or `norm` is unknown; if
            `strict`, as for `linear_maps`.
    """
    check_norm(norm)
    if not layer.built:
        raise ValueError(
            f"Layer '{layer.name}' is not built, so it has no weights yet. "
            "Call it on data or call `layer.build(input_shape)` first."
        )
    found: dict[int, tuple[LinearMap, str | None]] = {}
    taken: set[int] = set()
    for sublayer in walk(layer):
        reason = None
        try:
            maps = own_maps(sublayer, norm, found)
        except ValueError as error:
            if strict:
                raise
            maps, reason = own_maps(sublayer, "kernel", found), str(error)
        for linear_map in maps:
            variable, *others = [w.variable for w in linear_map.weights]
            # A layer knows better than its sublayer what a weight is for.
            if variable is not None and id(variable) not in taken:
                found.setdefault(id(variable), (linear_map, reason))
            taken.update(id(other) for other in others)
    return list(found.values())


def linear_maps(
    layer: keras.layers.Layer, norm: str = "operator"
) -> dict[str, LinearMap]:
    """The linear maps that the weights of a layer define.

    Args:
        layer: A built Keras layer or model; its sublayers are visited too.
        norm: `"operator"`: the map the layer applies. `"kernel"`: the kernel
            reshaped to a matrix, the choice of Miyato et al.

    Returns:
        Dict `{path of the weight: LinearMap}`, in the order of the layers.
        Where several weights have the same path, `"#2"`, `"#3"`, ... is added
        to those of the second and further.

    Raises:
        ValueError: If the layer is not built, or `norm` is unknown; or with
            `norm="operator"` if it holds a layer with a kernel that no map is
            registered for, or a subclass that replaces more of a registered
            class than its configuration: what that applies is not known.

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
    maps = maps_of(layer, norm)
    keys = unique_keys(linear_map.path for linear_map in maps)
    return dict(zip(keys, maps, strict=True))


def check_norm(norm: str) -> None:
    """Raises `ValueError` unless `norm` names a norm."""
    if norm not in _NORMS:
        raise ValueError(
            f"`norm` must be one of {list(_NORMS)}. Received: norm={norm!r}"
        )


def walk(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
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


def _any_kernel(layer: keras.layers.Layer) -> list[LinearMap]:
    """Maps for unknown layers: matrices by their customary names."""
    matrices = {v.name for v in own_weights(layer) if len(v.shape) > 1}
    return [
        MatrixMap(AppliedWeight(layer, name))
        for name in _KERNEL_NAMES
        if name in matrices
    ]
