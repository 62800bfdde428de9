"""The weights of a model that are matrices, as an optimizer sees them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_sn.keras_access import all_layers
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.convolution_map import ConvolutionMap
from keras_sn.linear_maps.convolution_map import TransposedConvolutionMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import own_maps
from keras_sn.linear_maps.separable_map import SeparableConvolutionMap
from keras_sn.linear_maps.spatial import SpatialMap
from keras_sn.linear_maps.weights import ArrayWeight

# Layers whose weights are no matrices that features go through: a step of an
# embedding concerns the rows of the batch, a normalization has numbers.
_OTHERS = (
    keras.layers.Embedding,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)


@dataclasses.dataclass(frozen=True)
class Matrices:
    """How a variable is cut into matrices, and how large a step of it is.

    Attributes:
        shape: Shape of the variable.
        blocks: Number of matrices.
        columns: Their columns.
        split: Shape that separates the axes to permute, or `None`.
        permutation: Order of those axes, or `None`.
        scale: A step with orthonormal matrices times this changes outputs by
            as much as inputs, per feature, at most.
    """

    shape: tuple[int, ...]
    blocks: int
    columns: int
    split: tuple[int, ...] | None
    permutation: tuple[int, ...] | None
    scale: float

    def linear_map(self) -> MatrixMap:
        """The map, to be used with `values`."""
        # Its shape and no more: no memory.
        weight = ArrayWeight(np.broadcast_to(np.float32(0), self.shape))
        return MatrixMap(
            weight, self.blocks, self.columns, self.split, self.permutation
        )

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> "Matrices":
        """From what `dataclasses.asdict` made of it, by way of JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.items()
        }
        return cls(**values)


def matrices_of(
    model: keras.layers.Layer, variables: Sequence[keras.Variable]
) -> list[Matrices | None]:
    """What is known of the variables of a model, by its layers.

    Layers in a `SpectralNormalization` count: the kernel is trained by what
    its layer does with it.

    Args:
        model: A built model.
        variables: The variables to train.

    Returns:
        A list as long, `None` for those that are no matrices.
    """
    found: dict[int, Matrices] = {}
    for layer in all_layers(model):
        if isinstance(layer, _OTHERS):
            continue
        steps = _steps(layer)
        for linear_map in own_maps(layer, "kernel", found):
            variable = linear_map.weights[0].variable
            if variable is None or not isinstance(linear_map, MatrixMap):
                continue
            scale = steps.get(id(variable), _width(linear_map))
            found.setdefault(id(variable), _arranged(linear_map, scale))
    return [found.get(id(variable)) for variable in variables]


def _arranged(linear_map: MatrixMap, scale: float) -> Matrices:
    blocks, _, columns = linear_map.block_shape
    return Matrices(
        tuple(linear_map.weights[0].shape),
        blocks,
        columns,
        linear_map.split,
        linear_map.permutation,
        scale,
    )


def _steps(layer: keras.layers.Layer) -> dict[int, float]:
    """The scales of kernels of convolutions, by the identity of the variable.

    With orthonormal columns or rows the kernel as a matrix has norm 1, and
    the convolution at most the root of the taps that meet in an output.
    """
    try:
        maps: list[LinearMap] = own_maps(layer, "operator")
    except ValueError:
        # What the layer applies is not known.
        return {}
    scales = {}
    for linear_map in maps:
        if isinstance(linear_map, SpatialMap):
            # Of a separable convolution the kernel with the taps comes last.
            variable = linear_map.weights[-1].variable
            meeting = math.prod(linear_map.kernel_size)
            scales[id(variable)] = math.sqrt(_ratio(linear_map) / meeting)
    return scales


def _ratio(linear_map: SpatialMap) -> float:
    """Outputs by inputs of a group."""
    if isinstance(linear_map, TransposedConvolutionMap):
        return linear_map.channels / linear_map.inputs
    if isinstance(linear_map, SeparableConvolutionMap):
        return linear_map.multiplier
    assert isinstance(linear_map, ConvolutionMap)
    return linear_map.filters / linear_map.channels


def _width(linear_map: MatrixMap) -> float:
    """The scale of a matrix: `sqrt(columns / rows)`."""
    _, rows, columns = linear_map.block_shape
    return math.sqrt(columns / rows)
