"""Whole models: normalize, fold, upgrade, export."""

from keras_sn.models.export.exporting import export_model
from keras_sn.models.folding import fold_model
from keras_sn.models.normalizing import normalize_model
from keras_sn.models.upgrading import upgrade_model

__all__ = ["export_model", "fold_model", "normalize_model", "upgrade_model"]
