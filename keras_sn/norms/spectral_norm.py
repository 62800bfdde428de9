"""spectral_norm: the certified norm of a layer, a map or an array."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_sn.linear_maps.arrays import float64
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.both_reshapes import BothReshapes
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import check_norm
from keras_sn.linear_maps.registry import maps_of
from keras_sn.linear_maps.registry import own_maps
from keras_sn.linear_maps.registry import why_unknown
from keras_sn.linear_maps.weights import ArrayWeight
from keras_sn.linear_maps.weights import unique_keys
from keras_sn.linear_maps.wrapped import applied_value
from keras_sn.linear_maps.wrapped import unwrap
from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.exact import exact_bounds
from keras_sn.norms.power_iteration import power_iteration
from keras_sn.norms.proofs import power_of_two
from keras_sn.norms.proofs import scaled_down
from keras_sn.norms.refinement import refined_bounds
from keras_sn.norms.vector_tracking import VectorTracker
from keras_sn.progress import shown

_METHODS = ("auto", "exact", "refine", "power_iteration")
# Up to this size an eigenvalue decomposition is the cheapest certificate.
_EXACT_SIZE = 768
# Relative rounding of a power iteration in float32, generously.
_FLOAT32_ROUNDING = 1e-5


def spectral_norm(
    layer,
    norm: str = "operator",
    method: str = "auto",
    rtol: float = 1e-2,
    progress: bool | Callable[[int, int], object] | None = None,
) -> NormBounds:
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
        ValueError: If the layer isn't built, has no linear map or several, or
            with `norm="operator"` it is not known which (a subclass that
            replaces `call` or what it calls; register it with
            `keras_sn.linear_maps.register_linear_map`); if a weight is
            complex or not finite; if an argument is unknown.

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
    if isinstance(layer, BothReshapes):
        one = spectral_norm(layer.first, norm, method, rtol, progress)
        two = spectral_norm(layer.other, norm, method, rtol, progress)
        return _mean(one, two)
    linear_map, values = _map_and_values(layer, norm)
    symbol = linear_map.certificate(values)
    if not np.isfinite(symbol.taps).all():
        raise ValueError(
            f"The weights of {linear_map!r} contain NaN or infinity, so they "
            "have no spectral norm."
        )
    if not symbol.taps.any():
        return NormBounds(0.0, symbol.error)
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


def _mean(one: NormBounds, two: NormBounds) -> NormBounds:
    lower = 0.5 * (one.lower + two.lower)
    upper = 0.5 * (one.upper + two.upper)
    # The sum is rounded.
    return NormBounds(
        math.nextafter(lower, 0.0), math.nextafter(upper, math.inf)
    )


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


def _map_and_values(layer, norm: str) -> tuple[LinearMap, tuple]:
    """The one linear map of the argument, and what to use as its weights."""
    if isinstance(layer, LinearMap):
        return layer, layer.values()
    if not isinstance(layer, keras.layers.Layer):
        return _array_map(layer)
    inner, overrides = unwrap(layer)
    maps = maps_of(inner, norm)
    # A layer may apply a map without a weight to scale.
    maps = maps or own_maps(inner, norm)
    if len(maps) != 1:
        paths = unique_keys(linear_map.path for linear_map in maps)
        found = f"{len(maps)} linear maps: {paths}" if maps else "none"
        raise ValueError(
            f"`spectral_norm` takes a layer with one linear map. Layer "
            f"'{layer.name}' ({type(layer).__name__}) has {found}. Pass one "
            "of the values of `keras_sn.linear_maps.linear_maps(layer)` "
            "instead."
        )
    reason = why_unknown(inner) if norm == "operator" else None
    if reason is not None:
        raise ValueError(
            f"It is not known what layer '{inner.name}' does with the one "
            f"linear map inside of it: {reason}. Pass "
            f"`keras_sn.linear_maps.linear_maps(layer)[{maps[0].path!r}]` for "
            "the norm of that map, or see "
            "`keras_sn.lipschitz.lipschitz_bound` for that of the layer."
        )
    values = (applied_value(weight, overrides) for weight in maps[0].weights)
    return maps[0], tuple(values)


def _array_map(array):
    try:
        array = _numbers(array)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`spectral_norm` takes a Keras layer, a `LinearMap` or an array. "
            f"Received: {array!r} (of type {type(array)})"
        ) from error
    array = float64(array)
    if array.ndim < 2:
        raise ValueError(
            "An array needs two or more axes to be a matrix. Received an "
            f"array of shape {array.shape}."
        )
    return MatrixMap(ArrayWeight(array)), (array,)


def _numbers(array):
    """A tensor as it is, and anything else as an array of numbers."""
    if ops.is_tensor(array) or isinstance(array, keras.Variable):
        return array
    array = np.asarray(array)
    # Text and objects are numbers if they can be read as such.
    return array.astype("float64") if array.dtype.kind in "OSU" else array


def _estimate(linear_map: LinearMap, values: tuple) -> NormBounds:
    """From below, by the power iteration that training uses."""
    arrays = [float64(value) for value in values]
    scale = power_of_two(float(np.max(np.abs(arrays[0]))))
    arrays[0] = arrays[0] / scale
    with np.errstate(over="ignore"):
        scaled = tuple(
            ops.convert_to_tensor(array.astype("float32")) for array in arrays
        )
    u = VectorTracker(linear_map).start(scaled)[0].astype("float32")
    sigma, _ = power_iteration(linear_map, ops.convert_to_tensor(u), 10, scaled)
    found = float(ops.convert_to_numpy(ops.stop_gradient(sigma)))
    if not math.isfinite(found):
        # Beyond single precision nothing is known.
        return NormBounds(0.0)
    return NormBounds(scaled_down(found * (1 - _FLOAT32_ROUNDING), scale))
