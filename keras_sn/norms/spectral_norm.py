"""spectral_norm: the certified norm of a layer, a map or an array."""

import math

import keras
import numpy as np
from keras import ops

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import check_norm
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.linear_maps.weights import ArrayWeight
from keras_sn.linear_maps.wrapped import is_normalizing
from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.cold_start import cold_start
from keras_sn.norms.exact import exact_bounds
from keras_sn.norms.power_iteration import power_iteration
from keras_sn.norms.refinement import refined_bounds
from keras_sn.progress import shown

_METHODS = ("auto", "exact", "refine", "power_iteration")
# Up to this size an eigenvalue decomposition is the cheapest certificate.
_EXACT_SIZE = 768
# Relative rounding of a power iteration in float32, generously.
_FLOAT32_ROUNDING = 1e-5


def spectral_norm(
    layer, norm="operator", method="auto", rtol=1e-2, progress=None
):
    """The spectral norm of what a layer applies, bracketed and certified.

    Computed in float64 on the host, whatever the backend. For a convolution
    it is the supremum over all input sizes.

    Args:
        layer: A built Keras layer with one linear map, a `LinearMap`, or an
            array with two or more axes (of which the last are the columns of
            a matrix). Of a `SpectralNormalization` layer the normalized
            weight counts.
        norm: `"operator"`: the map the layer applies. `"kernel"`: the kernel
            reshaped to a matrix. A `LinearMap` is taken as it is.
        method: `"exact"`: eigenvalues, for maps that are matrices.
            `"refine"`: bounds refined until they meet, for any map.
            `"auto"`: the cheaper of the two. `"power_iteration"`: a quick
            estimate from below, `upper` is then `inf`.
        rtol: Largest `(upper - lower) / upper` of a certificate.
        progress: For those with patience: `True` shows the progress, or a
            function is called as `progress(done, total)`.

    Returns:
        `NormBounds(lower, upper)`. Rounding is included, in `lower` too.

    Raises:
        ValueError: If the layer isn't built, has no linear map or several,
            or a weight is not finite; if an argument is unknown.

    Example:

    >>> import keras_sn.norms
    >>> bounds = keras_sn.norms.spectral_norm(np.diag([3.0, 4.0]))
    >>> round(bounds.lower, 6), round(bounds.upper, 6)
    (4.0, 4.0)

    Reference:

    - [Pfister & Bresler, 2019](https://arxiv.org/abs/1811.01337)
    """
    check_norm(norm)
    _check_arguments(method, rtol)
    linear_map, values = _map_and_values(layer, norm)
    symbol = linear_map.certificate(values)
    if not np.isfinite(symbol.taps).all():
        raise ValueError(
            f"The weights of {linear_map!r} contain NaN or infinity, so they "
            "have no spectral norm."
        )
    if not symbol.taps.any():
        return NormBounds(0.0, 0.0)
    if method == "power_iteration":
        return _estimate(linear_map, values)
    if method == "auto":
        small = min(symbol.matrix_shape) <= _EXACT_SIZE
        constant = math.prod(symbol.kernel_size) == 1
        method = "exact" if small and constant else "refine"
    if method == "exact":
        return exact_bounds(symbol)
    with shown(progress) as report:
        return refined_bounds(symbol, rtol, report)


def _check_arguments(method, rtol):
    if method not in _METHODS:
        raise ValueError(
            f"`method` must be one of {list(_METHODS)}. "
            f"Received: method={method!r}"
        )
    if not 0 < rtol < 1:
        raise ValueError(
            f"`rtol` must be between 0 and 1. Received: rtol={rtol!r}"
        )


def _map_and_values(layer, norm):
    """The one linear map of the argument, and what to use as its weights."""
    if isinstance(layer, LinearMap):
        return layer, layer.values()
    if not isinstance(layer, keras.layers.Layer):
        return _array_map(layer)
    normalized = {}
    inner = layer
    if is_normalizing(layer):
        normalized = layer.normalized_weights()
        inner = layer.layer
    maps = linear_maps(inner, norm=norm)
    if len(maps) != 1:
        found = f"{len(maps)} linear maps: {list(maps)}" if maps else "none"
        raise ValueError(
            f"`spectral_norm` takes a layer with one linear map. Layer "
            f"'{layer.name}' ({type(layer).__name__}) has {found}. Pass one "
            "of the values of `keras_sn.linear_maps.linear_maps(layer)` "
            "instead."
        )
    (linear_map,) = maps.values()
    values = tuple(
        normalized.get(weight.path, weight.value())
        if normalized
        else weight.value()
        for weight in linear_map.weights
    )
    return linear_map, values


def _array_map(array):
    try:
        array = np.asarray(ops.convert_to_numpy(array), dtype="float64")
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`spectral_norm` takes a Keras layer, a `LinearMap` or an array. "
            f"Received: {array!r} (of type {type(array)})"
        ) from error
    if array.ndim < 2:
        raise ValueError(
            "An array needs two or more axes to be a matrix. Received an "
            f"array of shape {array.shape}."
        )
    return MatrixMap(ArrayWeight(array)), (array,)


def _estimate(linear_map, values):
    """From below, by the power iteration that training uses."""
    values = [np.asarray(ops.convert_to_numpy(v), "float64") for v in values]
    scale = float(np.max(np.abs(values[0])))
    scaled = tuple(
        ops.convert_to_tensor((v / scale if i == 0 else v).astype("float32"))
        for i, v in enumerate(values)
    )
    u = cold_start(linear_map, scaled).astype("float32")
    u = ops.convert_to_tensor(u)
    sigma, _ = power_iteration(linear_map, u, 10, scaled)
    return NormBounds(
        float(ops.convert_to_numpy(ops.stop_gradient(sigma)))
        * scale
        * (1 - _FLOAT32_ROUNDING)
    )
