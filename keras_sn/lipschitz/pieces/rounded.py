"""What the sums of a piece lose in floating point."""

import math

import numpy as np

from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.linear import LinearPiece


class PieceRounding:
    """What the sums of a piece lose, inside of a layer.

    Args:
        piece: The piece.
        before: Constant of what comes before it in the layer.
        behind: Constant of what comes behind it.
    """

    def __init__(self, piece: Piece, before: float, behind: float):
        self.before, self.behind = before, behind
        self.terms: float | None = piece.terms
        self.moduli = piece.constant
        self.cancels = piece.cancels
        if isinstance(piece, LinearPiece):
            self.terms = piece.weights.size / max(piece.outputs, 1)
            self.moduli, self.cancels = _norm_of_moduli(piece), False

    def lost(self, numbers: int) -> float:
        """Roundings of sums at the output of the layer, per unit of input.

        Args:
            numbers: Of how many numbers a sum may be.
        """
        terms = numbers if self.terms is None else self.terms
        if terms <= 1:
            return 0.0
        moduli = self.moduli * (math.sqrt(terms) if self.cancels else 1.0)
        return min(terms, 8 * math.sqrt(terms)) * moduli * self.behind


def _norm_of_moduli(piece: LinearPiece) -> float:
    """A bound of the norm of the map with all its entries positive."""
    moduli = piece.moduli()
    if not moduli.size:
        return 0.0
    rows, columns = moduli.sum(axis=1).max(), moduli.sum(axis=0).max()
    return float(np.sqrt(rows * columns)) + piece.error
