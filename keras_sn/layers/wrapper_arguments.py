"""Checks of the arguments of SpectralNormalization."""

import numbers
from collections.abc import Sequence
from typing import Any

from keras_sn.layers.signatures import is_cell
from keras_sn.layers.weight_selection import BIDIRECTIONAL

_NORMS = ("kernel", "operator", BIDIRECTIONAL)
_MODES = ("normalize", "clip")


def check_arguments(
    layer: Any,
    power_iterations: Any,
    norm: Any,
    mode: Any,
    weight_names: Any,
    gain: Any,
    update_every: Any,
) -> None:
    """Raises `ValueError` for the first argument that is out of range."""
    name = getattr(layer, "name", None)
    where = f"(wrapper of layer '{name}')"
    integer = isinstance(power_iterations, numbers.Integral)
    if not integer or power_iterations <= 0:
        raise ValueError(
            "`power_iterations` should be greater than zero. Received: "
            f"`power_iterations={power_iterations}` {where}"
        )
    if norm not in _NORMS:
        raise ValueError(
            f"`norm` must be one of {list(_NORMS)}. Received: norm={norm!r} "
            f"{where}"
        )
    if mode not in _MODES:
        raise ValueError(
            f"`mode` must be one of {list(_MODES)}. Received: mode={mode!r} "
            f"{where}"
        )
    if weight_names is not None and (
        isinstance(weight_names, str)
        or not isinstance(weight_names, Sequence)
        or not weight_names
        or not all(isinstance(name, str) for name in weight_names)
    ):
        raise ValueError(
            "`weight_names` must be a non-empty list of names or paths of "
            f"weights, or None. Received: weight_names={weight_names!r} {where}"
        )
    if not isinstance(gain, bool):
        raise ValueError(
            f"`gain` of the wrapper of layer '{name}' must be True (a number "
            "is learned for each weight) or False. Received: "
            f"gain={gain!r}"
        )
    integer = isinstance(update_every, numbers.Integral)
    if not integer or isinstance(update_every, bool) or update_every < 1:
        raise ValueError(
            f"`update_every` of the wrapper of layer '{name}' must be a "
            "positive integer, the number of training calls of which one "
            f"updates the state. Received: update_every={update_every!r}"
        )
    if is_cell(layer):
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) is an RNN cell. A "
            "cell runs inside a compiled loop, where the state of a wrapper "
            "cannot be kept up to date. Wrap the RNN instead: "
            f"SpectralNormalization(keras.layers.RNN({type(layer).__name__}"
            "(...)))."
        )


def check_keywords(layer: Any, keywords: dict[str, Any]) -> None:
    """Raises `ValueError` for what only `Bidirectional` passes.

    It makes a copy that runs backwards by a change of the config, which a
    wrapper cannot know how to hand on.
    """
    if "go_backwards" in keywords:
        kind = type(layer).__name__
        raise ValueError(
            "`Bidirectional` cannot run a SpectralNormalization backwards. "
            "Wrap the other way round: SpectralNormalization("
            f"keras.layers.Bidirectional({kind}(...))) normalizes the weights "
            "of both directions."
        )
