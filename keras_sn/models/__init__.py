"""Whole models: normalize, report, fold, upgrade, export."""

from keras_sn.models.export.exporting import export_model
from keras_sn.models.folding import fold_model
from keras_sn.models.norm_report import NormReport
from keras_sn.models.norm_report import norm_report
from keras_sn.models.normalizing import normalize_model
from keras_sn.models.scale_invariance import void_normalizations
from keras_sn.models.upgrading import upgrade_model

__all__ = [
    "NormReport",
    "export_model",
    "fold_model",
    "norm_report",
    "normalize_model",
    "upgrade_model",
    "void_normalizations",
]
