"""Choices of `Lambda` for the covariance recursion: formulas, gradient."""

import numpy as np

from keras_sn.lipschitz.upper.covariance import Slopes

# Shares of what `lambda_max < 1` leaves stay below one by that much.
_MARGIN = 1e-7


def multipliers(
    spread: np.ndarray, slopes: Slopes, shape: np.ndarray, shared: bool = False
) -> np.ndarray:
    """`Lambda = t D^-1`, with `D` scaled to dominate what comes in.

    With `D^-1/2 S D^-1/2 <= 1`, `t = radius / (|mid| + radius)` gives the
    least guaranteed covariance, `(|mid| + radius)^2 D`.

    Args:
        spread: Covariance `(..., n, n)` of the preactivations.
        slopes: Their `Slopes`.
        shape: Positive array `(..., n)`, the diagonal of `D` but for scale.
        shared: Whether all points share one `Lambda`.

    Returns:
        Array `(..., n)`, zero where the slope is known; `(n,)` if shared.
    """
    unknown = slopes.radius > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        part = slopes.radius / (np.abs(slopes.mid) + slopes.radius)
        part = np.where(unknown, np.minimum(part, 1 - _MARGIN), 0.0)
        root = np.where(unknown, 1 / np.sqrt(shape), 0.0)
        scaled = root[..., :, None] * spread * root[..., None, :]
    top = _top(scaled)
    if shared:
        top = top.max()
    top = np.maximum(top, 1e-280)
    return part * root**2 / top[..., None]


def _top(matrices):
    """Largest eigenvalues, a little more than the computed ones."""
    n = matrices.shape[-1]
    sound = np.isfinite(matrices.sum(axis=(-2, -1)))
    kept = np.where(sound[..., None, None], matrices, 0.0)
    top = np.linalg.eigvalsh(kept)[..., -1] * (1 + 1e-12 * n)
    return np.where(sound, top, np.nan)


def ratio_shape(spread: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`sqrt(S_jj) / |W[:, j]|`, for the next weight `W`: a good `D`.

    Args:
        spread: Covariance `(..., n, n)`; averaged over its points.
        weight: The next weight, `(..., m, n)`; likewise.

    Returns:
        Positive array `(n,)`.
    """
    n = spread.shape[-1]
    here = np.diagonal(spread, axis1=-2, axis2=-1).real.reshape(-1, n)
    there = (np.abs(weight) ** 2).sum(axis=-2).reshape(-1, n)
    return positive_ratio(
        np.sqrt(here.mean(axis=0)), np.sqrt(there.mean(axis=0))
    )


def positive_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Their ratio, kept away from zero and infinity."""
    least = 1e-8 * below.max(axis=-1, keepdims=True) + 1e-300
    top = above / np.maximum(below, least)
    least = 1e-8 * top.max(axis=-1, keepdims=True) + 1e-300
    return np.maximum(top, least)


def balanced_multipliers(
    spread: np.ndarray, slopes: Slopes, weight: np.ndarray
) -> np.ndarray:
    """`Lambda` for which both of its costs behind the next weight are equal.

    `tr(W P W^H)` grows by `radius^2 |W[:, j]|^2 / Lambda_j` and, to first
    order, by `Lambda_j |W M S[:, j]|^2`. Where slopes are nearly known, so
    that all is of first order, the choice is the best one. Divided by `1 +
    lambda_max(Lambda^1/2 S Lambda^1/2)` it is best also beyond, as far as
    that eigenvalue tells.

    Args:
        spread: Covariance `(..., n, n)` of the preactivations.
        slopes: Their `Slopes`.
        weight: The next weight `W`, `(..., m, n)`.

    Returns:
        Array `(..., n)`, zero where the slope is known.
    """
    sizes = np.linalg.norm(weight, axis=-2)
    moved = np.linalg.norm(
        (weight * slopes.mid[..., None, :]) @ spread, axis=-2
    )
    lam = slopes.radius * positive_ratio(sizes, moved)
    root = np.sqrt(lam)
    top = _top(root[..., :, None] * spread * root[..., None, :])
    return lam / (1 + top[..., None])
