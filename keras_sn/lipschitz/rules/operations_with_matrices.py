"""Rules of the products of a tensor with a constant array."""

import math

import numpy as np

from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.rules.operation import OperationRule
from keras_sn.lipschitz.rules.operation import Use
from keras_sn.lipschitz.rules.operation import unknown
from keras_sn.norms.proofs import frobenius_upper
from keras_sn.norms.proofs import norm_upper


def _product(use: Use) -> Piece:
    """`matmul` or `dot` with a matrix, at each position."""
    array = use.constant
    if array is None or array.ndim not in (1, 2):
        return unknown("Matmul with this constant")
    error = use.rounded * frobenius_upper(array)
    if use.starts_with_tensor:
        if len(use.shape) < 2 or use.shape[-1] != array.shape[0]:
            return unknown("Matmul of these shapes")
        matrix = array.reshape(len(array), -1).T
        if array.ndim == 1:
            return Piece(norm_upper(matrix) + error, "|W|")
        return Matrix(matrix, error=error)
    if len(use.shape) < 3 or use.shape[-2] != array.shape[-1]:
        # The other axis is that of the batch.
        return unknown("Matmul of these shapes, with the constant in front")
    return Piece(norm_upper(array.reshape(-1, array.shape[-1])) + error, "|W|")


def _einsum(use: Use) -> Piece:
    """A tensor and a constant, whose blocks are matrices."""
    array, equation = use.constant, use.operation.subscripts.replace(" ", "")
    operands, arrow, output = equation.partition("->")
    labels = operands.split(",")
    if array is None or not arrow or len(labels) != 2 or "." in equation:
        return unknown("Einsum of this form")
    ours, others = labels if use.starts_with_tensor else labels[::-1]
    sizes = dict(zip(others, array.shape, strict=False))
    fits = (
        len(ours) == len(use.shape) == len(set(ours))
        and len(others) == array.ndim == len(set(others))
        and ours[0] in output
        and ours[0] not in others
        and len(set(output)) == len(output)
        and all(
            sizes.get(label, size) == size
            for label, size in zip(ours, use.shape, strict=True)
        )
    )
    if not fits:
        return unknown("Einsum of this form")
    # Of the tensor alone, and not in the output: their numbers add up.
    summed = [
        size
        for label, size in zip(ours, use.shape, strict=True)
        if label not in others and label not in output
    ]
    known = [size for size in summed if size is not None]
    if len(known) < len(summed):
        return unknown("Einsum that sums over an open axis")
    bound = _largest_block(array, ours, others, output)
    bound += use.rounded * frobenius_upper(array)
    return Piece(bound * math.sqrt(math.prod(known)) * (1 + 1e-14), "|W_b|")


def _largest_block(
    array: np.ndarray, ours: str, others: str, output: str
) -> float:
    """The largest norm of the matrices that make up the constant."""
    batch = [x for x in others if x in ours and x in output]
    contracted = [x for x in others if x in ours and x not in output]
    created = [x for x in others if x not in ours and x in output]
    # What neither tensor nor output has is summed in the constant itself.
    kept = "".join([*batch, *created, *contracted])
    summed = np.einsum(f"{others}->{kept}", array)
    sizes = dict(zip(others, array.shape, strict=True))
    rows, columns = (
        math.prod(sizes[x] for x in group) for group in (created, contracted)
    )
    blocks = summed.reshape(-1, rows, columns)
    lost = (array.size // max(summed.size, 1) + 2) * np.finfo("float64").eps
    largest = max((norm_upper(block) for block in blocks), default=0.0)
    return largest + lost * float(np.abs(array).sum())


WITH_MATRICES: dict[str, OperationRule] = {
    "Matmul": _product,
    "Dot": _product,
    "Einsum": _einsum,
}
