"""normalize_model: a copy of a model with its layers wrapped."""

import fnmatch
from collections.abc import Callable
from typing import Any

import keras
from keras.layers import Layer

from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.models.budget import spread_budget
from keras_sn.models.graph_copy import GraphCopy
from keras_sn.models.graph_copy import check_built
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.graph_copy import leaves
from keras_sn.models.layer_config import rebuilt_or_shared
from keras_sn.models.scale_invariance import warn_of_void_normalizations

Options = dict[str, Any]
Selector = type[Layer] | str | Callable[[Layer], bool]
Rules = dict[Selector, Options | None]
Layers = Selector | list[Selector] | tuple[Selector, ...] | Rules | None


def normalize_model(
    model: Layer,
    layers: Layers = None,
    lipschitz: float | None = None,
    **options: Any,
) -> Layer:
    """A copy of a model with its layers wrapped in `SpectralNormalization`.

    The weights are copied, and normalized from the first call on. Layers
    that are wrapped already stay as they are, so normalizing twice is
    normalizing once. A wrapper takes the name of its layer, so `get_layer`
    and the names of outputs stay valid. The model given stays as it is.

    Models inside the model are opened; any other layer is wrapped whole,
    with all its kernels (`Bidirectional`, `MultiHeadAttention`, a layer of
    your own). The copy of a Functional model of another class, such as a
    task of keras-hub, is a `keras.Model` of its graph, unless that class is
    made from inputs and outputs too; a warning says what is lost. A layer
    that Keras cannot make anew from its config is shared with the model
    given, with a warning. So is told where normalizing has no effect: a layer
    directly before a BatchNormalization or the like (see
    `void_normalizations`).

    Args:
        model: A built Sequential or Functional model, or a layer, such as a
            subclassed model, which is wrapped whole. To have the layers of a
            subclassed model wrapped one by one, make a Functional model of
            its code: `keras.Model(inputs, model.call(inputs))` with
            `inputs = keras.Input(shape)`.
        layers: Which layers to wrap.

            - `None`: all that have a kernel, that is a dense, convolutional,
              recurrent, attention or embedding layer, or a layer of your own
              that holds one; not the `gamma` of a normalization layer.
            - A layer class, or a pattern for the name of the layer
              (`"block1_*"`, as in `fnmatch`), or a function that takes the
              layer and returns whether to wrap it; or a list of these.
            - A dict from these to the options of the layers they fit,
              `{"logits": None, keras.layers.Conv2D: {"norm": "operator"}}`.
              The first that fits counts; `None` leaves the layer alone.
        lipschitz: A Lipschitz constant for the whole network. The
            `norm_bound` of each new wrapper is chosen so that
            `fold_model(copy, certified=True)` has a certified Lipschitz
            constant (`keras_sn.lipschitz.lipschitz_bound`) of at most this,
            also after training, as far as the wrapped weights go. Implies
            `norm="operator"`.
        **options: Arguments of `SpectralNormalization` for all new wrappers;
            options of a rule go first.

    Returns:
        The copy, compiled like the model given.

    Raises:
        ValueError: If the model is not built, no layer fits, or a rule fits
            none that can be wrapped; if the budget cannot be kept, naming
            the layer in the way.

    Example:

    >>> import keras
    >>> from keras_sn.models import normalize_model
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(2, name="logits"),
    ... ])
    >>> normalized = normalize_model(model, layers={
    ...     keras.layers.Conv2D: {"norm": "operator"},
    ...     "logits": {"norm_bound": 5.0},
    ... })
    >>> [layer.__class__.__name__ for layer in normalized.layers]
    ['SpectralNormalization', 'Flatten', 'SpectralNormalization']
    """
    check_built(model)
    _check_options(options, lipschitz)
    if lipschitz is not None:
        options = {**options, "norm": "operator"}
    chosen = _chosen(model, _rules(layers), options)
    copy = _wrapped_copy(model, chosen)
    if lipschitz is not None:
        new = [twin for layer, twin in copy.leaves if id(layer) in chosen]
        spread_budget(copy.model, new, lipschitz)
    warn_of_void_normalizations(copy.model)
    return copy.model


def _wrapped_copy(model: Layer, chosen: dict[int, Options]) -> GraphCopy:
    """The copy with the layers of `{id(layer): options}` wrapped."""

    def replace(layer: Layer) -> Layer:
        if id(layer) in chosen:
            return _wrapped(layer, chosen[id(layer)])
        return rebuilt_or_shared(layer)

    copy = copy_graph(model, replace)
    for layer, twin in copy.leaves:
        if id(layer) in chosen:
            copy_weights(layer, twin.layer)
            twin.refresh()
        else:
            copy_weights(layer, twin)
    return copy


def _wrapped(layer: Layer, options: Options) -> SpectralNormalization:
    return SpectralNormalization(
        rebuilt_or_shared(layer),
        **{
            "name": layer.name,
            "dtype": layer.dtype_policy,
            "trainable": layer.trainable,
            **options,
        },
    )


def _chosen(model: Layer, rules: Rules, options: Options) -> dict[int, Options]:
    """Dict `{id(layer): options of its wrapper}`."""
    candidates = list(leaves(model))
    chosen: dict[int, Options] = {}
    used: set[Selector | None] = set()
    for layer in candidates:
        rule = _first_fitting(layer, rules)
        if rule is None or isinstance(layer, SpectralNormalization):
            used.add(rule)
            continue
        own_options = rules[rule]
        if own_options is None:
            used.add(rule)
        elif can_be_wrapped(layer, {**options, **own_options}):
            used.add(rule)
            chosen[id(layer)] = {**options, **own_options}
    _check_used(model, rules, used, candidates)
    wrapped = any(
        isinstance(layer, SpectralNormalization) for layer in candidates
    )
    if not chosen and not wrapped:
        raise ValueError(
            f"There is no layer to normalize in model '{model.name}': none of "
            f"{_names(candidates)} has a kernel. Choose layers with `layers`, "
            "and their weights with `weight_names`."
        )
    return chosen


def can_be_wrapped(layer: Layer, options: Options) -> bool:
    """Whether there is something to normalize in a layer."""
    if options.get("weight_names"):
        return True
    if isinstance(layer, keras.layers.SpectralNormalization):
        return False
    maps = linear_maps(layer, "kernel").values()
    return any(
        m.weights[0].layer is layer
        or not isinstance(m.weights[0].layer, keras.layers.BatchNormalization)
        for m in maps
    )


def _rules(layers: Layers) -> Rules:
    """`layers` as a dict `{selector: options}`."""
    if layers is None:
        return {_has_no_gamma: {}}
    if isinstance(layers, dict):
        rules = layers
    elif isinstance(layers, (list, tuple)):
        rules = {selector: {} for selector in layers}
    else:
        rules = {layers: {}}
    for selector, options in rules.items():
        is_class = isinstance(selector, type) and issubclass(
            selector, keras.layers.Layer
        )
        if not (isinstance(selector, str) or is_class or callable(selector)):
            raise ValueError(_bad_layers(selector))
        if options is not None and not isinstance(options, dict):
            raise ValueError(_bad_layers(options))
    return rules


def _bad_layers(received: Any) -> str:
    return (
        "`layers` takes a layer class, a pattern for names, a function, a list "
        "of these, or a dict from these to dicts of options (or None). "
        f"Received: {received!r}"
    )


def _has_no_gamma(layer: Layer) -> bool:
    return not isinstance(layer, keras.layers.BatchNormalization)


def _first_fitting(layer: Layer, rules: Rules) -> Selector | None:
    for selector in rules:
        if isinstance(selector, str):
            fits = fnmatch.fnmatchcase(layer.name, selector)
        elif isinstance(selector, type):
            fits = isinstance(layer, selector)
        else:
            fits = selector(layer)
        if fits:
            return selector
    return None


def _check_used(
    model: Layer,
    rules: Rules,
    used: set[Selector | None],
    candidates: list[Layer],
) -> None:
    for selector in rules:
        if selector not in used and selector is not _has_no_gamma:
            raise ValueError(
                f"{selector!r} in `layers` fits no layer of model "
                f"'{model.name}' that can be normalized. Its layers are "
                f"{_names(candidates)}."
            )


def _names(layers: list[Layer]) -> list[str]:
    return [f"{layer.name} ({type(layer).__name__})" for layer in layers]


def _check_options(options: Options, lipschitz: Any) -> None:
    if lipschitz is None:
        return
    if not isinstance(lipschitz, (int, float)) or not 0 < lipschitz < float(
        "inf"
    ):
        raise ValueError(
            "`lipschitz` must be a positive, finite number. "
            f"Received: lipschitz={lipschitz!r}"
        )
    if options.get("gain"):
        raise ValueError(
            "A learned `gain` would leave the budget of `lipschitz`; pass one "
            "of the two."
        )
    taken = {"norm", "norm_bound"} & set(options)
    if taken:
        raise ValueError(
            f"`lipschitz` chooses {sorted(taken)} itself; leave it out."
        )
