"""GroupSort: the activation that sorts its features in groups; MaxMin."""

from typing import Any

import keras
from keras import ops

from keras_sn.layers.layer_arguments import check_count


@keras.saving.register_keras_serializable(package="keras_sn")
class GroupSort(keras.layers.Layer):
    """Sorts neighbouring features, in groups, from small to large.

    It moves numbers and changes none: its Jacobian is a permutation wherever
    it has one, so it keeps the norm of every gradient, where relu drops half
    of it. A group of two is known as MaxMin. Of layers whose norm is bounded,
    stacks with it can come near any 1-Lipschitz function; with relu they
    cannot.

    Guarantee: the Lipschitz constant is exactly 1.

    Args:
        group_size: Features in a group; their number must be a multiple.
        axis: The axis of the features.
        **kwargs: `name`, `dtype`: as for any layer.

    Input and output shape: any, the same.

    Raises:
        ValueError: If `group_size` is no positive integer; when built, if it
            does not divide the number of features.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import GroupSort
    >>> x = np.array([[3.0, 1.0, -2.0, 5.0]])
    >>> keras.ops.convert_to_numpy(GroupSort()(x)).tolist()
    [[1.0, 3.0, -2.0, 5.0]]

    Reference:

    - [Anil et al., 2019](https://arxiv.org/abs/1811.05381)
    """

    def __init__(
        self, group_size: int = 2, axis: int = -1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.group_size = check_count(self, "group_size", group_size)
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        check_divisible(self, input_shape, self.axis, self.group_size)

    def call(self, inputs):
        if self.group_size == 1:
            return inputs
        groups = split_axis(inputs, self.axis, self.group_size)
        if self.group_size > 2:
            ordered = ops.sort(groups, axis=-1)
        else:
            # Quicker than sorting, and so is its gradient.
            first, second = groups[..., 0], groups[..., 1]
            smaller = ops.minimum(first, second)
            larger = ops.maximum(first, second)
            ordered = ops.stack([smaller, larger], axis=-1)
        return merge_axis(ordered, inputs, self.axis)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "group_size": self.group_size,
            "axis": self.axis,
        }


def check_divisible(
    layer: keras.layers.Layer, shape: tuple, axis: int, group_size: int
) -> None:
    """Raises `ValueError` unless an axis consists of whole groups."""
    features = shape[axis]
    if features is None or features % group_size:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) takes features in "
            f"groups of {group_size}, so axis {axis} of its input must be a "
            f"multiple of that. Received an input of the shape {tuple(shape)}."
        )


def split_axis(tensor, axis: int, group_size: int):
    """The features of an axis in groups, which become the last axis."""
    moved = ops.moveaxis(tensor, axis, -1)
    shape = ops.shape(moved)
    return ops.reshape(
        moved, (*shape[:-1], moved.shape[-1] // group_size, group_size)
    )


def merge_axis(groups, like, axis: int):
    """The inverse of `split_axis`, for a tensor of the shape of `like`."""
    moved = ops.moveaxis(like, axis, -1)
    return ops.moveaxis(ops.reshape(groups, ops.shape(moved)), -1, axis)
