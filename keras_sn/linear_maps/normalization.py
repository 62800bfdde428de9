"""Linear map of BatchNormalization: a number per channel."""

import keras

from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight


@register_linear_map(keras.layers.BatchNormalization)
def batch_normalization(layer, norm):
    """`gamma` as a diagonal; nothing where the layer has no scale."""
    if not layer.scale:
        return []
    weight = AppliedWeight(layer, "gamma")
    return [MatrixMap(weight, blocks=weight.shape[0], columns=1)]
