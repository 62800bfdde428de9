"""Linear map of BatchNormalization: a number per channel."""

import keras
import numpy as np
from keras import ops

from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight


class BatchNormalizationMap(MatrixMap):
    """`gamma / sqrt(moving_variance + epsilon)` as a diagonal.

    What BatchNormalization applies at inference, a block per channel.

    Args:
        gamma: The scale; it is the weight to scale.
        variance: The moving variance.
        epsilon: What the layer adds to the variance.
        axis: The axis of the channels in a batch.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import linear_maps
    >>> layer = keras.layers.BatchNormalization(epsilon=0.0, name="norm")
    >>> layer.build((None, 2))
    >>> _ = layer.moving_variance.assign([4.0, 0.25])
    >>> linear_maps(layer)["norm/gamma"].blocks().ravel().tolist()
    [0.5, 2.0]
    """

    def __init__(self, gamma, variance, epsilon, axis=-1):
        super().__init__(gamma, blocks=gamma.shape[0], columns=1)
        self.weights = (gamma, variance)
        self.epsilon = epsilon
        self.axis = axis
        self.domain_shape = self.codomain_shape = tuple(gamma.shape)

    def block_tensor(self, values=None, grid=None):
        del grid
        gamma, variance = self.values() if values is None else values
        diagonal = gamma / ops.sqrt(variance + self.epsilon)
        return ops.reshape(diagonal, self.block_shape)

    def matvec(self, inputs, values=None):
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        return inputs * ops.reshape(self.block_tensor(values), shape)

    def rmatvec(self, outputs, values=None):
        return self.matvec(outputs, values)

    def blocks(self, grid=None, values=None):
        del grid
        gamma, variance = (
            np.asarray(ops.convert_to_numpy(value), dtype="float64")
            for value in (self.values() if values is None else values)
        )
        diagonal = gamma / np.sqrt(variance + self.epsilon)
        return diagonal.reshape(self.block_shape)


@register_linear_map(keras.layers.BatchNormalization)
def batch_normalization(layer, norm):
    """`gamma` as a diagonal; nothing where the layer has no scale."""
    if not layer.scale:
        return []
    gamma = AppliedWeight(layer, "gamma")
    if norm == "kernel":
        return [MatrixMap(gamma, blocks=gamma.shape[0], columns=1)]
    variance = AppliedWeight(layer, "moving_variance")
    return [BatchNormalizationMap(gamma, variance, layer.epsilon, layer.axis)]
