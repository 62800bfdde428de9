"""Call: one use of a layer, as a rule sees it."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_sn.linear_maps.arrays import float64
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.weights import Weight
from keras_sn.linear_maps.wrapped import Overrides
from keras_sn.linear_maps.wrapped import applied_value
from keras_sn.lipschitz.pieces.merge import Shape

# Of the layer inside of a layer, at an input shape, with weights replaced: the
# constant, and why it is `inf` if it is.
ConstantOf = Callable[
    [keras.layers.Layer, Shape | None, Overrides | None],
    tuple[float, str | None],
]


class Call:
    """One use of a layer, as a rule sees it.

    Args:
        shapes: Shapes of the inputs, batch axis first, `None` where open;
            `None` altogether if nothing is known.
        arguments: Arguments of the call by name, but the first.
        overrides: `{id(variable): tensor}` of weights that a wrapper
            replaces.
        constant_of: Function of `(layer, shape, overrides)` for the constant
            of a layer inside of the layer.
        output_shape: Shape of the output, or `None`.
    """

    def __init__(
        self,
        shapes: Sequence[Shape] | None = None,
        arguments: dict[str, Any] | None = None,
        overrides: Overrides | None = None,
        constant_of: ConstantOf | None = None,
        output_shape: Shape | None = None,
    ):
        self.shapes = shapes
        self.arguments = arguments or {}
        self.overrides = overrides or {}
        self.constant_of = constant_of
        self.output_shape = output_shape

    @property
    def shape(self) -> Shape | None:
        """Shape of the first input, or `None`."""
        return self.shapes[0] if self.shapes else None

    @property
    def rank(self) -> int | None:
        """Number of axes of the first input, or `None`."""
        return None if self.shape is None else len(self.shape)

    def weight(self, layer: keras.layers.Layer, name: str) -> np.ndarray:
        """The weight that the layer applies, a float64 array."""
        return self.value(AppliedWeight(layer, name))

    def value(self, weight: Weight) -> np.ndarray:
        """What is applied as a weight, a float64 array.

        A layer with mixed precision applies it rounded to its compute dtype.
        """
        return float64(applied_value(weight, self.overrides))
