"""normalize_model: a copy of a model with its layers wrapped."""

import fnmatch

import keras

from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.models.budget import spread_budget
from keras_sn.models.graph_copy import check_built
from keras_sn.models.graph_copy import copy_graph
from keras_sn.models.graph_copy import copy_weights
from keras_sn.models.graph_copy import paired_leaves
from keras_sn.models.layer_config import rebuilt


def normalize_model(model, layers=None, lipschitz=None, **options):
    """A copy of a model with its layers wrapped in `SpectralNormalization`.

    The weights are copied, and normalized from the first call on. Layers
    that are wrapped already stay as they are, so normalizing twice is
    normalizing once. A wrapper takes the name of its layer, so `get_layer`
    and the names of outputs stay valid. The model given stays as it is.

    Models inside the model are opened; any other layer is wrapped whole,
    with all its kernels (`Bidirectional`, `MultiHeadAttention`, a layer of
    your own).

    Args:
        model: A built Sequential or Functional model, or a layer, such as a
            subclassed model, which is wrapped whole.
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
        pairs = paired_leaves(model, copy)
        new = [twin for layer, twin in pairs if id(layer) in chosen]
        spread_budget(copy, new, lipschitz)
    return copy


def _wrapped_copy(model, chosen):
    """The copy with the layers of `{id(layer): options}` wrapped."""

    def replace(layer):
        if id(layer) in chosen:
            return _wrapped(layer, chosen[id(layer)])
        return rebuilt(layer)

    copy = copy_graph(model, replace)
    for layer, twin in paired_leaves(model, copy):
        if id(layer) in chosen:
            copy_weights(layer, twin.layer)
            twin.refresh()
        else:
            copy_weights(layer, twin)
    return copy


def _wrapped(layer, options):
    return SpectralNormalization(
        rebuilt(layer),
        **{
            "name": layer.name,
            "dtype": layer.dtype_policy,
            "trainable": layer.trainable,
            **options,
        },
    )


def _chosen(model, rules, options):
    """Dict `{id(layer): options of its wrapper}`."""
    leaves = [layer for layer, _ in paired_leaves(model, model)]
    chosen = {}
    used = set()
    for layer in leaves:
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
    _check_used(model, rules, used, leaves)
    wrapped = any(isinstance(layer, SpectralNormalization) for layer in leaves)
    if not chosen and not wrapped:
        raise ValueError(
            f"There is no layer to normalize in model '{model.name}': none of "
            f"{_names(leaves)} has a kernel. Choose layers with `layers`, and "
            "their weights with `weight_names`."
        )
    return chosen


def can_be_wrapped(layer, options):
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


def _rules(layers):
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


def _bad_layers(received):
    return (
        "`layers` takes a layer class, a pattern for names, a function, a list "
        "of these, or a dict from these to dicts of options (or None). "
        f"Received: {received!r}"
    )


def _has_no_gamma(layer):
    return not isinstance(layer, keras.layers.BatchNormalization)


def _first_fitting(layer, rules):
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


def _check_used(model, rules, used, leaves):
    for selector in rules:
        if selector not in used and selector is not _has_no_gamma:
            raise ValueError(
                f"{selector!r} in `layers` fits no layer of model "
                f"'{model.name}' that can be normalized. Its layers are "
                f"{_names(leaves)}."
            )


def _names(leaves):
    return [f"{layer.name} ({type(layer).__name__})" for layer in leaves]


def _check_options(options, lipschitz):
    if lipschitz is None:
        return
    if not isinstance(lipschitz, (int, float)) or not 0 < lipschitz < float(
        "inf"
    ):
        raise ValueError(
            "`lipschitz` must be a positive, finite number. "
            f"Received: lipschitz={lipschitz!r}"
        )
    taken = {"norm", "norm_bound"} & set(options)
    if taken:
        raise ValueError(
            f"`lipschitz` chooses {sorted(taken)} itself; leave it out."
        )
