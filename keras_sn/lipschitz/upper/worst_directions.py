"""The covariance recursion without proofs, and its gradient in Lambda."""

import numpy as np

from keras_sn.lipschitz.upper.covariance import Slopes


class Activation:
    """One step of the recursion, forward, and worst directions backward.

    For `f = sum tr(Z^H P Z)` with `P` the covariance behind the activation,
    summed over the points, `back(Z)` gives `Z_S` with which `S` would have
    to be paired, `df = tr(Z_S^H dS Z_S)`, and the gradient in `log Lambda`.
    A linear map takes them to `W^H Z_S`.

    Args:
        spread: Covariance `(..., n, n)` before the activation.
        slopes: `Slopes`.
        lam: Array `(..., n)`, the diagonal of `Lambda`.

    Raises:
        numpy.linalg.LinAlgError: Where `Lambda^(1/2) S Lambda^(1/2) < 1` does
            not hold.

    Attributes:
        covariance: Array `(..., n, n)`, not certified.
    """

    def __init__(self, spread: np.ndarray, slopes: Slopes, lam: np.ndarray):
        self.spread, self.slopes, self.lam = spread, slopes, lam
        self.root = np.sqrt(lam)
        self.wide = spread * self.root[..., None, :]
        core = -self.root[..., :, None] * self.wide
        index = np.arange(spread.shape[-1])
        core[..., index, index] += 1.0
        np.linalg.cholesky(core)
        self.solved = np.linalg.solve(core, _adjoint(self.wide))
        whole = spread + self.wide @ self.solved
        mid, radius = slopes.mid, slopes.radius
        with np.errstate(divide="ignore", invalid="ignore"):
            # Also where the slope is known, and nothing divided.
            free = np.where(radius > 0, radius**2 / lam, 0.0)
        self.free = free
        result = mid[..., :, None] * whole * mid[..., None, :]
        result[..., index, index] += free
        self.covariance = (result + _adjoint(result)) / 2

    def back(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Directions before the activation, and the gradient.

        Args:
            directions: `Z`, array `(..., n, k)`.

        Returns:
            `(Z_S, gradient)`; the gradient in `log Lambda` of each point,
            `(..., n)`: sum over those that share one.
        """
        moved = self.slopes.mid[..., None] * directions
        # (1 - Lambda S)^-1 = 1 + Lambda^(1/2) G^-1 B^H.
        before = moved + self.root[..., None] * (self.solved @ moved)
        gained = (np.abs(self.spread @ before) ** 2).sum(axis=-1)
        lost = (np.abs(directions) ** 2).sum(axis=-1)
        return before, self.lam * gained - self.free * lost


def _adjoint(matrix):
    return np.conj(np.swapaxes(matrix, -1, -2))
