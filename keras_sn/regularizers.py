"""Regularizers: penalties on the spectrum of a weight."""

import abc
from typing import Any

import keras
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.linear_maps.bare_kernel import map_of_kernel
from keras_sn.linear_maps.bare_kernel import maps_of_kernels
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.registry import check_norm
from keras_sn.norms.orthogonalization import adjoint
from keras_sn.norms.supremum import norm_in_graph


class MapRegularizer(keras.regularizers.Regularizer, abc.ABC):
    """A penalty on the linear map of a weight.

    Args:
        l: Factor of the penalty, not negative.
        norm: `"kernel"` or `"operator"`, as in
            `keras_sn.constraints.SpectralNorm`.
    """

    def __init__(self, l: float = 0.01, norm: str = "kernel") -> None:  # noqa: E741
        if not l >= 0:
            raise ValueError(f"`l` must not be negative. Received: l={l}")
        check_norm(norm)
        self.l = l
        self.norm = norm

    @abc.abstractmethod
    def penalty(self, linear_map: LinearMap, values: tuple) -> Array:
        """The penalty, without its factor.

        Args:
            linear_map: `LinearMap`.
            values: Its weights, tensors in float32 or wider.
        """

    def of_map(self, linear_map: LinearMap, values: tuple) -> Array:
        """The penalty of a map, a scalar in float32 or wider."""
        dtype = keras.backend.standardize_dtype(values[0].dtype)
        wide = "float64" if dtype == "float64" else "float32"
        values = tuple([ops.cast(value, wide) for value in values])
        return self.l * self.penalty(linear_map, values)

    def __call__(self, x: Any) -> Any:
        return self.of_map(map_of_kernel(tuple(x.shape), self.norm), (x,))

    def get_config(self) -> dict[str, Any]:
        return {"l": self.l, "norm": self.norm}


@keras.saving.register_keras_serializable(package="keras_sn.regularizers")
class SpectralNorm(MapRegularizer):
    """Penalty `l / 2 * sigma^2` on the spectral norm of a weight.

    Its gradient is `l * sigma * u v^T`: weight decay for the dominant
    direction alone. With weights that move, the norm comes from a power
    iteration in each step.

    Guarantee: `sigma` is an estimate from below, within 1 %.

    Args:
        l: Factor of the penalty.
        norm: `"kernel"`: of the kernel as a matrix with the last axis as
            columns. `"operator"`: a kernel with more than two axes is that of
            a convolution without strides and groups.

    Example:

    >>> import numpy as np
    >>> from keras_sn.regularizers import SpectralNorm
    >>> round(float(SpectralNorm(0.1)(np.diag([3.0, 4.0]))), 4)
    0.8

    Reference:

    - [Yoshida & Miyato, 2017](https://arxiv.org/abs/1705.10941)
    """

    def penalty(self, linear_map: LinearMap, values: tuple) -> Array:
        sigma = norm_in_graph(linear_map, values)
        return sigma * sigma / 2


@keras.saving.register_keras_serializable(package="keras_sn.regularizers")
class Orthogonality(MapRegularizer):
    """Penalty `l * |W^T W - I|_F^2`, on the smaller side of each block.

    Unlike `keras.regularizers.OrthogonalRegularizer` it takes kernels of
    convolutions and attention layers, and wide matrices, whose rows become
    orthonormal. With `norm="operator"` the matrices are those of a
    convolution at the frequencies of a small grid, of which the mean is
    taken.

    Guarantee: exact, at those frequencies.

    Args:
        l: Factor of the penalty.
        norm: As in `keras_sn.regularizers.SpectralNorm`.

    Example:

    >>> import numpy as np
    >>> from keras_sn.regularizers import Orthogonality
    >>> round(float(Orthogonality(0.5)(np.diag([2.0, 1.0]))), 4)
    4.5

    Reference:

    - [Brock et al., 2017](https://arxiv.org/abs/1609.07093)
    - [Wang et al., 2020](https://arxiv.org/abs/1911.12207)
    """

    def penalty(self, linear_map: LinearMap, values: tuple) -> Array:
        symbol = linear_map.symbol(values)
        grid = linear_map.grid()
        blocks = symbol.real_blocks(grid)
        if blocks.shape[-2] <= blocks.shape[-1]:
            blocks = adjoint(blocks)
        gram = adjoint(blocks) @ blocks
        apart = gram - ops.eye(gram.shape[-1], dtype=gram.dtype)
        # The real form of a complex block has each entry twice.
        count = blocks.shape[0] // symbol.groups * symbol.multiplicity(grid)
        return ops.sum(apart * apart) / count


class _OfMap:
    """The regularizer of a variable of which the map is known.

    Args:
        regularizer: `MapRegularizer`.
        linear_map: The map of the variable.
    """

    def __init__(
        self, regularizer: MapRegularizer, linear_map: LinearMap
    ) -> None:
        self.regularizer = regularizer
        self.linear_map = linear_map

    def __call__(self, x: Any) -> Any:
        others = self.linear_map.weights[1:]
        values = (x, *(weight.value() for weight in others))
        return self.regularizer.of_map(self.linear_map, values)


def regularize(layer: keras.layers.Layer, regularizer: MapRegularizer) -> None:
    """Regularizes every kernel of a layer or model, as its layer applies it.

    As `keras_sn.constraints.constrain`: it replaces regularizers that the
    kernels had, and is not part of a `.keras` file.

    Args:
        layer: A built layer or model. Weights in a `SpectralNormalization`
            are left alone.
        regularizer: `SpectralNorm` or `Orthogonality` of this module.

    Raises:
        ValueError: As `keras_sn.constraints.constrain`.

    Example:

    >>> import keras
    >>> from keras_sn.regularizers import Orthogonality, regularize
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> regularize(model, Orthogonality(0.1, norm="operator"))
    >>> len(model.losses)
    1
    """
    for linear_map in maps_of_kernels(layer, regularizer.norm):
        variable = linear_map.weights[0].variable
        assert variable is not None  # `maps_of` finds no others
        variable.regularizer = _OfMap(regularizer, linear_map)
    if getattr(layer, "compiled", False):
        # What was compiled before knows nothing of it.
        layer.make_train_function(force=True)
