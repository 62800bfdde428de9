"""Diagonal rescaling of a stack of matrices with activations in between."""

import numpy as np

from keras_sn.lipschitz.descent import minimize
from keras_sn.lipschitz.rounding import norm_upper
from keras_sn.lipschitz.rounding import product_upper


def rescaled_bound(matrices, slopes, deadline=None):
    """The product of norms, minimised over rescalings of the hidden units.

    For positive diagonal `E_i` and elementwise activations with slopes of
    at most `c_i`, `|E f(x) - E f(y)| <= c |E (x - y)|`, so
    `prod_i c_i |E_i W_i E_{i-1}^-1|` with `E_0 = E_l = I` bounds the
    Lipschitz constant. (No homogeneity of the activation is needed.)

    Args:
        matrices: List of arrays `W_i` of shape `(outputs, inputs)`, in the
            order they are applied.
        slopes: Pairs `(a, b)`, one per activation in between: its slopes lie
            in `[a, b]`.
        deadline: Value of `time.monotonic()` at which to stop improving.

    Returns:
        The bound, proved in float64.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.rescaling import rescaled_bound
    >>> first, second = np.diag([8.0, 1.0]), np.diag([0.5, 4.0])
    >>> round(rescaled_bound([first, second], [(0, 1)]), 6)
    4.0
    """
    scales = best_scales(matrices, deadline=deadline)
    steepest = [max(abs(a), abs(b)) for a, b in slopes]
    plain = [norm_upper(matrix) for matrix in matrices]
    rescaled = [norm_upper(matrix) for matrix in apply(matrices, scales)]
    # Rounding of the two scalings of each entry.
    best = min(product_upper(plain), product_upper(rescaled) * (1 + 1e-14))
    return product_upper([best, *steepest])


def best_scales(matrices, deadline=None):
    """The vectors `E_1 ... E_{l-1}` that minimise the product of norms.

    The derivative of `log |E_i W_i E_{i-1}^-1|` with respect to `log E_i` is
    the squared left singular vector, to `log E_{i-1}` minus the squared right
    one.
    """
    sizes = [matrix.shape[0] for matrix in matrices[:-1]]
    if not sizes:
        return []
    # Stationary points of a single entry each: a balanced start.
    splits = np.cumsum(sizes)[:-1]

    def objective(logs):
        scales = [np.exp(part) for part in np.split(logs, splits)]
        value, gradient = 0.0, [np.zeros(size) for size in sizes]
        for i, matrix in enumerate(apply(matrices, scales)):
            norm, left, right = top_triplet(matrix)
            if norm == 0:
                return -np.inf, None
            value += np.log(norm)
            if i < len(sizes):
                gradient[i] += left**2
            if i > 0:
                gradient[i - 1] -= right**2
        return value, np.concatenate(gradient)

    starts = [np.zeros(sum(sizes)), np.log(np.concatenate(balanced(matrices)))]
    results = [
        minimize(objective, start, iterations=100, deadline=deadline)
        for start in starts
    ]
    logs = min(results, key=lambda result: result[1])[0]
    return [np.exp(part) for part in np.split(logs, splits)]


def balanced(matrices):
    """Scales that are optimal for the moduli of the entries.

    For matrices without negative entries the optimum is known: with `l` and
    `r` the right and left Perron vectors of what stands before and behind
    the units, `E = sqrt(r / l)` makes the product of norms equal to the norm
    of the product. For others it is a good start.
    """
    moduli = [np.abs(matrix) for matrix in matrices]
    vector = np.ones(matrices[0].shape[1])
    for _ in range(20):
        before = _passes(moduli, vector)
        behind = _passes([m.T for m in reversed(moduli)], before[-1])
        vector = behind[-1]
    behind = _passes([m.T for m in reversed(moduli)], before[-1])[::-1]
    return [
        np.sqrt(_floored(r) / _floored(f))
        for f, r in zip(before[1:-1], behind[1:-1], strict=True)
    ]


def apply(matrices, scales):
    """The matrices `E_i W_i E_{i-1}^-1`."""
    rescaled = []
    for i, matrix in enumerate(matrices):
        if i < len(scales):
            matrix = scales[i][:, None] * matrix
        if i > 0:
            matrix = matrix / scales[i - 1][None, :]
        rescaled.append(matrix)
    return rescaled


def top_triplet(matrix):
    """Largest singular value with its left and right singular vector."""
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    values, vectors = np.linalg.eigh(gram)
    norm, vector = np.sqrt(max(values[-1], 0.0)), vectors[:, -1]
    if norm == 0:
        return 0.0, np.zeros(matrix.shape[0]), np.zeros(matrix.shape[1])
    if wide:
        return norm, vector, matrix.T @ vector / norm
    return norm, matrix @ vector / norm, vector


def _passes(matrices, vector):
    passed = [vector / max(np.linalg.norm(vector), 1e-300)]
    for matrix in matrices:
        vector = matrix @ passed[-1]
        passed.append(vector / max(np.linalg.norm(vector), 1e-300))
    return passed


def _floored(vector):
    """Keeps a scale positive where a unit is dead."""
    return np.maximum(vector, 1e-8 * max(vector.max(), 1e-300))
