"""Linear map of BatchNormalization: a number per channel."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_sn.fast_ops import reshaped
from keras_sn.linear_maps.arrays import EPS
from keras_sn.linear_maps.arrays import TINY
from keras_sn.linear_maps.arrays import functions_of
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.weights import ArrayWeight
from keras_sn.linear_maps.weights import Weight


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

    def __init__(
        self, gamma: Weight, variance: Weight, epsilon: float, axis: int = -1
    ):
        super().__init__(gamma, blocks=gamma.shape[0], columns=1)
        self.weights = (gamma, variance)
        self.epsilon = epsilon
        self.axis = axis
        self.domain_shape = self.codomain_shape = tuple(gamma.shape)

    def diagonal(self, values=None):
        """The number of each channel, array or tensor."""
        gamma, variance = self.values() if values is None else values
        # An infinity is an answer, no reason for a warning.
        on_host = isinstance(variance, np.ndarray)
        with (
            np.errstate(divide="ignore", invalid="ignore")
            if on_host
            else contextlib.nullcontext()
        ):
            return gamma / functions_of(variance).sqrt(variance + self.epsilon)

    def matrices(self, values=None):
        return reshaped(self.diagonal(values), self.block_shape)

    def weight_of(self, matrices, values=None):
        _, variance = self.values() if values is None else values
        deviation = functions_of(variance).sqrt(variance + self.epsilon)
        return reshaped(matrices, tuple(variance.shape)) * deviation

    def rounding(self, values: tuple[np.ndarray, ...]) -> float:
        largest = np.abs(self.diagonal(values)).max(initial=0.0)
        return float(8 * EPS * largest + TINY)

    def matvec(self, inputs, values=None):
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        return inputs * ops.reshape(self.diagonal(values), shape)

    def rmatvec(self, outputs, values=None):
        return self.matvec(outputs, values)


@register_linear_map(keras.layers.BatchNormalization)
def batch_normalization(layer, norm):
    """`gamma` as a diagonal; where there is none, a map of fixed ones."""
    variance = AppliedWeight(layer, "moving_variance")
    gamma: Weight
    if layer.scale:
        gamma = AppliedWeight(layer, "gamma")
    else:
        gamma = ArrayWeight(np.ones(variance.shape, "float32"), layer.path)
    if norm == "kernel":
        return [MatrixMap(gamma, blocks=gamma.shape[0], columns=1)]
    return [BatchNormalizationMap(gamma, variance, layer.epsilon, layer.axis)]
