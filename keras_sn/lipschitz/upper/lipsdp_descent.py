"""LipSDP-Neuron by descent: certificates that get tighter with time."""

import time
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_sn.lipschitz.upper.closed_form import Interval
from keras_sn.lipschitz.upper.closed_form import best_multipliers
from keras_sn.lipschitz.upper.closed_form import intervals
from keras_sn.lipschitz.upper.closed_form import proved_bound
from keras_sn.lipschitz.upper.closed_form import unit_errors
from keras_sn.lipschitz.upper.closed_form import unit_factors
from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.lipschitz.upper.worst_directions import Activation
from keras_sn.norms.leading import leading_triplet
from keras_sn.norms.proofs import product_upper


def refined_bound(
    matrices: list[np.ndarray],
    slopes: list[Interval],
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
        slopes: As for `closed_form_bound`.
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
    closed, given = best_multipliers(matrices, slopes, scales, errors, deadline)
    # The proof at the end takes no longer than that, with its proof.
    reserved = time.monotonic() - begun
    if given is None or time.monotonic() + reserved > deadline:
        return closed
    factors = unit_factors(matrices)
    unit = [m / factor for m, factor in zip(matrices, factors, strict=True)]
    first = unit[0] @ unit[0].T
    sizes = np.cumsum([len(part) for part in given])[:-1]
    multipliers = np.concatenate(given)
    # Zero where a slope is known, and zero it stays.
    free = multipliers > 0

    def parts(logs: np.ndarray) -> list[np.ndarray]:
        multipliers[free] = np.exp(logs)
        return np.split(multipliers, sizes)

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray | None]:
        if np.abs(logs).max(initial=0.0) > 300:
            return np.inf, None
        value, gradient = squared_bound(unit, slopes, parts(logs), first)
        return value, None if gradient is None else gradient[free]

    def on_step(step: int, value: float, _: np.ndarray) -> None:
        if progress is not None:
            total = np.prod(factors) * np.exp(value / 2)
            progress(step + 1, iterations, float(total))

    logs, _ = minimize(
        objective,
        np.log(multipliers[free]),
        iterations=iterations,
        deadline=deadline - reserved,
        on_step=on_step,
    )
    errors = unit_errors(errors, factors)
    proved = proved_bound(unit, slopes, parts(logs), errors)
    return min(closed, product_upper([proved, *factors]))


def squared_bound(
    matrices: list[np.ndarray],
    slopes: list[Interval],
    multipliers: list[np.ndarray],
    first: np.ndarray | None = None,
) -> tuple[float, np.ndarray | None]:
    """`log L^2` of given multipliers and its gradient in their logarithms.

    Args:
        matrices: The stack.
        slopes: As for `closed_form_bound`.
        multipliers: The diagonals of `Lambda_i`.
        first: `W_1 W_1^T`, where it is at hand.

    Returns:
        `(value, gradient)`; `(inf, None)` if infeasible.
    """
    spread = matrices[0] @ matrices[0].T if first is None else first
    steps: list[Activation] = []
    try:
        for lam, (a, b), after in zip(
            multipliers, slopes, matrices[1:], strict=True
        ):
            between = intervals(a, b, len(spread))
            steps.append(Activation(spread, between, lam))
            spread = after @ steps[-1].covariance @ after.T
    except np.linalg.LinAlgError:
        return np.inf, None
    left, square, _ = leading_triplet(spread)
    if not (np.isfinite(square) and square > 0):
        return np.inf, None
    directions, gradients = left[:, None], []
    for step, after in zip(
        reversed(steps), reversed(matrices[1:]), strict=True
    ):
        directions, gradient = step.back(after.T @ directions)
        gradients.append(gradient / square)
    return float(np.log(square)), np.concatenate(gradients[::-1])
