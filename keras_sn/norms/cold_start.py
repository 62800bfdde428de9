"""Cold start: the state of a power iteration from nothing, in NumPy."""

import numpy as np
from keras import ops

# Largest Gram matrix to square, above which plain iterations are cheaper. A
# complex block has a hundred others beside it.
_LARGEST_GRAM = {False: 1024, True: 64}
_SQUARINGS = 10
# What backends raise for the value of a traced weight. Keras traces a `build`
# for its shapes, and initializes the variables in earnest afterwards.
_NO_VALUES = (TypeError, NotImplementedError)
_ITERATIONS = 40


def cold_start(linear_map, values=None):
    """The dominant left singular vector of each block.

    Computed on the host from fixed numbers, so it is the same on every
    backend, and none compiles for it. Matrices with a small side are iterated
    by squaring their Gram matrix ten times (1024 iterations), others get 40
    iterations.

    Guarantee: an estimate. What it misses, training makes up for.

    Args:
        linear_map: `LinearMap`.
        values: The weights; `None`: as they are.

    Returns:
        Float64 array of shape `linear_map.probe_shape`: unit vectors, generic
        ones where a block is zero or not finite, or the weights have no
        values yet.

    Example:

    >>> from keras_sn.linear_maps import ArrayWeight, MatrixMap
    >>> from keras_sn.norms.cold_start import cold_start
    >>> diagonal = MatrixMap(ArrayWeight(np.diag([1.0, 3.0, 2.0])))
    >>> np.abs(cold_start(diagonal)).round(6).tolist()
    [[0.0, 1.0, 0.0]]
    """
    start = np.random.default_rng(0).standard_normal(linear_map.probe_shape)
    start = _unit(start)
    values = linear_map.values() if values is None else values
    if not all(map(_has_value, values)):
        return start
    blocks = linear_map.blocks(values=values)
    if not np.iscomplexobj(blocks):
        return _dominant(blocks, start)
    real, imaginary = np.split(start, 2, axis=1)
    left = _dominant(blocks, real + 1j * imaginary)
    return np.concatenate([left.real, left.imag], axis=1)


def _has_value(tensor):
    try:
        ops.convert_to_numpy(tensor)
    except _NO_VALUES:
        return False
    return True


def _dominant(blocks, start):
    blocks = _scaled(blocks)
    small = min(blocks.shape[1:]) <= _LARGEST_GRAM[np.iscomplexobj(blocks)]
    with np.errstate(invalid="ignore"):
        left = _squared(blocks, start) if small else _iterated(blocks, start)
    size = np.abs(left).sum(axis=1, keepdims=True)
    return np.where(np.isfinite(size) & (size > 0), left, start)


def _scaled(blocks):
    """The blocks, each divided by its largest entry."""
    peak = np.max(np.abs(blocks), axis=(1, 2), keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore"):
        return blocks / np.where(peak == 0, 1.0, peak)


def _unit(rows):
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm == 0, 1.0, norm)


def _apply(rows, blocks):
    return (rows[:, None, :] @ blocks)[:, 0]


def _squared(blocks, left):
    adjoint = blocks.conj().swapaxes(1, 2)
    on_output_side = blocks.shape[2] <= blocks.shape[1]
    gram = adjoint @ blocks if on_output_side else blocks @ adjoint
    for _ in range(_SQUARINGS):
        gram = _scaled(gram)
        gram = gram @ gram
    if on_output_side:
        left = _apply(left, gram)
    else:
        left = _apply(_apply(_apply(left, adjoint), gram), blocks)
    # Once more as it is, of what squaring rounded away.
    return _iterated(blocks, _unit(left), iterations=1)


def _iterated(blocks, left, iterations=_ITERATIONS):
    if iterations > 1:
        # It is the traffic of large blocks that takes the time.
        single = "complex64" if np.iscomplexobj(blocks) else "float32"
        blocks = blocks.astype(single)
    adjoint = blocks.conj().swapaxes(1, 2)
    for _ in range(iterations):
        left = _unit(_apply(_unit(_apply(left, adjoint)), blocks))
    return left
