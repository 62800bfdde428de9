"""Constraints: weights of a bounded spectral norm after every step."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.linear_maps.bare_kernel import map_of_kernel
from keras_sn.linear_maps.bare_kernel import maps_of_kernels
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import check_norm
from keras_sn.norms.capping import clipped
from keras_sn.norms.capping import clipped_exactly
from keras_sn.norms.capping import hammered
from keras_sn.norms.capping import scaled_down
from keras_sn.norms.capping import soft_capped

_CAPS: dict[str, Callable[[Array, float], Array]] = {
    "clip": clipped,
    "svd": clipped_exactly,
    "soft_cap": soft_capped,
    "hammer": hammered,
}
_METHODS = (*_CAPS, "scale")


@keras.saving.register_keras_serializable(package="keras_sn.constraints")
class SpectralNorm(keras.constraints.Constraint):
    """Constrains a weight to a spectral norm of at most `max_norm`.

    After each step of the optimizer the weight is put back: unlike in
    `SpectralNormalization`, which trains a reparametrised weight, the kernel
    itself has the norm, and a kernel within the limit is left as it is.

    Keras shows a constraint the kernel and nothing else. A kernel with two
    axes is the matrix that its layer applies. Of one with more, choose what
    is meant by `norm`; and `keras_sn.constraints.constrain` constrains every
    kernel of a model, of attention layers too, by what its own layer does
    with it.

    Guarantee: the norm is within 1 % of `max_norm` or below, an estimate, not
    a certificate (see `keras_sn.spectral_norm`).

    Args:
        max_norm: The largest norm allowed.
        method: How a matrix is put back.

            - `"clip"`: to the nearest matrix within the limit, which cuts
              each singular value off at it; by products of matrices, quick
              on an accelerator.
            - `"svd"`: to the same, by a decomposition; exact.
            - `"soft_cap"`: singular values are bent down smoothly.
            - `"hammer"`: the largest singular value alone is cut off. The
              cheapest, for optimizers whose steps have one; the guarantee
              is not given for the second.
            - `"scale"`: the whole matrix is scaled.
        norm: `"kernel"`: the norm of the kernel as a matrix with the last
            axis as columns, as in Miyato et al. `"operator"`: a kernel with
            more than two axes is that of a convolution, and it is scaled as
            a whole, whatever the method: the nearest convolution is known by
            no formula. What is bounded is the convolution without strides
            and groups, so those with strides and groups, transposed ones and
            depthwise ones are within the limit too, if not at it.

    Example:

    >>> import keras, keras_sn
    >>> layer = keras.layers.Conv2D(
    ...     4, 3, kernel_constraint=keras_sn.constraints.SpectralNorm(
    ...         1.0, norm="operator"))
    >>> layer.build((None, None, None, 2))
    >>> kernel = layer.kernel
    >>> _ = kernel.assign(kernel.constraint(10.0 * kernel))
    >>> bool(0.98 < keras_sn.spectral_norm(layer).upper < 1.02)
    True

    Reference:

    - [Gouk et al., 2018](https://arxiv.org/abs/1804.04368)
    - [Newhouse et al., 2025](https://arxiv.org/abs/2507.13338)
    """

    def __init__(
        self,
        max_norm: float = 1.0,
        method: str = "clip",
        norm: str = "kernel",
    ) -> None:
        if not max_norm > 0:
            raise ValueError(
                f"`max_norm` must be positive. Received: max_norm={max_norm}"
            )
        if method not in _METHODS:
            raise ValueError(
                f"`method` must be one of {list(_METHODS)}. Received: "
                f"method={method!r}"
            )
        check_norm(norm)
        self.max_norm = max_norm
        self.method = method
        self.norm = norm

    def __call__(self, w: Any) -> Any:
        linear_map = map_of_kernel(tuple(w.shape), self.norm)
        return self.capped(linear_map, (w,))

    def capped(self, linear_map: LinearMap, values: tuple) -> Array:
        """The first weight of a map, such that the map is within the limit.

        Args:
            linear_map: `LinearMap`.
            values: Its weights, variables or tensors.

        Returns:
            Tensor in the shape and dtype of the first weight.
        """
        dtype = keras.backend.standardize_dtype(values[0].dtype)
        wide = "float64" if dtype == "float64" else "float32"
        values = tuple([ops.cast(value, wide) for value in values])
        cap = _CAPS.get(self.method)
        if cap is None or not isinstance(linear_map, MatrixMap):
            weight = scaled_down(linear_map, self.max_norm, values)
        else:
            matrices = cap(linear_map.matrices(values), self.max_norm)
            weight = linear_map.weight_of(matrices, values)
        return ops.cast(weight, dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "max_norm": self.max_norm,
            "method": self.method,
            "norm": self.norm,
        }


class _OfMap:
    """The constraint of a variable of which the map is known.

    Args:
        constraint: `SpectralNorm`.
        linear_map: The map of the variable.
    """

    def __init__(self, constraint: SpectralNorm, linear_map: LinearMap) -> None:
        self.constraint = constraint
        self.linear_map = linear_map

    def __call__(self, w: Any) -> Any:
        others = self.linear_map.weights[1:]
        values = (w, *(weight.value() for weight in others))
        return self.constraint.capped(self.linear_map, values)


def constrain(layer: keras.layers.Layer, constraint: SpectralNorm) -> None:
    """Constrains every kernel of a layer or model, as its layer applies it.

    The map of a kernel is that of `keras_sn.linear_maps`: a convolution with
    its strides and groups, an attention kernel with its heads, a registered
    layer of your own. It replaces constraints that the kernels had, and
    takes effect in `fit` and in every loop that calls `optimizer.apply`.

    A `.keras` file holds the constraints that its layers were made with, not
    these: constrain a loaded model again.

    Args:
        layer: A built layer or model. Weights in a `SpectralNormalization`
            are left alone.
        constraint: `keras_sn.constraints.SpectralNorm`.

    Raises:
        ValueError: If the layer is not built, or has no kernel, or a kernel
            with LoRA; with `norm="operator"` if it is not known what a layer
            applies.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sn.constraints import SpectralNorm, constrain
    >>> x = keras.Input((5, 8))
    >>> attention = keras.layers.MultiHeadAttention(2, 4)
    >>> model = keras.Model(x, attention(x, x))
    >>> constrain(model, SpectralNorm(1.0))
    >>> model.compile("sgd", "mse")
    >>> data = np.ones((4, 5, 8), "float32")
    >>> _ = model.fit(data, data, verbose=0)
    """
    for linear_map in maps_of_kernels(layer, constraint.norm):
        variable = linear_map.weights[0].variable
        assert variable is not None  # `maps_of` finds no others
        variable.constraint = _OfMap(constraint, linear_map)
    if getattr(layer, "compiled", False):
        # What was compiled before knows nothing of it.
        layer.make_train_function(force=True)
