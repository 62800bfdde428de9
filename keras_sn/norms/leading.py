"""The leading singular triplet of a matrix, and nothing else of it."""

import numpy as np

from keras_sn.norms.symbol_norm import top_vectors

# Up to this size a full decomposition is as fast.
_SMALL = 192
_STEPS = 300
_ACCURATE = 1e-10


def leading_triplet(
    matrix: np.ndarray,
) -> tuple[np.ndarray, float, np.ndarray]:
    """`(left, norm, right)` of the largest singular value, not proved.

    Of a large matrix by Lanczos steps on its Gram matrix, which is never
    formed: products with vectors cost next to nothing beside a decomposition.

    Args:
        matrix: Array `(rows, columns)`, real or complex.

    Example:

    >>> import numpy as np
    >>> from keras_sn.norms.leading import leading_triplet
    >>> matrix = np.random.default_rng(0).normal(size=(300, 400))
    >>> _, norm, _ = leading_triplet(matrix)
    >>> bool(abs(norm - np.linalg.norm(matrix, 2)) < 1e-6 * norm)
    True
    """
    if min(matrix.shape) <= _SMALL:
        return top_vectors(matrix)
    steps = min(_STEPS, min(matrix.shape))
    basis = np.zeros((steps + 1, matrix.shape[1]), matrix.dtype)
    adjoint = matrix.conj().T
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    # All directions alike, but none of them orthogonal to it by symmetry.
    start = np.random.default_rng(0).standard_normal(matrix.shape[1])
    basis[0] = start / np.linalg.norm(start)
    right = basis[0]
    for step in range(steps):
        image = adjoint @ (matrix @ basis[step])
        diagonal[step] = np.vdot(basis[step], image).real
        for _ in range(2):
            # Twice is enough (Kahan, Parlett).
            known = basis[: step + 1]
            image -= known.T @ (known.conj() @ image)
        beside[step] = np.linalg.norm(image)
        ending = step == steps - 1 or beside[step] <= _ACCURATE * diagonal[0]
        if ending or step % 8 == 7:
            values, vectors = np.linalg.eigh(
                np.diag(diagonal[: step + 1])
                + np.diag(beside[:step], 1)
                + np.diag(beside[:step], -1)
            )
            right = vectors[:, -1] @ basis[: step + 1]
            left_over = beside[step] * abs(vectors[-1, -1])
            # The error of the value is about the square of that.
            if ending or left_over <= 1e-5 * values[-1]:
                break
        basis[step + 1] = image / beside[step]
    right = right / np.linalg.norm(right)
    image = matrix @ right
    norm = float(np.linalg.norm(image))
    if norm == 0:
        return np.zeros(matrix.shape[0]), 0.0, right
    return image / norm, norm, right
