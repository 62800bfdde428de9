"""Which rule bounds which layer: the registry, and what a rule is told."""

import math

import keras

from keras_sn.linear_maps.arrays import float64
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.registry import nearest_class
from keras_sn.linear_maps.registry import registered_classes
from keras_sn.linear_maps.subclasses import overridden_names
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.wrapped import applied_value
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Merge
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded

_RULES: dict = {}
_LINEAR_RULE: list = []

REGISTER = (
    "Register a rule for it with `keras_sn.lipschitz.register_rule`, if you "
    "know a constant."
)


class Rule:
    """A rule and what the documentation says about it.

    Attributes:
        function: Takes `(layer, call)`.
        formula: The constant, as text.
        note: Source or reason, as text.
        owner: The class or function it was registered for.
    """

    def __init__(self, function, formula, note, owner):
        self.function = function
        self.formula = formula
        self.note = note
        self.owner = owner


class Call:
    """One use of a layer, as a rule sees it.

    Args:
        shapes: Shapes of the inputs, batch axis first, `None` where open;
            `None` altogether if nothing is known.
        arguments: Keyword arguments of the call.
        overrides: `{id(variable): tensor}` of weights that a wrapper
            replaces.
        output_shape: Shape of the output, or `None`.
        constant_of: Function of `(layer, shape, overrides)` for the constant
            of a layer inside of the layer.
    """

    def __init__(
        self,
        shapes=None,
        arguments=None,
        overrides=None,
        constant_of=None,
        output_shape=None,
    ):
        self.shapes = shapes
        self.arguments = arguments or {}
        self.overrides = overrides or {}
        self.constant_of = constant_of
        self.output_shape = output_shape

    @property
    def shape(self):
        """Shape of the first input, or `None`."""
        return self.shapes[0] if self.shapes else None

    @property
    def rank(self):
        return None if self.shape is None else len(self.shape)

    def weight(self, layer, name):
        """The weight that the layer applies, a float64 array."""
        return self.value(AppliedWeight(layer, name))

    def value(self, weight):
        """What is applied as a weight of a linear map, a float64 array."""
        return float64(applied_value(weight, self.overrides))


def register_rule(target, formula=None, note=None):
    """Registers the rule that bounds a layer's Lipschitz constant.

    The rule takes `(layer, call)`: the built layer and a `Call`, which knows
    the shapes of the inputs (`call.shapes`) and reads weights in float64
    (`call.weight(layer, "kernel")`). It returns an upper bound of the
    Lipschitz constant in the l2 norm as a number, or `math.inf`; of a layer
    with several inputs, with respect to all of them together. It also serves
    subclasses that replace nothing but configuration.

    Args:
        target: Subclass of `keras.layers.Layer`, or an activation function.
        formula: The constant as text, for reports and documentation.
        note: Where the formula comes from.

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

    def register(function):
        _RULES[target] = Rule(function, formula, note, target)
        return function

    return register


def refuse(target, reason, way_out=REGISTER):
    """Registers that a layer has no finite constant, and why."""
    register_rule(target, "inf", reason)(
        lambda layer, call: unbounded(reason, way_out)
    )


def register_linear_rule(function):
    """Registers the rule of every layer that has a registered linear map."""
    _LINEAR_RULE[:] = [
        Rule(function, "|A|", "the norm of its linear map", LinearMap)
    ]
    return function


def find_rule(layer):
    """The rule of a layer's class, or `None`.

    That of a base class serves a subclass only if it replaces nothing but
    configuration: a rule for `Dense` says nothing of a subclass that computes
    something else.
    """
    base = _known_class(layer)
    if base is None or overridden_names(layer, base):
        return None
    return _RULES[base] if base in _RULES else _LINEAR_RULE[0]


def _known_class(layer):
    return nearest_class(layer, _RULES.keys() | registered_classes())


def _why_no_rule(layer):
    kind, base = type(layer).__name__, _known_class(layer)
    if base in (None, keras.layers.Layer, keras.layers.Wrapper):
        return f"No rule is known for a {kind} layer."
    names = ", ".join(f"'{n}'" for n in overridden_names(layer, base))
    return (
        f"No rule is known for a {kind} layer: it replaces {names} of "
        f"{base.__name__}, so it may compute something else."
    )


def function_rule(function):
    """The rule of an activation function, or `None`."""
    try:
        return _RULES.get(function)
    except TypeError:
        return None


def rules():
    """All rules by the class or function they were registered for."""
    return dict(_RULES)


def pieces_of(layer, call):
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
    if call.arguments.get("training") is True:
        return [
            unbounded(
                "It is called with `training=True`.",
                "The bounds hold at inference: leave the argument out.",
            )
        ]
    return as_pieces(rule.function(layer, call), rule, kind, call)


def as_pieces(result, rule, kind, call):
    """What a rule returned, as a list of pieces or a merge."""
    if isinstance(result, Merge):
        return result
    if not isinstance(result, (list, tuple)):
        constant = result if isinstance(result, Piece) else None
        if constant is None:
            value = float(result)
            if math.isnan(value) or value < 0:
                raise ValueError(
                    f"The rule for {kind} returned {result!r}; a Lipschitz "
                    "constant is a non-negative number or `inf`."
                )
            source = rule.formula or f"rule registered for {kind}"
            reason = rule.note or "Its registered rule says so."
            constant = Piece(
                value, source, UPPER, reason if math.isinf(value) else None
            )
        result = [constant]
    return list(result)
