"""LipSDP-Neuron by descent: certificates that get tighter with time."""

import time
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_sn.lipschitz.upper.closed_form import best_multipliers
from keras_sn.lipschitz.upper.closed_form import unit_errors
from keras_sn.lipschitz.upper.closed_form import unit_factors
from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.lipschitz.upper.lipsdp_proof import certify
from keras_sn.lipschitz.upper.lipsdp_proof import eliminate
from keras_sn.norms.leading import leading_triplet
from keras_sn.norms.proofs import product_upper


def refined_bound(
    matrices: list[np.ndarray],
    slopes: list[tuple[float, float]],
    scales: Sequence[list[np.ndarray]] = (),
    errors: list[float] | None = None,
    iterations: int = 300,
    time_limit: float = 60.0,
    progress: Callable[..., object] | None = None,
) -> float:
    """The closed-form bound, its multipliers improved by descent.

    Every iterate is a feasible point of LipSDP-Neuron, so stopping at any
    time leaves a valid bound, and no semidefinite solver is needed.

    Args:
        matrices: List of arrays `W_i` of shape `(outputs, inputs)`, in the
            order they are applied.
        slopes: Pairs `(a, b)`, one per activation in between.
        scales: As for `closed_form_bound`.
        errors: As for `closed_form_bound`.
        iterations: Largest number of descent steps.
        time_limit: Seconds after which to stop.
        progress: Called with `(step, iterations, bound)` after each step.

    Returns:
        The bound, proved in float64, never above the closed form's.

    Reference:

    - [Fazlyab et al., 2019](https://arxiv.org/abs/1906.04893)
    """
    deadline = time.monotonic() + time_limit
    begun = time.monotonic()
    closed, multipliers = best_multipliers(
        matrices, slopes, scales, errors, deadline
    )
    # The proof at the end takes no longer than that, with its proof.
    reserved = time.monotonic() - begun
    if multipliers is None or time.monotonic() + reserved > deadline:
        return closed
    factors = unit_factors(matrices)
    unit = [m / factor for m, factor in zip(matrices, factors, strict=True)]
    sizes = np.cumsum([len(multiplier) for multiplier in multipliers])[:-1]

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray | None]:
        if np.abs(logs).max() > 300:
            return np.inf, None
        parts = [np.exp(part) for part in np.split(logs, sizes)]
        return squared_bound(unit, slopes, parts)

    def on_step(step: int, value: float, _: np.ndarray) -> None:
        if progress is not None:
            total = np.prod(factors) * np.exp(value / 2)
            progress(step + 1, iterations, float(total))

    logs, _ = minimize(
        objective,
        np.log(np.concatenate(multipliers)),
        iterations=iterations,
        deadline=deadline - reserved,
        on_step=on_step,
    )
    improved = [np.exp(part) for part in np.split(logs, sizes)]
    errors = unit_errors(errors, factors)
    proved = certify(unit, slopes, improved, errors)
    bound = product_upper([proved, *factors])
    return min(closed, bound)


def squared_bound(
    matrices: list[np.ndarray],
    slopes: list[tuple[float, float]],
    multipliers: list[np.ndarray],
) -> tuple[float, np.ndarray | None]:
    """`log L^2` of given multipliers and its gradient in their logarithms.

    With `q` the top eigenvector at the end, the worst input propagates
    backwards as `y_{i-1} = Z_i y_i`, and with `z_i = W_i y_{i-1}` the
    derivative in `Lambda_i` is `-(y_i - a z_i)(y_i - b z_i) / L^2`: a unit's
    multiplier grows while its slope at the worst input lies in `[a, b]`.

    Returns:
        `(value, gradient)`; `(inf, None)` if infeasible.
    """
    inner = np.eye(matrices[0].shape[1])
    backs = []
    try:
        for matrix, multiplier, (a, b) in zip(
            matrices, multipliers, slopes, strict=False
        ):
            if a * b < 0:
                weighted = multiplier[:, None] * matrix
                np.linalg.cholesky(inner + a * b * (matrix.T @ weighted))
            inner, back = eliminate(inner, matrix, multiplier, a, b)
            np.linalg.cholesky(inner)
            backs.append(back)
        half = np.linalg.solve(inner, matrices[-1].T)
    except np.linalg.LinAlgError:
        return np.inf, None
    left, square, _ = leading_triplet(matrices[-1] @ half)
    if not (np.isfinite(square) and square > 0):
        return np.inf, None
    worst = half @ left
    gradients = []
    for i in reversed(range(len(backs))):
        a, b = slopes[i]
        before = backs[i] @ worst
        inputs = matrices[i] @ before
        slope = -(worst - a * inputs) * (worst - b * inputs) / square
        gradients.append(slope * multipliers[i])
        worst = before
    return float(np.log(square)), np.concatenate(gradients[::-1])
