"""Rules of the layers that merge several inputs."""

import keras

from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.pieces.merge import repetitions
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule


@register_rule(keras.layers.Add, "sum of the branches")
def add(layer: keras.layers.Layer, call: Call) -> Piece | Merge:
    weights = [1.0] * len(call.shapes or [])
    return elementwise("sum", "sum of the branches", call, weights=weights)


@register_rule(keras.layers.Subtract, "sum of the branches")
def subtract(layer: keras.layers.Layer, call: Call) -> Piece | Merge:
    weights = [1.0, -1.0]
    return elementwise("sum", "sum of the branches", call, weights=weights)


@register_rule(keras.layers.Average, "sum of the branches / n")
def average(layer: keras.layers.Layer, call: Call) -> Piece | Merge:
    count = len(call.shapes) if call.shapes else 1
    return elementwise(
        "sum", "sum of the branches / n", call, 1 / count, [1 / count] * count
    )


@register_rule(keras.layers.Maximum, "root of the sum of squares")
@register_rule(keras.layers.Minimum, "root of the sum of squares")
def extremum(layer: keras.layers.Layer, call: Call) -> Piece | Merge:
    return elementwise("stack", "root of the sum of squares", call)


@register_rule(keras.layers.Concatenate, "root of the sum of squares")
def concatenate(layer: keras.layers.Layer, call: Call) -> Merge:
    return Merge("stack", "root of the sum of squares", axis=layer.axis)


def elementwise(
    kind: str,
    source: str,
    call: Call,
    scale: float = 1.0,
    weights: list[float] | None = None,
) -> Piece | Merge:
    """The merge of inputs that broadcasting makes equal in shape.

    Args:
        kind: As for `Merge`.
        source: As for `Merge`.
        call: The `Call`.
        scale: What each input is multiplied by, in size.
        weights: That with signs, if the layer combines them linearly.
    """
    if not call.shapes:
        return unbounded(
            "How many inputs it merges is not known, nor their shapes.",
            "Bound a model around it.",
        )
    factors = repetitions(call.shapes, call.output_shape)
    if factors is None:
        return unbounded(
            "Inputs of different shapes are broadcast over an open axis.",
            "Fix the shapes in `keras.Input`.",
        )
    if max(factors) > 1:
        weights = None
    factors = [scale * factor for factor in factors]
    return Merge(kind, source, factors, weights)


_PRODUCT = "A product of two inputs has a slope that grows with the inputs."
_BOUND_BOTH = (
    "Bound the factors (sigmoid, tanh) and register a rule for the gate as a "
    "layer, or use Add."
)
refuse(keras.layers.Multiply, _PRODUCT, _BOUND_BOTH)
refuse(keras.layers.Dot, _PRODUCT, _BOUND_BOTH)
