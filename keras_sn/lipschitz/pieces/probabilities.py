"""Pieces that give probabilities: what a classifier may end with."""

from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.curves import CURVES


class Sigmoid(Slope):
    """The logistic function of each number."""

    def __init__(self) -> None:
        super().__init__(0.0, 0.25, "sigmoid", CURVES["sigmoid"])


class Softmax(Piece):
    """Softmax; its Jacobian is `diag(p) - p p^T`.

    Args:
        axis: The axis it normalizes over, or several.
        size: Numbers along it, `None` if not known.
    """

    cancels = False

    def __init__(self, axis: int | list[int], size: int | None = None):
        guarantee = UPPER if size is None else EXACT
        constant = 0.0 if size == 1 else 0.5
        super().__init__(constant, "softmax: 1/2", guarantee)
        self.axis = axis


class LogSoftmax(Piece):
    """Logarithm of softmax; its Jacobian is `I - 1 p^T`, `p` at a vertex.

    Args:
        axis: The axis it normalizes over.
        size: Numbers along it.
    """

    cancels = False

    def __init__(self, axis: int, size: int):
        constant = size**0.5 if size > 1 else 0.0
        super().__init__(constant, "log_softmax: sqrt(n)")
        self.axis = axis
