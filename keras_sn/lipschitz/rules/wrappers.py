"""Rules of the layers that wrap other layers."""

import math

import keras

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import REGISTER
from keras_sn.lipschitz.rules.registry import pieces_of
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule


@register_rule(
    keras.layers.TimeDistributed, "that of the layer", "a block per time step"
)
def time_distributed(layer, call):
    shape = call.shape
    inner = None if shape is None else (shape[0], *shape[2:])
    return inner_piece(layer.layer, call, inner)


def inner_piece(layer, call, shape):
    """A layer inside of a layer as one piece, with the reason if `inf`."""
    constant, reason = call.constant_of(layer, shape, call.overrides)
    if math.isinf(constant):
        return unbounded(f"Layer '{layer.name}' inside: {reason}")
    return Piece(constant, f"that of '{layer.name}'", UPPER)


@register_rule(
    keras.layers.Bidirectional,
    "concat: root of the sum of squares; sum: sum; ave: mean",
    "of the two directions",
)
def bidirectional(layer, call):
    directions = (layer.forward_layer, layer.backward_layer)
    pieces = [inner_piece(inner, call, call.shape) for inner in directions]
    for piece in pieces:
        if math.isinf(piece.constant):
            return piece
    constants = [piece.constant for piece in pieces]
    mode = layer.merge_mode
    if mode == "mul":
        return unbounded(
            "merge_mode='mul' multiplies the two directions.",
            "Use 'concat', 'sum' or 'ave'.",
        )
    if mode in ("sum", "ave"):
        scale = 1.0 if mode == "sum" else 0.5
        return Piece(scale * sum(constants) * (1 + 1e-15), mode, UPPER)
    return Piece(math.hypot(*constants) * (1 + 1e-15), "concat", UPPER)


@register_rule(
    keras.layers.SpectralNormalization,
    "that of the layer",
    "its kernel as it is: at inference the stock layer normalizes nothing",
)
def stock_spectral_normalization(layer, call):
    return pieces_of(
        layer.layer,
        Call(call.shapes, {}, call.overrides, call.constant_of),
    )


for _name, _what in {
    "Layer": "The base class computes nothing itself.",
    "Wrapper": "A Wrapper may do anything with the layer it holds.",
    "JaxLayer": "It runs JAX code that cannot be looked into.",
    "FlaxLayer": "It runs Flax code that cannot be looked into.",
    "TorchModuleWrapper": "It runs a PyTorch module, not looked into.",
    "TFSMLayer": "It runs a TensorFlow graph that cannot be looked into.",
}.items():
    refuse(getattr(keras.layers, _name), _what, REGISTER)
