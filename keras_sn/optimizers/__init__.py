"""Optimizers that know which linear maps they train."""

from keras_sn.optimizers.muon import Muon

__all__ = ["Muon"]
