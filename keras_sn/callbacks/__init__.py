"""Callbacks: norms and Lipschitz bounds in the logs, clipped attention."""

from keras_sn.callbacks.monitors import LipschitzMonitor
from keras_sn.callbacks.monitors import SpectralNormMonitor
from keras_sn.callbacks.qk_clip import QKClip

__all__ = ["LipschitzMonitor", "QKClip", "SpectralNormMonitor"]
