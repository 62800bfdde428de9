"""Largest singular value of a symbol: an estimate with vectors, a bound."""

import numpy as np

from keras_sn.linear_maps.frequencies import half_grid
from keras_sn.lipschitz.rounding import EPS


def upper(symbol, rtol=1e-2):
    """Proved upper bound of the norm over all frequencies and groups."""
    taps = np.prod(symbol.kernel_size, dtype=int)
    size = 32 if max(symbol.matrix_shape) <= 64 else 16
    grid = tuple(
        1 if k == 1 else max(size, 4 * k) for k in symbol.kernel_size
    )
    top = 0.0
    for blocks in _chunks(symbol, grid):
        top = max(top, np.linalg.svd(blocks, compute_uv=False).max(initial=0))
    frobenius = np.linalg.norm(symbol.taps.reshape(symbol.groups, -1), axis=1)
    error = (
        8 * EPS * (taps + 4 * max(symbol.matrix_shape)) * np.sqrt(taps)
    ) * frobenius.max(initial=0.0)
    return float((top + error) * symbol.excess(grid) * (1 + 1e-14))


def top(symbol, iterations=8):
    """The norm on a coarse grid, and the energies of its singular vectors.

    Returns:
        `(norm, group, rows, columns)`.
    """
    grid = tuple(1 if k == 1 else max(8, 2 * k) for k in symbol.kernel_size)
    angles = 2 * np.pi * half_grid(grid) / np.asarray(grid, "float64")
    best = (-1.0, None)
    for start in range(0, len(angles), 16):
        chunk = angles[start : start + 16]
        blocks = symbol.at(chunk)
        blocks = blocks.reshape(-1, *symbol.matrix_shape)
        norms = _power_iteration(blocks, iterations)
        index = int(np.argmax(norms))
        if norms[index] > best[0]:
            group = index % symbol.groups
            best = norms[index], blocks[index], group
    _, block, group = best
    left, values, right = _top_vectors(block)
    return values, group, np.abs(left) ** 2, np.abs(right) ** 2


def _power_iteration(blocks, iterations):
    """Estimates of the norms of a stack of matrices."""
    # Rows of the largest norm: never orthogonal to the top singular vector
    # of a matrix that has a dominant row.
    rows = np.linalg.norm(blocks, axis=2)
    vectors = np.conj(
        np.take_along_axis(
            blocks, rows.argmax(axis=1)[:, None, None], axis=1
        )
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


def _chunks(symbol, grid):
    angles = 2 * np.pi * half_grid(grid) / np.asarray(grid, "float64")
    for start in range(0, len(angles), 32):
        blocks = symbol.at(angles[start : start + 32])
        yield blocks.reshape(-1, *symbol.matrix_shape)
