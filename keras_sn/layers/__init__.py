"""Layers that control the norm of other layers' weights."""

from keras_sn.layers.spectral_normalization import SpectralNormalization

__all__ = ["SpectralNormalization"]
