"""Closed-form Lipschitz certificates of dense stacks, LipSDP-feasible."""

import math
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from keras_sn.lipschitz.upper import covariance
from keras_sn.lipschitz.upper.covariance import Slopes
from keras_sn.lipschitz.upper.moduli import moduli_bound
from keras_sn.lipschitz.upper.multipliers import balanced_multipliers
from keras_sn.lipschitz.upper.multipliers import multipliers
from keras_sn.lipschitz.upper.multipliers import ratio_shape
from keras_sn.lipschitz.upper.rescaling import balanced
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import norm_upper
from keras_sn.norms.proofs import power_of_two
from keras_sn.norms.proofs import product_upper

# The slopes of an activation: numbers, or one per unit.
Interval = tuple[float | np.ndarray, float | np.ndarray]
# `Lambda_i`, given `i`, the covariance before activation `i`, its slopes.
Choice = Callable[[int, np.ndarray, Slopes], np.ndarray]


def closed_form_bound(
    matrices: list[np.ndarray],
    slopes: list[Interval],
    scales: Sequence[list[np.ndarray]] = (),
    errors: list[float] | None = None,
    deadline: float = math.inf,
) -> float:
    """A bound of a stack by one recursion through its layers.

    For `W_l f(... f(W_1 x))` it pushes an ellipsoid from layer to layer, see
    `covariance`; any multipliers that keep it finite are valid. Here they
    come from a formula, several formulas in turn, the best one counts;
    ECLipsE-Fast is among them. Where no weight is negative, the constant
    itself is known without.

    Args:
        matrices: List of arrays `W_i` of shape `(outputs, inputs)`, in the
            order they are applied.
        slopes: Pairs `(a, b)`, one per activation in between: numbers, or
            arrays with one per unit.
        scales: Further diagonals to try: lists of vectors `E_i`, as from
            `best_scales`; the result is at most their rescaled bound.
        errors: Bounds on the spectral norm of the difference between the
            matrices that are meant and the arrays. `None`: zero.
        deadline: Value of `time.monotonic()` at which to try no more formulas
            than the first.

    Returns:
        The bound, proved in float64.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.upper.closed_form import closed_form_bound
    >>> ones = np.ones((2, 2))
    >>> round(closed_form_bound([ones, np.diag([1.0, 0.0])], [(0, 1)]), 6)
    1.414214

    Reference:

    - [Fazlyab et al., 2019](https://arxiv.org/abs/1906.04893)
    - [Xu & Sivaranjani, 2024](https://arxiv.org/abs/2404.04375)
    """
    bound, _ = best_multipliers(matrices, slopes, scales, errors, deadline)
    return bound


def best_multipliers(
    matrices: list[np.ndarray],
    slopes: list[Interval],
    scales: Sequence[list[np.ndarray]] = (),
    errors: list[float] | None = None,
    deadline: float = math.inf,
) -> tuple[float, list[np.ndarray] | None]:
    """The bound and multipliers `Lambda_i` to improve on.

    They belong to the matrices divided by `unit_factors`, and are `None`
    where there is nothing to improve.
    """
    factors = unit_factors(matrices)
    if not all(np.isfinite(factors)):
        return math.inf, None
    if 0.0 in factors:
        return 0.0, None
    # Slopes do not change when a layer's scale moves into its activation.
    unit = [m / factor for m, factor in zip(matrices, factors, strict=True)]
    errors = unit_errors(errors, factors)
    steepest = [
        float(np.max(np.maximum(np.abs(a), np.abs(b)))) for a, b in slopes
    ]
    moduli = math.inf if any(errors) else moduli_bound(unit, steepest)
    attained = all(np.ndim(a) == np.ndim(b) == 0 for a, b in slopes)
    attained = attained and all(m.min() >= 0 for m in unit)
    if math.isfinite(moduli) and attained:
        return product_upper([moduli, *factors]), None
    best, kept = math.inf, None
    for choice in _choices(unit, scales, factors):
        begun = time.monotonic()
        bound, found = recursion(unit, slopes, choice, errors)
        if bound < best:
            best, kept = bound, found
        if 2 * time.monotonic() - begun > deadline:
            break
    if kept is None:
        norms = [norm_upper(m) + e for m, e in zip(unit, errors, strict=True)]
        best = product_upper([*norms, *steepest])
    return product_upper([min(best, moduli), *factors]), kept


def recursion(
    matrices: list[np.ndarray],
    slopes: list[Interval],
    choice: Choice,
    errors: list[float] | None = None,
) -> tuple[float, list[np.ndarray]]:
    """The bound with multipliers by a formula, and these.

    Args:
        matrices: The stack, of norms near one.
        slopes: Its slopes.
        choice: Function of `(i, S_i, slopes)` that returns `Lambda_i`.
        errors: As for `closed_form_bound`.
    """
    found: list[np.ndarray] = []

    def choose(spread: np.ndarray, between: Slopes) -> np.ndarray:
        found.append(choice(len(found), spread, between))
        return found[-1]

    return _through(matrices, slopes, choose, errors), found


def proved_bound(
    matrices: list[np.ndarray],
    slopes: list[Interval],
    given: list[np.ndarray],
    errors: list[float] | None = None,
) -> float:
    """The bound that given multipliers prove; `inf` if they prove nothing."""
    following = iter(given)
    return _through(matrices, slopes, lambda *_: next(following), errors)


def _through(matrices, slopes, choose, errors):
    """The bound with `Lambda` from a function of `(S, slopes)`."""
    errors = [0.0] * len(matrices) if errors is None else errors
    inner = None
    for matrix, (a, b), error in zip(matrices, slopes, errors, strict=False):
        spread = covariance.push(matrix, inner, error)
        between = intervals(a, b, len(matrix))
        inner = covariance.activate(spread, between, choose(spread, between))
    square = covariance.largest(
        covariance.push(matrices[-1], inner, errors[-1])
    )
    return math.sqrt(square) * (1 + 2 * EPS)


def intervals(low, high, size):
    """`Slopes` of that many units."""
    return Slopes.between(
        np.broadcast_to(low, size), np.broadcast_to(high, size)
    )


def unit_factors(matrices: list[np.ndarray]) -> list[float]:
    """Powers of two that bring matrices to a norm of about one.

    Taken off first, they keep everything in the range of float64.
    """
    return [
        power_of_two(float(np.abs(matrix).max(initial=0.0)))
        * power_of_two(math.sqrt(max(matrix.size, 1)))
        for matrix in matrices
    ]


def unit_errors(
    errors: list[float] | None, factors: list[float]
) -> list[float]:
    """The errors of matrices that were divided by their factors."""
    if errors is None:
        return [0.0] * len(factors)
    return [e / factor for e, factor in zip(errors, factors, strict=True)]


def over_diagonal(shape: Callable[[int, np.ndarray], np.ndarray]) -> Choice:
    """`Lambda_i = t D_i^-1`, given a function of `(i, S_i)` for `D_i`."""

    def choice(i: int, spread: np.ndarray, slopes: Slopes) -> np.ndarray:
        return multipliers(spread[None], slopes, shape(i, spread))[0]

    return choice


def _choices(
    matrices: list[np.ndarray],
    scales: Sequence[list[np.ndarray]],
    factors: list[float],
) -> Iterator[Choice]:
    """The formulas for `Lambda_i`, the one that is best most often first."""
    yield lambda i, spread, slopes: balanced_multipliers(
        spread, slopes, matrices[i + 1]
    )
    if len(matrices) > 1:
        scales_of_moduli = balanced([np.abs(matrix) for matrix in matrices])
        yield over_diagonal(lambda i, spread: scales_of_moduli[i] ** -2.0)
    yield over_diagonal(lambda i, spread: np.ones(len(spread)))
    yield over_diagonal(lambda i, spread: ratio_shape(spread, matrices[i + 1]))
    for given in scales:
        # The scales belong to the matrices before their factors were taken.
        total = np.cumprod(factors)
        pairs = zip(given, total, strict=False)
        yield _listed([(scale * factor) ** -2.0 for scale, factor in pairs])


def _listed(diagonals: list[np.ndarray]) -> Choice:
    return over_diagonal(lambda i, spread: diagonals[i])
