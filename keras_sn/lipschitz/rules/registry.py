"""Which rule bounds which layer: the registry, and what a rule is told."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.registry import nearest_class
from keras_sn.linear_maps.registry import registered_classes
from keras_sn.linear_maps.subclasses import overridden_names
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.rules.call import Call

Pieces = list[Piece] | Merge

REGISTER = (
    "Register a rule for it with `keras_sn.lipschitz.register_rule`, if you "
    "know a constant."
)


@dataclasses.dataclass
class Rule:
    """A rule and what the documentation says about it.

    Attributes:
        function: Takes `(layer, call)`.
        formula: The constant, as text.
        note: Source or reason, as text.
        owner: The class or function it was registered for.
        constants: Names of arguments besides the first that it allows for,
            as long as they are constants.
        refuses: Whether it says why there is no constant, and no more.
    """

    function: Callable[[Any, Call], Any]
    formula: str | None
    note: str | None
    owner: Any
    constants: tuple[str, ...] = ()
    refuses: bool = False

    @property
    def knows_inputs_alone(self) -> bool:
        """Whether it bounds what a layer does to its first argument alone.

        A rule of the user's for a layer of the user's knows all arguments.
        """
        in_keras = self.owner.__module__.startswith("keras.")
        return in_keras or self.owner is LinearMap


# Largest relative error of rounding to them.
_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
_RULES: dict[Any, Rule] = {}
_LINEAR_RULE: list[Rule] = []


def register_rule(
    target: Any,
    formula: str | None = None,
    note: str | None = None,
    constants: tuple[str, ...] = (),
) -> Callable[[Callable], Callable]:
    """Registers the rule that bounds a layer's Lipschitz constant.

    The rule takes `(layer, call)`: the built layer and a `Call`, which knows
    the shapes of the inputs (`call.shapes`) and reads weights in float64
    (`call.weight(layer, "kernel")`). It returns an upper bound of the
    Lipschitz constant in the l2 norm as a number, or `math.inf`; of a layer
    with several inputs, masks among them, with respect to all of them
    together. It also serves subclasses that replace nothing but
    configuration.

    Args:
        target: Subclass of `keras.layers.Layer`, or an activation function.
        formula: The constant as text, for reports and documentation.
        note: Where the formula comes from.
        constants: For a layer of Keras's own, the arguments besides the first
            that the rule allows for, if they are no tensors of the graph.

    Returns:
        A decorator for the rule.

    Raises:
        TypeError: If `target` is neither a layer class nor a function.

    Example:

    >>> import keras
    >>> from keras_sn.lipschitz import lipschitz_bound, register_rule
    >>> class Halve(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return inputs / 2
    >>> model = keras.Sequential([keras.Input((3,)), Halve()])
    >>> lipschitz_bound(model, lower=False).upper
    inf
    >>> @register_rule(Halve)
    ... def halve(layer, call):
    ...     return 0.5
    >>> round(lipschitz_bound(model, lower=False).upper, 6)
    0.5
    """
    is_layer = isinstance(target, type) and issubclass(
        target, keras.layers.Layer
    )
    if not is_layer and (isinstance(target, type) or not callable(target)):
        raise TypeError(
            "`register_rule` takes a subclass of `keras.layers.Layer` or an "
            f"activation function. Received: {target!r}"
        )

    def register(function: Callable) -> Callable:
        _RULES[target] = Rule(function, formula, note, target, constants)
        return function

    return register


def refuse(target: Any, reason: str, way_out: str = REGISTER) -> None:
    """Registers that a layer has no finite constant, and why."""
    _RULES[target] = Rule(
        lambda layer, call: unbounded(reason, way_out),
        "inf",
        reason,
        target,
        refuses=True,
    )


def register_linear_rule(function: Callable) -> Callable:
    """Registers the rule of every layer that has a registered linear map."""
    _LINEAR_RULE[:] = [
        Rule(function, "|A|", "the norm of its linear map", LinearMap)
    ]
    return function


def find_rule(layer: keras.layers.Layer) -> Rule | None:
    """The rule of a layer's class, or `None`.

    That of a base class serves a subclass only if it replaces nothing but
    configuration: a rule for `Dense` says nothing of a subclass that computes
    something else.
    """
    base = _known_class(layer)
    if base is None or overridden_names(layer, base):
        return None
    return _RULES[base] if base in _RULES else _LINEAR_RULE[0]


def _known_class(layer: keras.layers.Layer) -> Any:
    return nearest_class(layer, _RULES.keys() | registered_classes())


def _why_no_rule(layer: keras.layers.Layer) -> str:
    kind, base = type(layer).__name__, _known_class(layer)
    if base in (None, keras.layers.Layer, keras.layers.Wrapper):
        return f"No rule is known for a {kind} layer."
    names = ", ".join(f"'{n}'" for n in overridden_names(layer, base))
    return (
        f"No rule is known for a {kind} layer: it replaces {names} of "
        f"{base.__name__}, so it may compute something else."
    )


def function_rule(function: Any) -> Rule | None:
    """The rule of an activation function, or `None`."""
    try:
        return _RULES.get(function)
    except TypeError:
        return None


def rules() -> dict[Any, Rule]:
    """All rules by the class or function they were registered for."""
    return dict(_RULES)


def pieces_of(layer: keras.layers.Layer, call: Call) -> Pieces:
    """What a layer does: a list of pieces, or a `Merge`.

    Args:
        layer: A built layer.
        call: The `Call`.

    Returns:
        List of `Piece`, or `Merge` if the layer has several inputs.
    """
    rule = find_rule(layer)
    kind = type(layer).__name__
    if rule is None:
        return [unbounded(_why_no_rule(layer), REGISTER)]
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        return [
            unbounded(
                f"A quantized layer ('{mode}') rounds its numbers, so it is "
                "not continuous.",
                "Bound the model before quantizing it.",
            )
        ]
    refusal = _refused_argument(layer, rule, call.arguments)
    if refusal is not None and not rule.refuses:
        return [refusal]
    pieces = as_pieces(rule.function(layer, call), rule, kind)
    if isinstance(pieces, Merge):
        return pieces
    return [*pieces, *_roundings_of_a_wrapper(layer, call)]


def _roundings_of_a_wrapper(
    layer: keras.layers.Layer, call: Call
) -> list[Piece]:
    """What 16 bits do to weights that a wrapper replaces.

    It may round the weight, the factor and their product: each entry by at
    most four roundings, which moves the norm by that times the root of the
    rank, or of taps times rank.
    """
    if layer.compute_dtype not in _UNITS:
        return []
    unit, pieces = _UNITS[layer.compute_dtype], []
    for variable in layer.weights:
        if id(variable) in call.overrides:
            ends = max(variable.shape[-2:])
            rank = math.prod(variable.shape) / max(ends, 1)
            excess = 1 + 4 * unit * math.sqrt(rank)
            pieces.append(
                Piece(excess, "16-bit weights", UPPER, channelwise=False)
            )
    return pieces


def _refused_argument(
    layer: keras.layers.Layer, rule: Rule, arguments: dict[str, Any]
) -> Piece | None:
    """The reason not to use a rule, if an argument of the call gives one."""
    for name, value in arguments.items():
        if name == "training":
            # Keras records the default of the layers that augment.
            if value is True and _default(layer, name) is not True:
                return unbounded(
                    "It is called with `training=True`.",
                    "The bounds hold at inference: leave the argument out.",
                )
            continue
        if not rule.knows_inputs_alone:
            # Whoever wrote the layer wrote the rule for all its arguments.
            continue
        values = [v for v in keras.tree.flatten(value) if v is not None]
        symbolic = any(isinstance(v, keras.KerasTensor) for v in values)
        allowed = name in rule.constants and not symbolic
        if values and value is not False and not allowed:
            return unbounded(
                f"It is called with `{name}`, and its rule bounds what it "
                "does to its inputs alone.",
                f"Leave `{name}` out, or write it as a layer and register a "
                "rule with `keras_sn.lipschitz.register_rule`.",
            )
    return None


def _default(layer: keras.layers.Layer, name: str) -> Any:
    parameter = inspect.signature(layer.call).parameters.get(name)
    return None if parameter is None else parameter.default


def as_pieces(result: Any, rule: Rule, kind: str) -> Pieces:
    """What a rule returned, as a list of pieces or a merge."""
    if isinstance(result, Merge):
        return result
    if isinstance(result, (list, tuple)):
        return list(result)
    if isinstance(result, Piece):
        return [result]
    value = float(result)
    if math.isnan(value) or value < 0:
        raise ValueError(
            f"The rule for {kind} returned {result!r}; a Lipschitz "
            "constant is a non-negative number or `inf`."
        )
    source = rule.formula or f"rule registered for {kind}"
    reason = rule.note or "Its registered rule says so."
    return [Piece(value, source, UPPER, reason if math.isinf(value) else None)]
