"""NormPooling: pooling that keeps the norm of the image."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_sn.layers.layer_arguments import check_counts

# Under the root, where the slope of a root alone would be infinite.
_FLOOR = 1e-12


@keras.saving.register_keras_serializable(package="keras_sn")
class NormPooling2D(keras.layers.Layer):
    """The l2 norm of each window, in place of its mean or its maximum.

    The windows do not overlap. The sum of squares of the output is that of
    the input, up to 1e-12 for each window, where average pooling loses what
    varies within a window.

    Guarantee: the Lipschitz constant is at most 1.

    Args:
        pool_size: Size of a window, one integer or two. Rows and columns
            that fill no window are left out, as with `padding="valid"`.
        data_format: `"channels_last"` or `"channels_first"`. `None`: as in
            `keras.config.image_data_format()`.
        **kwargs: `name`, `dtype`: as for any layer.

    Input shape: `(batch, height, width, channels)`. Output shape: the same
    with height and width divided by `pool_size`.

    Raises:
        ValueError: If `pool_size` is out of range.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import NormPooling2D
    >>> x = np.array([3.0, 0.0, 0.0, 4.0]).reshape(1, 2, 2, 1)
    >>> round(float(NormPooling2D()(x)[0, 0, 0, 0]), 5)
    5.0

    Reference:

    - [Boureau et al., 2010](https://www.di.ens.fr/willow/pdfs/icml2010b.pdf)
    """

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = check_counts(self, "pool_size", pool_size, 2)
        self.data_format = keras.config.image_data_format()
        if data_format is not None:
            self.data_format = data_format
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        # Squares of half precision would leave its range.
        wide = ops.cast(inputs, self.variable_dtype)
        means = ops.average_pool(
            wide * wide,
            self.pool_size,
            strides=self.pool_size,
            data_format=self.data_format,
        )
        squares = means * math.prod(self.pool_size)
        return ops.cast(ops.sqrt(squares + _FLOOR), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = list(input_shape)
        first = 2 if self.data_format == "channels_first" else 1
        for axis, pool in enumerate(self.pool_size, start=first):
            if shape[axis] is not None:
                shape[axis] //= pool
        return tuple(shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "data_format": self.data_format,
        }
