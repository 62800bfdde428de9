"""InvertibleDownsampling: positions moved into channels."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_sn.layers.layer_arguments import check_counts


@keras.saving.register_keras_serializable(package="keras_sn")
class InvertibleDownsampling2D(keras.layers.Layer):
    """Makes an image smaller without losing any of it: space to depth.

    Each window becomes one position with the channels of all its positions.

    Guarantee: an isometry, the Lipschitz constant is exactly 1.

    Args:
        pool_size: Size of a window, one integer or two; the image must be a
            multiple of it.
        data_format: `"channels_last"` or `"channels_first"`. `None`: as in
            `keras.config.image_data_format()`.
        **kwargs: `name`, `dtype`: as for any layer.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch,
    height / pool, width / pool, pool * pool * channels)`.

    Raises:
        ValueError: If `pool_size` is out of range; when built, if the image
            is no multiple of it.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import InvertibleDownsampling2D
    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> outputs = InvertibleDownsampling2D()(x)
    >>> keras.ops.convert_to_numpy(outputs).tolist()
    [[[[0.0, 1.0, 2.0, 3.0]]]]

    Reference:

    - [Jacobsen et al., 2018](https://arxiv.org/abs/1802.07088)
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

    @property
    def _first_axis(self) -> int:
        return 2 if self.data_format == "channels_first" else 1

    def build(self, input_shape: tuple) -> None:
        sizes = input_shape[self._first_axis : self._first_axis + 2]
        for size, pool in zip(sizes, self.pool_size, strict=True):
            if size is not None and size % pool:
                raise ValueError(
                    f"Layer '{self.name}' moves whole windows of "
                    f"{self.pool_size} into channels, so height and width "
                    "must be multiples. Received an input of the shape "
                    f"{tuple(input_shape)}. Pad or crop it before "
                    "(`keras.layers.ZeroPadding2D`)."
                )

    def call(self, inputs):
        first = self.data_format == "channels_first"
        if first:
            inputs = ops.moveaxis(inputs, 1, -1)
        high, wide = self.pool_size
        _, height, width, _ = ops.shape(inputs)
        channels = inputs.shape[-1]
        windows = ops.reshape(
            inputs, (-1, height // high, high, width // wide, wide, channels)
        )
        windows = ops.transpose(windows, (0, 1, 3, 2, 4, 5))
        outputs = ops.reshape(
            windows,
            (-1, height // high, width // wide, high * wide * channels),
        )
        return ops.moveaxis(outputs, -1, 1) if first else outputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = list(input_shape)
        for axis, pool in enumerate(self.pool_size, start=self._first_axis):
            if shape[axis] is not None:
                shape[axis] //= pool
        shape[1 if self._first_axis == 2 else -1] *= math.prod(self.pool_size)
        return tuple(shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "data_format": self.data_format,
        }
