"""Spectral normalization and Lipschitz constants for Keras 3."""

from keras_sn.version import __version__

__all__ = ["__version__"]
