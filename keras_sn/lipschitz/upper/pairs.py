"""All differences of two outputs of a dense stack, by one recursion."""

import math
import time

import numpy as np

from keras_sn.lipschitz.upper.closed_form import Interval
from keras_sn.lipschitz.upper.closed_form import choices
from keras_sn.lipschitz.upper.closed_form import output_covariance
from keras_sn.lipschitz.upper.closed_form import recorded
from keras_sn.lipschitz.upper.closed_form import unit_errors
from keras_sn.lipschitz.upper.closed_form import unit_factors
from keras_sn.lipschitz.upper.covariance import pair_squares
from keras_sn.lipschitz.upper.lipsdp_descent import improved
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import product_upper


def pair_bounds(
    matrices: list[np.ndarray],
    slopes: list[Interval],
    errors: list[float] | None = None,
    iterations: int = 0,
    deadline: float = math.inf,
) -> np.ndarray:
    """Bounds of the constants of `f_i - f_j` for all outputs of a stack.

    One covariance of the outputs serves all pairs, whatever multipliers it
    stems from. Several formulas give some, and a descent on the sum of all
    squared bounds, which is smooth, improves them.

    Args:
        matrices: As for `closed_form_bound`.
        slopes: As for `closed_form_bound`.
        errors: As for `closed_form_bound`.
        iterations: Steps of the descent; 0 for formulas alone.
        deadline: Value of `time.monotonic()` to be back at, about.

    Returns:
        Array `(outputs, outputs)`, proved in float64; `inf` where nothing is.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.upper.pairs import pair_bounds
    >>> pair_bounds([np.diag([3.0, 4.0])], []).round(6)
    array([[0., 5.],
           [5., 0.]])
    """
    factors = unit_factors(matrices)
    size = len(matrices[-1])
    squares = np.where(np.eye(size) > 0, 0.0, np.inf)
    if not all(np.isfinite(factors)):
        return squares
    if 0.0 in factors:
        return np.zeros((size, size))
    unit = [m / factor for m, factor in zip(matrices, factors, strict=True)]
    errors = unit_errors(errors, factors)
    least, best = math.inf, None
    longest = 0.0
    for choice in choices(unit, (), factors):
        begun = time.monotonic()
        found, choose = recorded(choice)
        spread = output_covariance(unit, slopes, choose, errors)
        pairs = pair_squares(spread)
        squares = np.minimum(squares, pairs)
        if pairs.sum() < least:
            least, best = pairs.sum(), found
        longest = max(longest, time.monotonic() - begun)
        if time.monotonic() + longest > deadline:
            break
    if best and iterations:
        given = improved(
            unit, slopes, best, differences, iterations, deadline - longest
        )
        following = iter(given)
        spread = output_covariance(
            unit, slopes, lambda *_: next(following), errors
        )
        squares = np.minimum(squares, pair_squares(spread))
    factor = product_upper(factors) * (1 + 8 * EPS)
    return np.sqrt(squares) * factor


def differences(spread: np.ndarray) -> tuple[float, np.ndarray]:
    """The sum of all squared bounds, and directions whose squares it sums."""
    size = len(spread)
    centring = math.sqrt(size) * (np.eye(size) - 1 / size)
    return float(np.trace(centring @ spread @ centring)), centring
