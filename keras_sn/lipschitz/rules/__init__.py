"""Rules: the Lipschitz constant of each Keras layer, with its source."""

# The modules register their rules when imported.
# ruff: noqa: F401
from keras_sn.lipschitz.rules import activations
from keras_sn.lipschitz.rules import linear
from keras_sn.lipschitz.rules import merging
from keras_sn.lipschitz.rules import normalization
from keras_sn.lipschitz.rules import own_layers
from keras_sn.lipschitz.rules import pooling
from keras_sn.lipschitz.rules import preprocessing
from keras_sn.lipschitz.rules import resampling
from keras_sn.lipschitz.rules import sequences
from keras_sn.lipschitz.rules import shaping
from keras_sn.lipschitz.rules import wrappers
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import pieces_of
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.lipschitz.rules.registry import rules

__all__ = ["Call", "pieces_of", "register_rule", "rules"]
