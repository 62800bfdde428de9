"""Descent on a smooth function with gradient: L-BFGS within a time limit."""

import time

import numpy as np


def minimize(
    function,
    start,
    iterations=200,
    memory=12,
    deadline=None,
    on_step=None,
    tolerance=1e-12,
    trials=30,
):
    """Minimises a function that may be infinite outside of its domain.

    L-BFGS with backtracking (Nocedal & Wright 2006, Algorithm 7.5): a step
    is taken only if it lowers the function, so the sequence of values falls
    and every iterate stays in the domain.

    Args:
        function: Takes a vector, returns `(value, gradient)`; `(inf, None)`
            outside of the domain.
        start: Vector inside the domain.
        iterations: Largest number of steps.
        memory: Number of past steps that shape the next direction.
        deadline: Value of `time.monotonic()` at which to stop.
        on_step: Called with `(step, value, vector)` after each step.
        tolerance: Relative gain of a step below which to stop.
        trials: Largest number of lengths to try for a step.

    Returns:
        `(vector, value)` of the best iterate.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.upper.descent import minimize
    >>> def bowl(x):
    ...     return float(np.sum((x - 3) ** 2)), 2 * (x - 3)
    >>> minimize(bowl, np.zeros(2))[0].round(6)
    array([3., 3.])
    """
    point = np.array(start, "float64")
    value, gradient = function(point)
    if not np.isfinite(value):
        return point, value
    pairs = []
    for step in range(iterations):
        direction = _direction(gradient, pairs)
        slope = direction @ gradient
        if not (slope < 0 and np.isfinite(slope)) or _late(deadline):
            break
        found = _backtrack(
            function, point, value, direction, slope, deadline, trials
        )
        if found is None:
            if not pairs:
                break
            # The curvature model misled: start anew from the gradient.
            pairs = []
            continue
        new_point, new_value, new_gradient = found
        moved, turned = new_point - point, new_gradient - gradient
        if moved @ turned > 1e-12 * np.sqrt(
            (moved @ moved) * (turned @ turned)
        ):
            pairs = [*pairs[-memory + 1 :], (moved, turned)]
        gained = value - new_value
        point, value, gradient = new_point, new_value, new_gradient
        if on_step is not None:
            on_step(step, value, point)
        if gained < tolerance * max(abs(value), 1e-3):
            break
    return point, value


def _direction(gradient, pairs):
    """The two-loop recursion: minus the inverse Hessian model times g."""
    direction = -gradient
    weights = []
    for moved, turned in reversed(pairs):
        weight = (moved @ direction) / (moved @ turned)
        direction = direction - weight * turned
        weights.append(weight)
    if pairs:
        moved, turned = pairs[-1]
        direction = direction * ((moved @ turned) / (turned @ turned))
    else:
        direction = direction * min(
            1.0, 1.0 / max(np.linalg.norm(gradient), 1e-300)
        )
    for (moved, turned), weight in zip(pairs, reversed(weights), strict=True):
        correction = (turned @ direction) / (moved @ turned)
        direction = direction + (weight - correction) * moved
    return direction


def _backtrack(function, point, value, direction, slope, deadline, trials):
    length = 1.0
    for _ in range(trials):
        if _late(deadline):
            return None
        candidate = point + length * direction
        new_value, new_gradient = function(candidate)
        if new_value <= value + 1e-4 * length * slope and new_value < value:
            return candidate, new_value, new_gradient
        length *= 0.4
    return None


def _late(deadline):
    return deadline is not None and time.monotonic() > deadline
