"""Largest singular value of a symbol: an estimate with vectors, a bound."""

import math

import numpy as np

from keras_sn.linear_maps.frequencies import half_grid
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms.exact import exact_bounds
from keras_sn.norms.refinement import fine_grid
from keras_sn.norms.refinement import refined_bounds

_TOLERANCES = (0.01, 0.02, 0.04, 0.08, 0.16)
# Frequencies times cubed channels; measured, 1e9 to 3e9 of them take a second.
_AFFORDABLE = 4e9


def upper(symbol: Symbol, rtol: float | None = None) -> float:
    """Proved upper bound of the norm over all frequencies and groups.

    Args:
        symbol: `Symbol`.
        rtol: How far it may lie above the norm, relatively. `None`: 1 %, and
            of wide kernels what takes a few seconds: 4 % for 3 x 3 taps and
            256 channels, 16 % for 512.
    """
    if math.prod(symbol.kernel_size) == 1 and rtol is None:
        return exact_bounds(symbol).upper
    if rtol is None:
        rtol = _tolerance(symbol)
    return refined_bounds(symbol, rtol).upper


def _tolerance(symbol: Symbol) -> float:
    """The smallest tolerance that is affordable.

    By a count of operations, not by a clock: a bound is the same each time.
    """
    each = symbol.groups * min(symbol.matrix_shape) ** 3
    for rtol in _TOLERANCES:
        points = math.prod(fine_grid(symbol.degrees, rtol).sizes) / 2
        if points * each <= _AFFORDABLE:
            return rtol
    return _TOLERANCES[-1]


def top(symbol, angles=None, iterations=8):
    """The largest norm found, and the energies of its singular vectors.

    Args:
        symbol: `Symbol`.
        angles: Array `(frequencies, axes)`; `None` for a coarse grid.
        iterations: Number of steps of power iteration.

    Returns:
        `(norm, group, rows, columns)`.
    """
    angles = _coarse_grid(symbol) if angles is None else angles
    best = (-1.0, np.zeros(symbol.matrix_shape), 0)
    for _, blocks in _blocks(symbol, angles):
        norms = _power_iteration(blocks, iterations)
        index = int(np.argmax(norms))
        if norms[index] > best[0]:
            best = norms[index], blocks[index], index % symbol.groups
    _, block, group = best
    left, norm, right = top_vectors(block)
    return norm, group, np.abs(left) ** 2, np.abs(right) ** 2


def leading_angles(symbol, count, iterations=8):
    """The frequencies of a coarse grid where the norm is largest."""
    angles = _coarse_grid(symbol)
    norms = np.zeros(len(angles))
    for start, blocks in _blocks(symbol, angles):
        found = _power_iteration(blocks, iterations)
        found = found.reshape(-1, symbol.groups).max(axis=1)
        norms[start : start + len(found)] = found
    return angles[np.argsort(-norms)[:count]]


def _coarse_grid(symbol):
    grid = tuple(1 if k == 1 else max(8, 2 * k) for k in symbol.kernel_size)
    return 2 * np.pi * half_grid(grid) / np.asarray(grid, "float64")


def _blocks(symbol, angles):
    """The matrices of a few frequencies at a time: memory is limited."""
    for start in range(0, len(angles), 16):
        blocks = symbol.at(angles[start : start + 16])
        # In that order BLAS does the products with vectors.
        blocks = np.ascontiguousarray(blocks)
        yield start, blocks.reshape(-1, *symbol.matrix_shape)


def _power_iteration(blocks, iterations):
    """Estimates of the norms of a stack of matrices."""
    # Rows of the largest norm: never orthogonal to the top singular vector
    # of a matrix that has a dominant row.
    rows = np.linalg.norm(blocks, axis=2).argmax(axis=1)
    vectors = np.conj(blocks[np.arange(len(blocks)), rows])
    vectors = vectors + 1e-3 * np.abs(vectors).max(initial=0.0)
    norms = np.zeros(len(blocks))
    for _ in range(iterations):
        vectors = vectors / np.maximum(_norms(vectors), 1e-300)
        image = np.matmul(blocks, vectors[:, :, None])[:, :, 0]
        norms = _norms(image)[:, 0]
        # Row times matrix: no copy of the matrices, whatever their size.
        vectors = np.matmul(np.conj(image)[:, None, :], blocks)[:, 0].conj()
    return norms


def _norms(vectors):
    return np.linalg.norm(vectors, axis=-1, keepdims=True)


def top_vectors(block: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """`(left, norm, right)`: the largest singular value of a matrix."""
    small = block.shape[0] <= block.shape[1]
    adjoint = block.conj().T
    gram = block @ adjoint if small else adjoint @ block
    values, vectors = np.linalg.eigh(gram)
    norm, vector = math.sqrt(max(values[-1], 0.0)), vectors[:, -1]
    if norm == 0:
        return np.zeros(block.shape[0]), 0.0, np.zeros(block.shape[1])
    other = (adjoint if small else block) @ vector / norm
    return (vector, norm, other) if small else (other, norm, vector)
