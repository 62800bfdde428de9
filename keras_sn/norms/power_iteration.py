"""Power iteration on a LinearMap: warm steps in training, then to the end."""

import keras
import numpy as np
from keras import ops

from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import sum_over
from keras_sn.fast_ops import where

# Below this a factor 1 / sigma leaves the range of float32.
_SMALLEST_SIGMA = 1e-37
# Largest Gram matrix to square before iterating to convergence.
_LARGEST_GRAM = 128
_SQUARINGS = 10
# To converge: |A v| may exceed |A^T u| by this much, relative to |A v|. For
# two singular values that is an error of at most sqrt(2e-7), whatever their
# ratio: the slower the iteration, the less there is to gain.
_CONVERGED = 2e-7
_MOST_ITERATIONS = 200
_TINY = {dtype: float(np.finfo(dtype).tiny) for dtype in ("float32", "float64")}


def power_iteration(linear_map, u, power_iterations=1, values=None):
    """Estimates the spectral norm by power iteration from a warm start.

    Each iteration computes `v = A^T u / |A^T u|` and `u = A v / |A v|`. All
    blocks of the map iterate at once, and `sigma` is that of the largest.

    Guarantee: an estimate from below; a power iteration never certifies.

    Args:
        linear_map: `LinearMap` `A`.
        u: Tensor of shape `linear_map.probe_shape`.
        power_iterations: Number of iterations; `None`: until the estimate
            no longer grows, which from a fresh `u` takes one.
        values: Tensors to use as the weights, in the dtype of `u`.

    Returns:
        Tuple `(sigma, u)`. `sigma` is a scalar, differentiable in `values`
        with the singular vectors held constant: `d sigma = u v^T`. The new
        `u` carries no gradient. A weight with a NaN gives a NaN `sigma`.
        Blocks that are zero or have a NaN keep their `u`.

    Reference:

    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957)
    """
    values = linear_map.values() if values is None else values
    held = tuple(ops.stop_gradient(value) for value in values)
    right = right_vectors(linear_map, u, power_iterations, held)
    # The product that gives u is also the one to differentiate.
    return sigma_of_image(linear_map.block_matvec(right, values), u)


def right_vectors(linear_map, u, power_iterations, values):
    """The unit probes `v` at the end of the iterations from `u`.

    Args:
        linear_map: `LinearMap`.
        u: Probes on the output side.
        power_iterations: Number of iterations; `None`: until converged.
        values: The weights, as constants.
    """
    if power_iterations is None:
        return _converged_right_vectors(linear_map, u, values)
    right = unit(linear_map.block_rmatvec(u, values))
    for _ in range(power_iterations - 1):
        left = unit(linear_map.block_matvec(right, values))
        right = unit(linear_map.block_rmatvec(left, values))
    return right


def _converged_right_vectors(linear_map, u, values):
    def iterate(left):
        pulled = linear_map.block_rmatvec(left, values)
        right = unit(pulled)
        image = linear_map.block_matvec(right, values)
        left = unit(image)
        growth = _growth(_block_dot(right, pulled), _block_dot(left, image))
        return right, left, growth

    # Near another singular vector than the first the iteration hardly moves.
    # Where squaring is cheap, a start that is generic again avoids that.
    start = unit(u + 0.1 * _fixed_start(linear_map, u.dtype))
    left = _squared_start(linear_map, values, start)
    left = u if left is None else left
    right, _, _ = ops.while_loop(
        lambda right, left, growth: ops.greater(growth, _CONVERGED),
        lambda right, left, growth: iterate(left),
        iterate(ops.stop_gradient(left)),
        maximum_iterations=_MOST_ITERATIONS,
    )
    return ops.stop_gradient(right)


def _growth(lower, upper):
    """Largest relative growth among the blocks that may be the largest.

    The norms `|A^T u| <= |A v|` of one iteration are two successive values of
    the same nondecreasing sequence.
    """
    largest = ops.max(upper)
    scale = ops.where(ops.equal(largest, 0), ops.ones_like(largest), largest)
    growth = (upper - lower) / scale
    return ops.max(ops.where(upper < 0.9 * largest, 0 * growth, growth))


def _block_dot(left, right):
    """Inner product of each block's probes, `(blocks, 1)`."""
    return sum_over(left * right, _vector_axis(left))


def sigma_of_image(image, u):
    """`(sigma, new u)` from the images `A v` of unit probes `v`.

    Args:
        image: Output-side probes, differentiable.
        u: The probes to keep where an image is zero or not a number.
    """
    left = unit(ops.stop_gradient(image))
    norms = _block_dot(left, image)
    # Of all blocks only the largest passes on a gradient.
    sigma = norms if left.shape[0] == 1 else max_over(norms, None)
    return reshaped(sigma, ()), where(norms > 0, left, u)


def normalization_factor(sigma, norm_bound, mode):
    """The factor that takes a weight of norm `sigma` to the bound.

    A zero weight keeps a finite factor, a NaN stays a NaN.

    Args:
        sigma: Scalar tensor.
        norm_bound: The norm asked for.
        mode: `"normalize"`: to the bound; `"clip"`: at most the bound.

    Returns:
        Scalar tensor, differentiable in `sigma`.
    """
    # Not `sigma > ...`, which would let a NaN pass for a zero.
    sigma = where(~(sigma <= _SMALLEST_SIGMA), sigma, 1.0)
    held = ops.stop_gradient(sigma)
    # bound / sigma, and its derivative in an order that does not square
    # 1 / sigma. A quotient of quotients would do that too, but XLA makes it
    # one of products, of numbers such as 1e60.
    factor = norm_bound / held * (2.0 - sigma / held)
    if mode == "clip":
        factor = where(~(sigma <= norm_bound), factor, 1.0)
    return factor


def unit(probes):
    """Scales each block's probe to norm one; a zero probe becomes constant.

    If `u` is orthogonal to everything the block can output, or zero, the
    iteration could never leave that point.

    Dividing by the largest entry first keeps the squares of entries such as
    1e30 and 1e-30 within float32.
    """
    # Of Keras's functions and Python's operators, the latter: they cost an
    # eager backend a tenth, and this runs for every layer in every step.
    axis = _vector_axis(probes)
    probes = probes + _tiny(probes)
    probes = probes / max_over(abs(probes), axis)
    return probes * sum_over(probes * probes, axis) ** -0.5


def _tiny(tensor):
    """Adding it changes nothing but a zero."""
    return _TINY[keras.backend.standardize_dtype(tensor.dtype)]


def _vector_axis(probes):
    # Over everything is the quicker reduction of an eager backend.
    return None if probes.shape[0] == 1 else -1


def _scaled(value):
    peak = ops.max(ops.abs(value))
    return value / ops.where(ops.equal(peak, 0), ops.ones_like(peak), peak)


def _fixed_start(linear_map, dtype):
    """Unit probes in a generic direction, equal on every backend."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(linear_map.probe_shape)
    start = start.astype(keras.backend.standardize_dtype(dtype))
    return unit(ops.convert_to_tensor(start))


def _squared_start(linear_map, values, start):
    """The start after 1024 iterations by squaring, or None without a Gram."""
    values = tuple(map(_scaled, values))
    gram = linear_map.gram(values, largest=_LARGEST_GRAM)
    if gram is None:
        return None
    on_output_side = gram.shape[-1] == start.shape[-1]
    if not on_output_side:
        start = linear_map.block_rmatvec(start, values)
    for _ in range(_SQUARINGS):
        peak = ops.max(ops.abs(gram), axis=(1, 2), keepdims=True)
        gram = gram / ops.where(ops.equal(peak, 0), ops.ones_like(peak), peak)
        gram = gram @ gram
    iterated = unit((gram @ start[:, :, None])[:, :, 0])
    if on_output_side:
        return iterated
    return unit(linear_map.block_matvec(iterated, values))
