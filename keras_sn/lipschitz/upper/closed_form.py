"""Closed-form Lipschitz certificates of dense stacks, LipSDP-feasible."""

import math
import time

import numpy as np

from keras_sn.lipschitz.upper.lipsdp_proof import certify
from keras_sn.lipschitz.upper.lipsdp_proof import eliminate
from keras_sn.lipschitz.upper.moduli import moduli_bound
from keras_sn.lipschitz.upper.rescaling import balanced
from keras_sn.norms.proofs import norm_upper
from keras_sn.norms.proofs import power_of_two
from keras_sn.norms.proofs import product_upper

# A proof takes that many times as long as the recursion before it.
_PROOF = 2.0


def closed_form_bound(
    matrices, slopes, scales=(), errors=None, deadline=math.inf
):
    """A bound of a stack by one recursion through its layers.

    For `W_l f(... f(W_1 x))` with slopes of `f` in `[a, b]`, multipliers
    `Lambda_i` per hidden unit and `X_0 = I`, eliminating one layer after the
    other from the linear matrix inequality of LipSDP leaves
    `X_i = Lambda_i - B A^-1 B^T` with `A = X_{i-1} + ab W^T Lambda_i W`,
    `B = (a + b)/2 Lambda_i W`, and `L^2 = lambda_max(W_l X^-1 W_l^T)`.
    Any multipliers that keep every `X_i` positive definite are valid. Here
    they come from a formula, several formulas in turn, the best one counts;
    ECLipsE-Fast is among them. Where no weight is negative, the constant
    itself is known without.

    Args:
        matrices: List of arrays `W_i` of shape `(outputs, inputs)`, in the
            order they are applied.
        slopes: Pairs `(a, b)`, one per activation in between.
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
    matrices, slopes, scales=(), errors=None, deadline=math.inf
):
    """The bound and multipliers `Lambda_i` to improve on.

    They are `None` where there is nothing to improve.
    """
    factors = unit_factors(matrices)
    if not all(np.isfinite(factors)):
        return math.inf, None
    if 0.0 in factors:
        return 0.0, None
    # Slopes do not change when a layer's scale moves into its activation.
    unit = [m / factor for m, factor in zip(matrices, factors, strict=True)]
    errors = unit_errors(errors, factors)
    moduli = math.inf if any(errors) else moduli_bound(unit, slopes)
    if math.isfinite(moduli) and all(m.min() >= 0 for m in unit):
        return product_upper([moduli, *factors]), None
    estimates = []
    for candidate in _candidates(unit, scales, factors):
        begun = time.monotonic()
        multipliers, inner = _recursion(unit, slopes, candidate)
        estimates.append((_estimate(inner, unit[-1]), multipliers))
        taken = time.monotonic() - begun
        if time.monotonic() + (1 + _PROOF) * taken > deadline:
            break
    # Proofs cost as much as the recursions: only the best is proved, or the
    # next one where that fails.
    for _, multipliers in sorted(estimates, key=lambda pair: pair[0]):
        bound = certify(unit, slopes, multipliers, errors)
        if math.isfinite(bound):
            best = min(bound, moduli)
            return product_upper([best, *factors]), multipliers
    steepest = [max(abs(a), abs(b)) for a, b in slopes]
    norms = [norm_upper(m) + e for m, e in zip(unit, errors, strict=True)]
    best = min(product_upper([*norms, *steepest]), moduli)
    return product_upper([best, *factors]), None


def _estimate(inner, matrix):
    """What the multipliers would prove but for rounding."""
    try:
        spread = matrix @ np.linalg.solve(inner, matrix.T)
    except np.linalg.LinAlgError:
        return math.inf
    square = np.linalg.eigvalsh((spread + spread.T) / 2)[-1]
    return float(np.sqrt(square)) if square > 0 else math.inf


def unit_factors(matrices):
    """Powers of two that bring matrices to a norm of about one.

    Taken off first, they keep everything in the range of float64.
    """
    return [
        power_of_two(float(np.abs(matrix).max(initial=0.0)))
        * power_of_two(math.sqrt(max(matrix.size, 1)))
        for matrix in matrices
    ]


def unit_errors(errors, factors):
    """The errors of matrices that were divided by their factors."""
    if errors is None:
        return [0.0] * len(factors)
    return [e / factor for e, factor in zip(errors, factors, strict=True)]


def recursion_multipliers(matrices, slopes, diagonal):
    """Multipliers `tau D^-1`, D scaled to dominate what comes in.

    With `D^-1/2 S D^-1/2 <= I` and `r = (b - a)/2`, `c = max(|a|, |b|)`, the
    largest guaranteed `X_i` is `D^-1 / c^2`, at `tau = 1/(r c)`.

    Args:
        matrices: The stack.
        slopes: Its slopes.
        diagonal: Function of `(i, S_i)` that returns the diagonal of `D_i`.

    Returns:
        List of vectors.
    """
    return _recursion(matrices, slopes, diagonal)[0]


def _recursion(matrices, slopes, diagonal):
    """The multipliers, and `X_{l-1}`."""
    inner = np.eye(matrices[0].shape[1])
    multipliers = []
    for i, (a, b) in enumerate(slopes):
        matrix = matrices[i]
        solved = np.linalg.solve(inner, matrix.T)
        spread = matrix @ solved
        spread = (spread + spread.T) / 2
        d = diagonal(i, spread)
        root = 1 / np.sqrt(d)
        top = np.linalg.eigvalsh(root[:, None] * spread * root[None, :])[-1]
        radius, steepest = (b - a) / 2, max(abs(a), abs(b))
        # Below the exact optimum by more than eigvalsh errs.
        tau = (1 - 1e-12 * len(d)) / (radius * steepest)
        multipliers.append(tau / (d * max(top, 1e-300)))
        if a * b == 0:
            # A = X_{i-1}: the solution at hand is all that is needed.
            middle = (a + b) / 2 * multipliers[-1]
            spread = middle[:, None] * spread * middle[None, :]
            inner = np.diag(multipliers[-1]) - spread
        else:
            inner = eliminate(inner, matrix, multipliers[-1], a, b)[0]
    return multipliers, inner


def _candidates(matrices, scales, factors):
    """The formulas for the diagonal of `D_i`."""
    if len(matrices) > 1:
        scales_of_moduli = balanced([np.abs(matrix) for matrix in matrices])
        yield lambda i, spread: scales_of_moduli[i] ** -2.0
    yield lambda i, spread: np.ones(len(spread))
    yield lambda i, spread: _positive(
        np.sqrt(np.maximum(np.diagonal(spread), 0)),
        np.linalg.norm(matrices[i + 1], axis=0),
    )
    for given in scales:
        # The scales belong to the matrices before their factors were taken.
        total = np.cumprod(factors)
        yield lambda i, spread, e=given, t=total: (e[i] * t[i]) ** -2.0


def _positive(numerator, denominator):
    top = numerator / np.maximum(denominator, 1e-8 * denominator.max() + 1e-300)
    return np.maximum(top, 1e-8 * top.max() + 1e-300)
