"""BatchCentering: BatchNormalization without the division."""

from typing import Any

import keras
from keras import ops

from keras_sn.layers.layer_arguments import refusal


@keras.saving.register_keras_serializable(package="keras_sn")
class BatchCentering(keras.layers.Layer):
    """Subtracts the mean of each channel, and adds a learned bias.

    In place of a BatchNormalization in a network of bounded layers: what is
    behind sees centred inputs, and nothing is amplified. In training the mean
    is that of the batch, at inference a moving average.

    Guarantee: at inference a shift, of the Lipschitz constant 1. In training
    a projection of the batch and a shift.

    Args:
        axis: The axis of the channels.
        momentum: Of the moving average.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input and output shape: any, the same.

    Raises:
        ValueError: If `momentum` is not between 0 and 1.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import BatchCentering
    >>> x = np.array([[1.0, 5.0], [3.0, 9.0]])
    >>> outputs = BatchCentering()(x, training=True)
    >>> keras.ops.convert_to_numpy(outputs).tolist()
    [[-1.0, -2.0], [1.0, 2.0]]

    Reference:

    - [Boissin et al., 2025](https://arxiv.org/abs/2501.08139)
    """

    def __init__(
        self, axis: int = -1, momentum: float = 0.99, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= momentum <= 1:
            demand = "`momentum` must be between 0 and 1."
            raise refusal(self, demand, momentum=momentum)
        self.axis = axis
        self.momentum = momentum
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        shape = (input_shape[self.axis],)
        self.beta = self.add_weight(
            shape=shape, initializer="zeros", autocast=False, name="beta"
        )
        self.moving_mean = self.add_weight(
            shape=shape,
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="mean",
            name="moving_mean",
        )

    def call(self, inputs, training: bool | None = None):
        axis = self.axis % len(inputs.shape)
        mean = self.moving_mean.value
        if training and self.trainable:
            others = [i for i in range(len(inputs.shape)) if i != axis]
            wide = ops.cast(inputs, self.variable_dtype)
            mean = ops.mean(wide, axis=others)
            self.moving_mean.assign(
                self.momentum * self.moving_mean
                + (1 - self.momentum) * ops.stop_gradient(mean)
            )
        shape = [1] * len(inputs.shape)
        shape[axis] = -1
        shift = ops.cast(self.beta - mean, self.compute_dtype)
        return inputs + ops.reshape(shift, shape)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
        }
