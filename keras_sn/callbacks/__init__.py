"""Callbacks: norms and bounds in the logs, clipped attention, covariances."""

from keras_sn.callbacks.covariance import ResetCovariance
from keras_sn.callbacks.monitors import LipschitzMonitor
from keras_sn.callbacks.monitors import SpectralNormMonitor
from keras_sn.callbacks.qk_clip import QKClip

__all__ = [
    "LipschitzMonitor",
    "QKClip",
    "ResetCovariance",
    "SpectralNormMonitor",
]
