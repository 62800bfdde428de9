"""Power iteration on a LinearMap, the textbook's, one product each way."""

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import held
from keras_sn.fast_ops import largest_size_over
from keras_sn.fast_ops import length_over
from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import sum_over
from keras_sn.fast_ops import tiny
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap


def power_iteration(
    linear_map: LinearMap,
    u: Array,
    power_iterations: int = 1,
    values: tuple | None = None,
) -> tuple[Array, Array]:
    """Estimates the spectral norm by power iteration from a warm start.

    Each iteration computes `v = A^T u / |A^T u|` and `u = A v / |A v|`. All
    blocks of the map iterate at once, and `sigma` is that of the largest.

    Guarantee: an estimate from below; a power iteration never certifies.

    Args:
        linear_map: `LinearMap` `A`.
        u: Tensor of shape `linear_map.probe_shape`.
        power_iterations: Number of iterations.
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
    constants = tuple([held(value) for value in values])
    v = unit(linear_map.block_rmatvec(u, constants))
    for _ in range(power_iterations - 1):
        left = unit(linear_map.block_matvec(v, constants))
        v = unit(linear_map.block_rmatvec(left, constants))
    # The product that gives u is also the one to differentiate.
    image = linear_map.block_matvec(v, values)
    norms, left = norms_and_directions(image)
    return largest(norms), where(norms > 0, left, u)


def norms_and_directions(image: Array) -> tuple[Array, Array]:
    """Norm `(blocks, 1)` and direction of each block's probe.

    The norm is differentiable, with the direction held constant.
    """
    direction = unit(held(image))
    return block_dot(direction, image), direction


def largest(norms: Array) -> Array:
    """The norm of the largest block, a scalar; only it gets a gradient."""
    top = norms if norms.shape[0] == 1 else max_over(norms, None)
    return reshaped(top, ())


def block_dot(left: Array, right: Array) -> Array:
    """Inner product of each block's probes, `(blocks, 1)`."""
    return sum_over(left * right, _vector_axis(left))


def unit(probes: Array) -> Array:
    """Scales each block's probe to norm one; a zero probe becomes constant.

    If `u` is orthogonal to everything the block can output, or zero, the
    iteration could never leave that point.

    Dividing by the largest entry first keeps the squares of entries such as
    1e30 and 1e-30 within float32.
    """
    axis = _vector_axis(probes)
    probes = probes + tiny(probes)
    probes = probes / largest_size_over(probes, axis)
    return probes / length_over(probes, axis)


def _vector_axis(probes: Array) -> int | None:
    # Over everything is the quicker reduction of an eager backend.
    return None if probes.shape[0] == 1 else -1
