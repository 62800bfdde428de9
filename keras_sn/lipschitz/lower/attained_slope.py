"""Slopes that hold as lower bounds: at a point, and of pairs."""

import numpy as np

from keras_sn.lipschitz.lower.flat_model import FlatModel

# What a pair must confirm of the slope at a point.
_CONFIRMED = 0.998
_SHIFT = 1e-5
_SHIFTS = 8


def proved_slope(
    model: FlatModel, candidates: list[tuple], rng: np.random.Generator
) -> float:
    """The steepest slope at the given points that stands up to a check.

    Whatever the unit vector `u`, no Lipschitz constant is below `|J^T u|` at
    a point where the model is differentiable: pairs attain it in the limit.
    Unlike their quotients it does not cancel, so float32 gives it to six
    digits, the same on every backend. Small random shifts avoid kinks; of
    those the least slope counts, less what rounding is seen to do. And since
    a gradient may be defined as what it is not, a pair has to confirm it.
    Where none does, the quotient of a pair counts, less its rounding.

    Args:
        model: `FlatModel`.
        candidates: Tuples `(slope, x, v, u)` as found, the steepest first;
            pairs lie along `v`.
        rng: Random generator.

    Returns:
        The slope, at least 0.
    """
    best = fallback = 0.0
    for found, x, v, u in candidates:
        if best > 0.999 * found:
            break
        slope = slope_at(model, x, u, rng)
        quotient, noise = steepest_pair(model, x, v, rng)
        fallback = max(fallback, quotient - noise)
        if _CONFIRMED * slope <= quotient:
            best = max(best, slope)
    return best or fallback


def slope_at(
    model: FlatModel, x: np.ndarray, u: np.ndarray, rng: np.random.Generator
) -> float:
    """`|J^T u|` beside a point, the least of several, rounding taken off."""
    shifts = rng.standard_normal((_SHIFTS, len(x)))
    norms = np.linalg.norm(shifts, axis=1, keepdims=True)
    points = x + _SHIFT * size_of(x[None]) * shifts / norms
    u = u.astype("float32").astype("float64")
    slopes = []
    # An ulp further every rounding inside of the model falls differently.
    for ends in (points, _an_ulp_off(points, model.eps, rng)):
        _, gradients = model.pullback(ends, lambda outputs: u[None])
        slopes.append(np.linalg.norm(gradients, axis=1))
    slopes = np.array(slopes) / max(np.linalg.norm(u), 1e-30)
    noise = np.abs(slopes[0] - slopes[1]).max() + 4 * model.eps * slopes.max()
    return float(np.nan_to_num(slopes.min() - noise, nan=0.0, posinf=0.0))


def steepest_pair(
    model: FlatModel, x: np.ndarray, v: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """The largest quotient of pairs around a point.

    Returns:
        `(quotient, noise)`, the noise what rounding may have added.
    """
    lengths = size_of(x[None]) * np.geomspace(1e-4, 0.5, 8)[:, None]
    ends = np.stack([x - lengths * v, x + lengths * v])
    ends = ends.astype("float32").astype("float64")
    values = _evaluate(model, ends)
    noise = 2 * model.eps * np.linalg.norm(values, axis=-1)
    for _ in range(3):
        moved = _evaluate(model, _an_ulp_off(ends, model.eps, rng))
        moved = np.linalg.norm(moved - values, axis=-1)
        noise = np.maximum(noise, 2 * moved)
    distance = np.linalg.norm(ends[1] - ends[0], axis=-1)
    rise = np.linalg.norm(values[1] - values[0], axis=-1)
    distance = np.where(distance > 0, distance, np.inf)
    quotients = np.nan_to_num(rise / distance, nan=0.0, posinf=0.0)
    noise = np.nan_to_num(noise.sum(axis=0) / distance, nan=np.inf)
    best = np.argmax(quotients - noise)
    return float(quotients[best]), float(min(noise[best], quotients[best]))


def size_of(points: np.ndarray) -> np.ndarray:
    """A length to measure steps in, positive at the origin too."""
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    return norms + 0.05 * np.sqrt(points.shape[1])


def _evaluate(model: FlatModel, ends: np.ndarray) -> np.ndarray:
    rows = model.evaluate(ends.reshape(-1, ends.shape[-1]))
    return rows.reshape(*ends.shape[:-1], -1)


def _an_ulp_off(
    points: np.ndarray, eps: float, rng: np.random.Generator
) -> np.ndarray:
    return points * (1 + rng.choice([-eps, eps], points.shape))
