"""Rules of the layers that move, drop or repeat numbers, and of noise."""

import math

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import Flatten
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Rearrangement
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.pooling import framed
from keras_sn.lipschitz.rules.pooling import moved
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule

_INFERENCE = "identity at inference"

for _name in (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "InputLayer",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
):
    register_rule(getattr(keras.layers, _name), "1", _INFERENCE)(
        lambda layer, call: Identity()
    )

for _name in ("Cropping1D", "Cropping2D", "Cropping3D"):
    register_rule(getattr(keras.layers, _name), "1", "padding or cropping")(
        lambda layer, call: framed(layer, "isometry on what is kept", -1)
    )

for _name in ("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"):
    register_rule(getattr(keras.layers, _name), "1", "padding or cropping")(
        lambda layer, call: framed(layer, "isometry on what is kept", 1)
    )

for _name in ("Permute", "Reshape"):
    register_rule(getattr(keras.layers, _name), "1", "isometry")(
        lambda layer, call: Rearrangement()
    )


@register_rule(keras.layers.Flatten, "1", "isometry")
def flatten(layer: keras.layers.Flatten, call: Call) -> Flatten:
    shape = call.shape
    sizes = [] if shape is None else [n for n in shape[1:] if n is not None]
    if shape is None or len(shape) < 3 or len(sizes) < len(shape) - 1:
        return Flatten(None, None)
    first = layer.data_format == "channels_first"
    axis, channels = (1, sizes[0]) if first else (-1, sizes[-1])
    positions = math.prod(sizes) // max(channels, 1)
    # Keras flattens channels last, whatever the format.
    return Flatten(np.tile(np.arange(channels), positions), axis)


@register_rule(keras.layers.RepeatVector, "sqrt(n)", "repetition")
def repeat_vector(layer: keras.layers.RepeatVector, call: Call) -> Piece:
    return repetition_piece(layer.n)


def repetition_piece(times: int) -> Piece:
    """The piece of what repeats each number so many times."""
    # A root is rounded to the nearest.
    piece = Piece(math.sqrt(times) * (1 + 1e-15), "sqrt(n)")
    piece.roundings, piece.terms = 0.0, 1
    return piece


refuse(
    keras.layers.Masking,
    "Masking drops time steps that equal a value, so it jumps there.",
    "Bound the model without it.",
)
refuse(
    keras.layers.Lambda,
    "A Lambda layer computes anything.",
    "Write it as a layer and register a rule for it with "
    "`keras_sn.lipschitz.register_rule`.",
)


@register_rule(keras.layers.CenterCrop, "1", "inf where the input is smaller")
def center_crop(layer: keras.layers.CenterCrop, call: Call) -> Piece:
    size = None if call.shape is None else call.shape[-3:-1]
    if getattr(layer, "data_format", None) == "channels_first":
        size = None if call.shape is None else call.shape[-2:]
    if size is None or None in size:
        return unbounded(
            "CenterCrop resizes smaller inputs, and the input size is open.",
            "Fix the spatial size in `keras.Input`.",
        )
    if size[0] < layer.height or size[1] < layer.width:
        return unbounded(
            "CenterCrop resizes this input, which is smaller than the crop.",
            "Use Resizing.",
        )
    return moved(layer, "cropping")
