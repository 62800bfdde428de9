"""Peak of a trigonometric polynomial: where to look for a larger norm."""

import itertools

import numpy as np

_NEWTON_STEPS = 4


def highest_frequency(coefficients, shifts):
    """Where `Re sum_r c_r exp(-i w . r)` is largest.

    The best point of a grid, then Newton's method. The answer only proposes
    a frequency; the norm there is computed afresh.

    Args:
        coefficients: Complex array `(terms,)`.
        shifts: Array `(terms, axes)` of the `r`.

    Returns:
        Array `(axes,)`.
    """
    reach = np.abs(shifts).max(axis=0).astype(int)
    axes = [
        2 * np.pi * np.arange(4 * r + 2) / (4 * r + 2) if r else np.zeros(1)
        for r in reach
    ]
    points = np.array(list(itertools.product(*axes)))
    values = np.real(np.exp(-1j * (points @ shifts.T)) @ coefficients)
    best = points[np.argmax(values)]
    active = np.flatnonzero(reach)
    if len(active) == 0:
        return best
    return _newton(best, coefficients, shifts, active)


def _newton(point, coefficients, shifts, active):
    moving = shifts[:, active]
    for _ in range(_NEWTON_STEPS):
        terms = coefficients * np.exp(-1j * (shifts @ point))
        gradient = np.imag(terms @ moving)
        hessian = -np.real((moving * terms[:, None]).T @ moving)
        curvature, directions = np.linalg.eigh(hessian)
        # Uphill along every direction, whatever the sign of its curvature.
        step = directions.T @ gradient
        step = step / np.maximum(np.abs(curvature), 1e-12 + abs(step).max())
        trial = point.copy()
        trial[active] += directions @ step
        value = np.real(np.sum(coefficients * np.exp(-1j * (shifts @ trial))))
        if value <= np.real(np.sum(terms)):
            break
        point = trial
    return point
