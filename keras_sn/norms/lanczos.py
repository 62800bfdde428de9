"""Golub-Kahan-Lanczos: the largest singular values of any LinearMap."""

import numpy as np
from keras import ops

from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.bounds import NormBounds


def golub_kahan_lanczos(
    linear_map: LinearMap,
    k: int = 1,
    steps: int | None = None,
    values: tuple | None = None,
) -> np.ndarray:
    """The `k` largest singular values, by bidiagonalisation.

    Only applies the map and its adjoint, with full reorthogonalisation. A
    convolution needs an input size first: `linear_map.at_size((32, 32))`.

    Guarantee: each value is a lower bound of the singular value of that rank,
    up to rounding in the dtype of the weights, and grows with the steps. A
    singular value of multiplicity two is found once.

    Args:
        linear_map: `LinearMap` with a fully defined `domain_shape`.
        k: Number of values.
        steps: Dimension of the Krylov spaces. `None`: `2 k + 20`.
        values: Tensors to use as the weights.

    Returns:
        NumPy array `(k,)`, in decreasing order; fewer if the map has fewer.

    Raises:
        ValueError: If the map may have inputs of several sizes.

    Example:

    >>> from keras_sn.linear_maps import ArrayWeight, MatrixMap
    >>> from keras_sn.norms import golub_kahan_lanczos
    >>> matrix = MatrixMap(ArrayWeight(np.diag([3.0, 1.0, 4.0])))
    >>> golub_kahan_lanczos(matrix, k=2).round(4).tolist()
    [4.0, 3.0]

    Reference:

    - Golub & Kahan, 1965
    """
    shape = linear_map.domain_shape
    if None in shape:
        raise ValueError(
            f"{linear_map!r} takes inputs of any size. Fix the size first: "
            "`linear_map.at_size(spatial_size)`."
        )
    values = linear_map.values() if values is None else values
    dtype = ops.dtype(values[0])
    size = int(np.prod(shape))
    outputs = int(np.prod(linear_map.codomain_shape))
    limit = min(size, outputs)
    steps = min(2 * k + 20 if steps is None else steps, limit)

    def apply(method, vector, shape):
        tensor = ops.convert_to_tensor(vector.reshape(1, *shape), dtype=dtype)
        result = ops.convert_to_numpy(ops.stop_gradient(method(tensor, values)))
        return np.asarray(result, dtype="float64").ravel()

    rights = np.zeros((steps, size))
    lefts = np.zeros((steps, outputs))
    projected = np.zeros((steps, steps))
    # In the range of the adjoint: what else a vector has is wasted.
    image = np.random.default_rng(0).standard_normal(outputs)
    image = apply(linear_map.rmatvec, image, linear_map.codomain_shape)
    vector = _orthogonal(image, rights[:0])
    for step in range(steps):
        rights[step] = vector
        image = apply(linear_map.matvec, vector, shape)
        left = _orthogonal(image, lefts[:step])
        lefts[step] = left
        # All of the upper triangle, not only two diagonals: a compression of
        # the map whatever the rounding, so that its norm is a lower bound.
        projected[: step + 1, step] = lefts[: step + 1] @ image
        image = apply(linear_map.rmatvec, left, linear_map.codomain_shape)
        vector = _orthogonal(image, rights[: step + 1])
    return np.linalg.svd(projected, compute_uv=False)[:k]


def lanczos_bounds(
    linear_map: LinearMap, steps: int = 30, values: tuple | None = None
) -> NormBounds:
    """The norm from below, as `NormBounds`.

    Guarantee: a lower bound up to rounding in the dtype of the weights;
    `upper` is `inf`.

    Args:
        linear_map: `LinearMap` with a fully defined `domain_shape`.
        steps: Dimension of the Krylov spaces.
        values: Tensors to use as the weights.

    Returns:
        `NormBounds`.
    """
    found = golub_kahan_lanczos(linear_map, 1, steps, values)
    return NormBounds(float(found[0]) * (1 - 1e-5) if len(found) else 0.0)


def _orthogonal(vector, basis):
    # Twice is enough (Kahan, Parlett).
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 1e-12 else np.zeros_like(vector)
