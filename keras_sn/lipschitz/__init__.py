"""Lipschitz constants of whole networks: bounds, certificates, rules."""

from keras_sn.lipschitz.bound import lipschitz_bound
from keras_sn.lipschitz.certificates import certified_radius
from keras_sn.lipschitz.conformal import RobustConformalSets
from keras_sn.lipschitz.report import LipschitzReport
from keras_sn.lipschitz.rules import register_rule

__all__ = [
    "LipschitzReport",
    "RobustConformalSets",
    "certified_radius",
    "lipschitz_bound",
    "register_rule",
]
