"""Capping: matrices with singular values of at most a limit.

What is done to weights after the step of an optimizer.
"""

from keras import ops

from keras_sn.circumstances import known
from keras_sn.fast_ops import Array
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import where
from keras_sn.linear_maps.bare_kernel import stack_map
from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.momentum import converged
from keras_sn.norms.momentum import generic
from keras_sn.norms.orthogonalization import adjoint
from keras_sn.norms.orthogonalization import orthogonalize
from keras_sn.norms.orthogonalization import polar_express
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.supremum import norm_in_graph

# Off by 1e-4 of the largest singular value, where that is far above the limit.
_STEPS = polar_express(10, 1e-4)
# The soft cap is monotonic while it takes off no more than this.
_LEAST_RATIO = 62 / 81
# Of a decomposition in float32, by the largest singular value.
_LARGEST_ERROR = 1e-3


def clipped(matrices: Array, limit: float) -> Array:
    """The nearest matrices of at most that norm, by products alone.

    With `O` the polar factor and `W = O H`, `W - O (H - limit)_+`; the part
    `(.)_+` of a symmetric matrix comes from its own polar factor.

    Guarantee: an estimate, off by up to `1e-4` of the largest norm.

    Args:
        matrices: Tensor `(blocks, rows, columns)`, float32 or wider.
        limit: Positive number.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    # The smaller side is that of H.
    tall = adjoint(matrices) if wide else matrices
    factor = orthogonalize(tall, _STEPS)
    above = adjoint(factor) @ tall
    above = (above + adjoint(above)) / 2 - limit * ops.eye(
        above.shape[-1], dtype=matrices.dtype
    )
    size = above @ orthogonalize(above, _STEPS)
    excess = factor @ (above + size) / 2
    return matrices - (adjoint(excess) if wide else excess)


def clipped_exactly(matrices: Array, limit: float) -> Array:
    """The nearest matrices of at most that norm, by a decomposition.

    Guarantee: exact up to rounding; in an eager call, as all of PyTorch's
    are, where the decomposition fails, that of `clipped`.

    Args:
        matrices: Tensor `(blocks, rows, columns)`.
        limit: Positive number.
    """
    try:
        left, values, right = ops.svd(matrices, full_matrices=False)
    except RuntimeError:
        # LAPACK's fast decomposition may give up where many singular values
        # agree, as they do once they were cut off, and does at a NaN, which
        # other backends pass on.
        return clipped(matrices, limit)
    # Or it returns vectors that are none: of 400 matrices of 512 x 512, cut
    # off again and again, two came out with up to 3.8 times the limit.
    largest = ops.max(values)
    residual = abs((left * values[:, None, :]) @ right - matrices)
    one = ops.eye(values.shape[-1], dtype=matrices.dtype)
    skew = abs(adjoint(left) @ left - one) + abs(right @ adjoint(right) - one)
    error = ops.max(residual) + largest * ops.max(skew)
    if known(error > _LARGEST_ERROR * largest):
        return clipped(matrices, limit)
    return (left * ops.minimum(values, limit)[:, None, :]) @ right


def soft_capped(matrices: Array, limit: float) -> Array:
    """The matrices with singular values bent down smoothly to the limit.

    A singular value `s` becomes `p(s)`, `p` the odd polynomial
    `x + a x^3` of `x = s - a s^3`, with the least `a` for which the largest
    one becomes the limit. Small ones hardly change. Unchanged where the norm
    is at most the limit.

    Guarantee: at most the limit, as far as `norm_in_graph` is right.

    Args:
        matrices: Tensor `(blocks, rows, columns)`.
        limit: Positive number.

    Reference:

    - [Newhouse et al., 2025](https://arxiv.org/abs/2507.13338)
    """
    norm = norm_in_graph(stack_map(tuple(matrices.shape)), (matrices,))
    # Beyond of what can be bent it is scaled first.
    norm = ops.maximum(norm, limit)
    most = limit / _LEAST_RATIO
    bendable = ops.minimum(norm, most)
    matrices = matrices * (bendable / norm)
    # 1 - 3 t^2 + 3 t^3 - t^4 = limit / norm, for t = a norm^2 in [0, 1/3].
    missing = (1 - limit / bendable) / 3
    t = missing**0.5
    for _ in range(12):
        t = (missing / (1 - t + t * t / 3)) ** 0.5
    a = t / (bendable * bendable)
    inner = matrices - a * (matrices @ adjoint(matrices) @ matrices)
    return inner + a * (inner @ adjoint(inner) @ inner)


def hammered(matrices: Array, limit: float) -> Array:
    """The matrices with the largest singular value brought to the limit.

    `W + (limit - s) u v^T` for each matrix with `s > limit`: cheap, but the
    second singular value stays where it is.

    Guarantee: an estimate, for the largest singular value alone.

    Args:
        matrices: Tensor `(blocks, rows, columns)`.
        limit: Positive number.

    Reference:

    - [Newhouse et al., 2025](https://arxiv.org/abs/2507.13338)
    """
    linear_map = stack_map(tuple(matrices.shape))
    start = generic(linear_map.probe_shape)
    start = ops.convert_to_tensor(start, matrices.dtype)
    u = converged(linear_map, start, (matrices,))
    norms, v = norms_and_directions(linear_map.block_rmatvec(u, (matrices,)))
    excess = where(norms > limit, norms - limit, 0.0)
    return matrices - (excess * v)[:, :, None] * u[:, None, :]


def scaled_down(linear_map: LinearMap, limit: float, values: tuple) -> Array:
    """The first weight of a map, scaled where the map exceeds the limit.

    Guarantee: that of `norm_in_graph`. Unchanged where the norm is at most
    the limit.

    Args:
        linear_map: `LinearMap`.
        limit: Positive number.
        values: Its weights, tensors in float32 or wider.
    """
    norm = reshaped(norm_in_graph(linear_map, values), ())
    return values[0] * (limit / ops.maximum(norm, limit))
