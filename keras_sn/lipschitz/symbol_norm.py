"""Largest singular value of a symbol: an estimate with vectors, a bound."""

import numpy as np

from keras_sn.linear_maps.frequencies import half_grid
from keras_sn.lipschitz.rounding import power_of_two
from keras_sn.norms.refinement import refined_bounds


def upper(symbol, rtol=None):
    """Proved upper bound of the norm over all frequencies and groups.

    Args:
        symbol: `Symbol`.
        rtol: How far it may lie above the norm, relatively. `None`: 1 % for
            up to 32 channels, up to 16 % from 256 channels on, where a grid
            that proves more takes minutes.
    """
    if rtol is None:
        rtol = _tolerance(symbol)
    largest = float(np.abs(symbol.taps).max(initial=0.0))
    scale = power_of_two(largest)
    if scale == 0:
        return 0.0
    return float(refined_bounds(symbol.scaled(1 / scale), rtol).upper * scale)


def _tolerance(symbol):
    if np.prod(symbol.kernel_size) == 1:
        return 1e-6
    channels = min(symbol.matrix_shape)
    for limit, rtol in ((32, 0.01), (64, 0.02), (128, 0.05)):
        if channels <= limit:
            return rtol
    return 0.16


def top(symbol, iterations=8):
    """The norm on a coarse grid, and the energies of its singular vectors.

    Returns:
        `(norm, group, rows, columns)`.
    """
    grid = tuple(1 if k == 1 else max(8, 2 * k) for k in symbol.kernel_size)
    angles = 2 * np.pi * half_grid(grid) / np.asarray(grid, "float64")
    best = (-1.0, np.zeros(symbol.matrix_shape), 0)
    for start in range(0, len(angles), 16):
        chunk = angles[start : start + 16]
        blocks = symbol.at(chunk)
        blocks = blocks.reshape(-1, *symbol.matrix_shape)
        norms = _power_iteration(blocks, iterations)
        index = int(np.argmax(norms))
        if norms[index] > best[0]:
            best = norms[index], blocks[index], index % symbol.groups
    _, block, group = best
    left, values, right = _top_vectors(block)
    return values, group, np.abs(left) ** 2, np.abs(right) ** 2


def _power_iteration(blocks, iterations):
    """Estimates of the norms of a stack of matrices."""
    # Rows of the largest norm: never orthogonal to the top singular vector
    # of a matrix that has a dominant row.
    rows = np.linalg.norm(blocks, axis=2)
    vectors = np.conj(
        np.take_along_axis(blocks, rows.argmax(axis=1)[:, None, None], axis=1)
    ).transpose(0, 2, 1)
    vectors = vectors + 1e-3 * np.abs(vectors).max(initial=0.0)
    norms = np.zeros(len(blocks))
    adjoint = np.conj(blocks.transpose(0, 2, 1))
    for _ in range(iterations):
        vectors = vectors / np.maximum(_norms(vectors), 1e-300)
        image = blocks @ vectors
        norms = _norms(image)[:, 0, 0]
        vectors = adjoint @ image
    return norms


def _norms(vectors):
    return np.linalg.norm(vectors, axis=1, keepdims=True)


def _top_vectors(block):
    small = block.shape[0] <= block.shape[1]
    adjoint = block.conj().T
    gram = block @ adjoint if small else adjoint @ block
    values, vectors = np.linalg.eigh(gram)
    norm, vector = np.sqrt(max(values[-1], 0.0)), vectors[:, -1]
    if norm == 0:
        return np.zeros(block.shape[0]), 0.0, np.zeros(block.shape[1])
    other = (adjoint if small else block) @ vector / norm
    return (vector, norm, other) if small else (other, norm, vector)
