"""Householder: the activation that reflects pairs of features."""

import math
from typing import Any

import keras
from keras import ops

from keras_sn.layers.group_sort import check_divisible
from keras_sn.layers.group_sort import merge_axis
from keras_sn.layers.group_sort import split_axis


@keras.saving.register_keras_serializable(package="keras_sn")
class Householder(keras.layers.Layer):
    """Reflects the pairs of features that lie behind a learned line.

    A pair `z` of neighbouring features is left alone where `v . z >= 0`, and
    becomes `z - 2 (v . z) v` elsewhere, with a unit vector `v` for each pair.
    It keeps the norm of every gradient, as `GroupSort(2)` does, which it is
    before training but for the order: the larger of two comes first.

    Guarantee: the Lipschitz constant is exactly 1, up to what the dtype makes
    of the length of `v`, which `lipschitz_bound` counts.

    Args:
        axis: The axis of the features, an even number.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input and output shape: any, the same.

    Raises:
        ValueError: When built, if the number of features is odd.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import Householder
    >>> x = np.array([[3.0, 1.0, -2.0, 5.0]])
    >>> outputs = keras.ops.convert_to_numpy(Householder()(x))
    >>> outputs.round(5).tolist()
    [[3.0, 1.0, 5.0, -2.0]]

    Reference:

    - [Singla, Singla & Feizi, 2022](https://arxiv.org/abs/2108.04062)
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        check_divisible(self, input_shape, self.axis, 2)
        self.angle = self.add_weight(
            shape=(input_shape[self.axis] // 2,),
            initializer=keras.initializers.Constant(-math.pi / 4),
            autocast=False,
            name="angle",
        )

    @property
    def vectors(self):
        """The unit vectors that are applied, `(pairs, 2)`."""
        angle = ops.convert_to_tensor(self.angle)
        vectors = ops.stack([ops.cos(angle), ops.sin(angle)], axis=-1)
        return ops.cast(vectors, self.compute_dtype)

    def call(self, inputs):
        pairs = split_axis(inputs, self.axis, 2)
        vectors = self.vectors
        behind = ops.relu(-ops.sum(pairs * vectors, axis=-1, keepdims=True))
        return merge_axis(pairs + 2 * behind * vectors, inputs, self.axis)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}
