"""Descent on a smooth function with gradient: L-BFGS within a time limit."""

import math
import time
from collections.abc import Callable

import numpy as np

Vector = np.ndarray
Function = Callable[[Vector], tuple[float, Vector | None]]


def minimize(
    function: Function,
    start: Vector,
    iterations: int = 200,
    memory: int = 12,
    deadline: float = math.inf,
    on_step: Callable[[int, float, Vector], None] | None = None,
    tolerance: float = 1e-12,
    trials: int = 30,
) -> tuple[Vector, float]:
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
        deadline: Value of `time.monotonic()` to be back at, as well as the
            duration of the longest evaluation so far tells.
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
    clocked = _Clocked(function, deadline)
    point = np.array(start, "float64")
    value, gradient = clocked(point)
    if gradient is None or not np.isfinite(value):
        return point, value
    pairs: list[tuple[Vector, Vector]] = []
    for step in range(iterations):
        direction = _direction(gradient, pairs)
        slope = direction @ gradient
        if not (slope < 0 and np.isfinite(slope)) or clocked.late:
            break
        found = _backtrack(clocked, point, value, direction, slope, trials)
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


class _Clocked:
    """The function, and whether there is time for it once more."""

    def __init__(self, function: Function, deadline: float):
        self.function, self.deadline = function, deadline
        self.longest = 0.0

    def __call__(self, point: Vector) -> tuple[float, Vector | None]:
        start = time.monotonic()
        result = self.function(point)
        self.longest = max(self.longest, time.monotonic() - start)
        return result

    @property
    def late(self) -> bool:
        """Whether another evaluation would end behind the deadline."""
        return time.monotonic() + self.longest > self.deadline


def _direction(gradient: Vector, pairs: list[tuple[Vector, Vector]]) -> Vector:
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
            1.0, 1.0 / max(float(np.linalg.norm(gradient)), 1e-300)
        )
    for (moved, turned), weight in zip(pairs, reversed(weights), strict=True):
        correction = (turned @ direction) / (moved @ turned)
        direction = direction + (weight - correction) * moved
    return direction


def _backtrack(
    clocked: _Clocked,
    point: Vector,
    value: float,
    direction: Vector,
    slope: float,
    trials: int,
) -> tuple[Vector, float, Vector] | None:
    length = 1.0
    for _ in range(trials):
        if clocked.late:
            return None
        candidate = point + length * direction
        new_value, gradient = clocked(candidate)
        lower = new_value <= value + 1e-4 * length * slope
        if gradient is not None and lower and new_value < value:
            return candidate, new_value, gradient
        length *= 0.4
    return None
