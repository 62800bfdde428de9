"""The covariance recursion: ellipsoids pushed through a network, certified.

A covariance `P` stands for the ellipsoid in which differences lie: for inputs
one apart, `d = P^(1/2) e` with `|e| <= 1`. A linear map takes it to
`S = W P W^H`. An activation with slopes in `[mid - radius, mid + radius]`,
one interval per channel, takes it to

    P = M (S^-1 - Lambda)^-1 M + R Lambda^-1 R

for any diagonal `Lambda >= 0` with `Lambda^(1/2) S Lambda^(1/2) < 1`: the
part of the slope that is not known, `radius * delta` with `|delta| <= 1`,
obeys `delta^H Lambda delta <= d^H Lambda d`. A channel whose slope is known
(`radius = 0`) takes `Lambda = 0` and costs nothing. At the end
`L^2 = lambda_max(W P W^H)`. It is LipSDP-Neuron, one layer at a time.

Contract, for all functions here:

- Covariances are Hermitian float64 or complex128 arrays `(..., n, n)`. Each
  point of the leading axes is a recursion of its own (a frequency of a
  convolution, a sample); numbers per channel (`lam`, `mid`, `radius`) are
  real, `(..., n)`, and broadcast against them, so that those of shape `(n,)`
  are shared by all points, as a torus needs.
- Rounding is included: the array that is returned is positive semidefinite
  and, as a matrix, at least what exact arithmetic gives for the arrays that
  were passed. The ellipsoid grows with its covariance, so errors need no
  tracking. Each step adds to the diagonal a multiple of itself, of about
  `n^2` roundings: nothing depends on the scale of a channel.
- Where nothing can be proved (`lam` too large, not finite, or zero where the
  slope is not known) the point is NaN, and stays so: `largest` gives `inf`.
- Weights should have norms near one (divide by powers of two): covariances
  below 1e-280 are lost in the rounding that is added.

Reference:

- [Fazlyab et al., 2019](https://arxiv.org/abs/1906.04893)
"""

import dataclasses
import math

import numpy as np

from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import proves_below

# What underflow may hide, as a standard deviation.
_FLOOR = 1e-140
# Gaps `1 - lambda_max` to try to prove, the usual one first.
_GAPS = (0.25, 2e-2, 1e-3, 1e-5, 1e-7, 1e-9)


@dataclasses.dataclass
class Slopes:
    """Slopes of an activation, an interval per channel.

    Attributes:
        mid: Real array `(..., n)`.
        radius: Real array `(..., n)`, zero where the slope is known. The
            slopes lie in `[mid - radius, mid + radius]`.
    """

    mid: np.ndarray
    radius: np.ndarray

    @classmethod
    def between(cls, low: np.ndarray, high: np.ndarray) -> "Slopes":
        """Those in `[low, high]`, rounding included."""
        low, high = np.asarray(low, "float64"), np.asarray(high, "float64")
        mid = (low + high) / 2
        return cls(mid, np.maximum(high - mid, mid - low) * (1 + 2 * EPS))


def start(size: int) -> np.ndarray:
    """The covariance of inputs one apart, `(1, size, size)`."""
    return np.eye(size)[None]


def push(
    weight: np.ndarray, covariance: np.ndarray | None, error: float = 0.0
) -> np.ndarray:
    """`W P W^H`, behind a linear map.

    Args:
        weight: Real or complex array `(..., m, n)`.
        covariance: Array `(..., n, n)`; `None` for the identity, that of
            inputs one apart.
        error: Bound on the spectral norm of the difference between the
            matrices that are meant and `weight`.

    Returns:
        Covariance `(..., m, m)`.
    """
    rows, columns = weight.shape[-2:]
    half = weight if covariance is None else weight @ covariance
    spread = _hermitian(half @ _adjoint(weight))
    gamma = _gamma(columns, spread)
    # |P_ab| <= sqrt(P_aa P_bb), so no entry is off by more than a multiple of
    # q_j q_k, and such a matrix is below `rows * diag(q^2)` times that.
    deviations = np.ones(columns)
    if covariance is not None:
        deviations = np.sqrt(_diagonal(covariance)) + _FLOOR
    q = (np.abs(weight) @ deviations[..., None])[..., 0] * (1 + gamma) + _FLOOR
    more = rows * (2 * gamma + gamma**2 + 4 * EPS) * q**2
    spread = _raised(spread, more)
    return _with_error(spread, covariance, error) if error else spread


def _with_error(spread, covariance, error):
    """`(W + E) P (W + E)^H <= (1 + s) W P W^H + (1 + 1/s) |E|^2 |P|`."""
    rows, largest = spread.shape[-1], 1.0
    if covariance is not None:
        moduli = np.abs(covariance).sum(axis=-1).max(axis=-1)
        largest = moduli * (1 + EPS * (covariance.shape[-1] + 4))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = error * np.sqrt(largest / _diagonal(spread).max(axis=-1))
    share = np.clip(np.nan_to_num(share, nan=1.0), EPS, 1.0)
    other = (1 + 1 / share) * error**2 * largest * (1 + 16 * EPS)
    # The product rounds each entry by a part of itself.
    more = other[..., None] + rows * 8 * EPS * _diagonal(spread)
    return _raised(spread * (1 + share)[..., None, None], more)


def activate(spread: np.ndarray, slopes: Slopes, lam: np.ndarray) -> np.ndarray:
    """`M (S^-1 - Lambda)^-1 M + R Lambda^-1 R`, behind an activation.

    Computed as `S + B G^-1 B^H` with `B = S Lambda^(1/2)` and `G = 1 -
    Lambda^(1/2) S Lambda^(1/2)`. With any `V` near to `G^-1 B^H`, and `D =
    B^H - G V` what is left, `B G^-1 B^H = B V + V^H D + D^H G^-1 D`: so it
    does not matter how `V` was found.

    Args:
        spread: Covariance `(..., n, n)`.
        slopes: `Slopes`, arrays `(..., n)`.
        lam: Array `(..., n)`, the diagonal of `Lambda`, at least zero.

    Returns:
        Covariance `(..., n, n)`.
    """
    n = spread.shape[-1]
    mid, radius = slopes.mid, slopes.radius
    lam = np.asarray(lam, "float64")
    # Where `Lambda` is zero there is nothing to invert.
    rank = np.flatnonzero((lam > 0).reshape(-1, n).any(axis=0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = np.sqrt(lam[..., rank])
        whole, more, proved = _inner(spread, root, rank)
        free = np.where(radius > 0, radius * radius / lam, 0.0)
        result = mid[..., :, None] * mid[..., None, :] * whole
        more = mid * mid * (more + 8 * n * EPS * _diagonal(whole))
        more = more + free * (1 + 8 * EPS) + _FLOOR**2
    result = _raised(result, more)
    proved = proved & np.all(np.isfinite(free) & (lam >= 0), axis=-1)
    return np.where(proved[..., None, None], result, np.nan)


def _inner(spread, root, rank):
    """`(S^-1 - Lambda)^-1`, what rounding can do to it, and where proved."""
    n = spread.shape[-1]
    points = np.broadcast_shapes(spread.shape[:-2], root.shape[:-1])
    spread = np.broadcast_to(spread, (*points, n, n))
    sound = np.isfinite(spread.sum(axis=(-2, -1)))
    if not len(rank):
        return spread, np.zeros((*points, n)), sound
    spread = np.where(sound[..., None, None], spread, 0.0)
    wide = spread[..., rank] * root[..., None, :]
    tested = root[..., :, None] * wide[..., rank, :]
    gap = _gap(tested)
    proved = sound & (gap > 0)
    gap = np.where(proved, gap, 1.0)
    core = np.eye(len(rank)) - tested
    core = np.where(proved[..., None, None], core, np.eye(len(rank)))
    solved = np.linalg.solve(core, _adjoint(wide))
    left = np.linalg.norm(_adjoint(wide) - core @ solved, axis=-2)
    whole = _hermitian(spread + wide @ solved)
    # Sizes of the columns of B^H and V, whichever is larger.
    sizes = np.maximum(
        np.linalg.norm(wide, axis=-1), np.linalg.norm(solved, axis=-2)
    )
    gamma = _gamma(n, spread)
    sizes = sizes * (1 + gamma) + _FLOOR
    # D by columns, as a share of those: as computed, what the product with G
    # loses (its Frobenius norm is at most sqrt(n)), what G and B themselves
    # are off.
    kappa = (left / sizes).max(axis=-1) * (1 + gamma)
    kappa = kappa + 1.01 * gamma * math.sqrt(n) + 4 * EPS * (n + 4)
    share = n * (1.01 * gamma + kappa + kappa**2 / gap + 4 * EPS)
    more = share[..., None] * sizes**2 + 4 * n * EPS * _diagonal(whole)
    return whole, more, proved


def _gap(tested):
    """A proved lower bound of `1 - lambda_max`, or zero."""
    n = tested.shape[-1]
    flat = tested.reshape(-1, n, n)
    gap = np.zeros(len(flat))
    sound = np.isfinite(flat.sum(axis=(-2, -1)))
    # Before the rounding of the entries, each at most 1 in size if proved.
    error = 4 * EPS * (n + 1)
    for tried in _GAPS:
        missing = np.flatnonzero((gap == 0) & sound)
        if not len(missing):
            break
        bounds = np.full(len(missing), 1 - tried - 2 * error)
        gap[missing[proves_below(flat[missing], bounds, error)]] = tried
    return gap.reshape(tested.shape[:-2])


def largest(spread: np.ndarray) -> np.ndarray:
    """A proved upper bound of the largest eigenvalue, `L^2`, of each point.

    Args:
        spread: Covariance `(..., m, m)`.

    Returns:
        Real array `(...)`; `inf` where nothing is proved.
    """
    m = spread.shape[-1]
    flat = spread.reshape(-1, m, m)
    diagonal = _diagonal(flat)
    sound = np.isfinite(flat.sum(axis=(-2, -1)))
    # Moduli of a row cannot sum to less than the largest eigenvalue.
    bound = np.abs(flat).sum(axis=-1).max(axis=-1) * (1 + (m + 3) * EPS)
    bound = np.where(sound, bound, np.inf)
    if m > 1 and sound.any():
        kept = np.flatnonzero(sound)
        values = np.linalg.eigvalsh(flat[kept])[:, -1]
        values = np.maximum(values, diagonal[kept].max(axis=-1)) + _FLOOR**2
        for slack in 16 * EPS * (m + 3) ** 2 * 8.0 ** np.arange(6):
            tried = values * (1 + slack)
            better = tried < bound[kept]
            proved = proves_below(flat[kept], tried, 0.0)
            bound[kept] = np.where(proved & better, tried, bound[kept])
            kept, values = kept[~proved], values[~proved]
            if not len(kept):
                break
    return bound.reshape(spread.shape[:-2])


def variances(spread: np.ndarray) -> np.ndarray:
    """The diagonal: `|d_j| <= r sqrt(S_jj)` for inputs `r` apart."""
    diagonal = _diagonal(spread)
    return np.where(np.isnan(diagonal), np.inf, diagonal)


def _gamma(terms, array):
    """Relative error of a sum of that many products, complex ones too."""
    return (terms + 4) * EPS * (2 if np.iscomplexobj(array) else 1)


def _adjoint(matrix):
    return np.conj(np.swapaxes(matrix, -1, -2))


def _hermitian(matrix):
    return (matrix + _adjoint(matrix)) / 2


def _diagonal(matrix):
    return np.diagonal(matrix, axis1=-2, axis2=-1).real


def _raised(matrix, more):
    """With more on the diagonal; rounding of that sum included."""
    index = np.arange(matrix.shape[-1])
    points = np.broadcast_shapes(matrix.shape[:-2], more.shape[:-1])
    matrix = np.array(np.broadcast_to(matrix, points + matrix.shape[-2:]))
    matrix[..., index, index] = (_diagonal(matrix) + more * (1 + 8 * EPS)) * (
        1 + 2 * EPS
    )
    return matrix


def pair_squares(spread: np.ndarray) -> np.ndarray:
    """Bounds of the squared constants of the differences of two outputs.

    Args:
        spread: Covariance `(..., m, m)` of the outputs.

    Returns:
        Array `(..., m, m)`; `inf` where nothing is proved.
    """
    diagonal = _diagonal(spread)
    sums = diagonal[..., :, None] + diagonal[..., None, :]
    squares = sums - 2 * spread.real + 8 * EPS * sums
    squares = np.where(np.isnan(squares), np.inf, np.maximum(squares, 0.0))
    index = np.arange(spread.shape[-1])
    squares[..., index, index] = 0.0
    return squares
