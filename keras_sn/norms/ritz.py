"""Ritz values: the largest eigenvalue of Gram matrices, from below."""

import numpy as np

# Up to this size an eigenvalue decomposition is as cheap as Lanczos.
SMALL = 12


def ritz_pairs(grams, start, steps):
    """Largest Ritz value and vector of each matrix of a stack.

    Lanczos with full reorthogonalisation, all matrices at once.

    Guarantee: in exact arithmetic a lower bound of the largest eigenvalue.

    Args:
        grams: Hermitian array `(points, n, n)`.
        start: Array `(points, n)` or `(n,)`: where to start.
        steps: Dimension of the Krylov space.

    Returns:
        Tuple of the values `(points,)` and the unit vectors `(points, n)`.
    """
    points, size = grams.shape[:2]
    if size <= SMALL:
        values, vectors = np.linalg.eigh(grams)
        return values[:, -1], vectors[:, :, -1]
    steps = min(steps, size)
    basis = np.zeros((steps, points, size), dtype=grams.dtype)
    tridiagonal = np.zeros((points, steps, steps))
    vector = np.broadcast_to(start, (points, size)).astype(grams.dtype)
    vector = _unit(vector)[0]
    for step in range(steps):
        basis[step] = vector
        image = np.matmul(grams, vector[:, :, None])[:, :, 0]
        tridiagonal[:, step, step] = np.sum(
            np.real(np.conj(vector) * image), axis=-1
        )
        known = basis[: step + 1]
        # Twice is enough (Kahan, Parlett).
        for _ in range(2):
            overlap = np.sum(np.conj(known) * image, axis=-1, keepdims=True)
            image = image - np.sum(overlap * known, axis=0)
        vector, norm = _unit(image)
        if step + 1 < steps:
            tridiagonal[:, step, step + 1] = norm
            tridiagonal[:, step + 1, step] = norm
    values, coordinates = np.linalg.eigh(tridiagonal)
    top = coordinates[:, :, -1]
    vectors = np.einsum("pk,kpn->pn", top, basis)
    return values[:, -1], _unit(vectors)[0]


def converged_ritz_pair(gram, start, tolerance, steps=16, restarts=40):
    """The largest Ritz value of one matrix, until it stops growing.

    Args:
        gram: Hermitian array `(n, n)`.
        start: Array `(n,)`.
        tolerance: Relative growth at which to stop.
        steps: Dimension of the Krylov space between restarts.
        restarts: Largest number of restarts.

    Returns:
        Tuple of the value and the unit vector `(n,)`.
    """
    value, vector = -1.0, start
    for _ in range(restarts):
        previous = value
        values, vectors = ritz_pairs(gram[None], vector, steps)
        value, vector = float(values[0]), vectors[0]
        if value - previous <= tolerance * value:
            break
    return value, vector


def rayleigh_quotient(gram, vector):
    """`v* G v / v* v`, computed afresh, to be used as a bound."""
    image = gram @ vector
    return float(np.real(np.vdot(vector, image)) / np.vdot(vector, vector).real)


def _unit(vectors):
    norms = np.linalg.norm(vectors, axis=-1)
    # The Krylov space is exhausted; a zero vector adds nothing to it.
    safe = np.where(norms > 1e-150, norms, np.inf)
    return vectors / safe[:, None], norms
