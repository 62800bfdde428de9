"""Spectral normalization and Lipschitz constants for Keras 3."""

from keras_sn import layers
from keras_sn import linear_maps
from keras_sn import lipschitz
from keras_sn import losses
from keras_sn import metrics
from keras_sn import models
from keras_sn import norms
from keras_sn.layers import SpectralNormalization
from keras_sn.norms import NormBounds
from keras_sn.norms import spectral_norm
from keras_sn.version import __version__

__all__ = [
    "NormBounds",
    "SpectralNormalization",
    "__version__",
    "layers",
    "linear_maps",
    "lipschitz",
    "losses",
    "metrics",
    "models",
    "norms",
    "spectral_norm",
]
