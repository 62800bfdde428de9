"""Rules of the preprocessing and augmentation layers."""

import keras

from keras_sn.keras_access import known_layers
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import REGISTER
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.lipschitz.rules.wrappers import inner_piece

# Augmentations that return their input unchanged unless training.
AUGMENTATIONS = (
    "AugMix",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)
for _name in AUGMENTATIONS:
    register_rule(getattr(keras.layers, _name), "1", "identity at inference")(
        lambda layer, call: Identity()
    )

_DISCRETE = "Its output is discrete or its input is, so there is no slope."
_REST = "Bound the rest of the model, from its outputs on."
for _name in (
    "CategoryEncoding",
    "Discretization",
    "HashedCrossing",
    "Hashing",
    "IntegerLookup",
    "StringLookup",
    "TextVectorization",
    "MaxNumBoundingBoxes",
):
    refuse(getattr(keras.layers, _name), _DISCRETE, _REST)

_HISTOGRAM = (
    "It stretches each image by its own histogram, with a slope that has no "
    "bound on nearly flat images."
)
for _kind in known_layers(
    "AutoContrast",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Equalization",
):
    refuse(_kind, _HISTOGRAM, _REST)

refuse(
    keras.layers.Solarization,
    "It inverts values above a threshold and jumps there.",
    _REST,
)
refuse(
    keras.layers.RandomCrop,
    "At inference it resizes and crops by the shape of the input.",
    "Use CenterCrop or Resizing on the data.",
)
for _name in ("MelSpectrogram", "STFTSpectrogram"):
    refuse(
        getattr(keras.layers, _name),
        "No constant is known for a spectrogram; in decibels its slope has no "
        "bound.",
        _REST,
    )


@register_rule(
    keras.layers.Pipeline, "product of its layers", "inf if one has none"
)
def pipeline(layer: keras.layers.Pipeline, call: Call) -> list[Piece] | Piece:
    pieces: list[Piece] = []
    for inner in layer.layers:
        # Shapes inside of a pipeline are not recorded.
        piece = inner_piece(inner, call, None)
        if piece.reason:
            return unbounded(piece.reason, REGISTER)
        pieces.append(piece)
    return pieces or Identity()
