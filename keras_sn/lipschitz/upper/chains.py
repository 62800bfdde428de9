"""Chains: what follows one another without a branch, bounded together."""

import math
from typing import Any

import numpy as np

from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import NONE
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Kernel
from keras_sn.lipschitz.pieces.linear import LinearPiece
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.report import Row
from keras_sn.lipschitz.upper.closed_form import closed_form_bound
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.folding import Link
from keras_sn.lipschitz.upper.folding import fold
from keras_sn.lipschitz.upper.lipsdp_descent import refined_bound
from keras_sn.lipschitz.upper.rescaling import best_scales
from keras_sn.lipschitz.upper.rescaling import rescaled_product
from keras_sn.norms.proofs import product_upper

# Seconds a proof of a norm takes per cube of the size of a matrix; what is
# over in an instant needs no planning.
_SECONDS, _INSTANT = 2e-10, 0.02
# A closed form and its proof take as long as that many proofs of norms.
_CLOSED_FORM = 8.0
# Multiply-adds of a kernel from which each evaluation takes about a second.
_LARGE_KERNEL = 9 * 128 * 256


def split_into_chains(graph: Graph) -> list[list[Step]]:
    """The steps in groups that follow one another without a branch."""
    uses: dict[int, int] = {}
    for value in graph.outputs:
        uses[value] = uses.get(value, 0) + 1
    for step in graph.steps:
        for value in step.inputs:
            uses[value] = uses.get(value, 0) + 1
    open_chains: dict[int, list[Step]] = {}
    order: list[list[Step]] = []
    for step in graph.steps:
        chain = None
        if isinstance(step.pieces, list) and len(step.inputs) == 1:
            (source,) = step.inputs
            if uses[source] == 1:
                chain = open_chains.pop(source, None)
        if chain is None:
            chain = []
            order.append(chain)
        chain.append(step)
        if len(step.outputs) == 1:
            open_chains[step.outputs[0]] = chain
    # Only the first step of a chain takes values from outside of it, so the
    # order of first steps is one in which chains can be bounded.
    return order


def rows_of(links: list[Link], effort: Effort) -> list[Row]:
    """The rows of a chain, whose constants multiply to its bound.

    Args:
        links: List of `Link`, in the order they are applied.
        effort: The `Effort`.

    Returns:
        List of `Row`.
    """
    if effort.method == "product":
        return layer_rows(links)
    folded = fold(links)
    if not all(link.piece.bounded for link in folded):
        return layer_rows(folded)
    if not effort.allows("rescaled"):
        return layer_rows(folded)
    rows: list[Row] = []
    position = 0
    while position < len(folded):
        run = run_at(folded, position)
        if len(run) > 1:
            rows.extend(_joint_rows(run, effort))
        else:
            rows.extend(layer_rows(run))
        position += len(run)
    return rows


def layer_rows(links: list[Link]) -> list[Row]:
    """One row per layer or folded group, each bounded on its own."""
    rows: list[Row] = []
    grouped: dict[str, list[Piece]] = {}
    for link in links:
        grouped.setdefault(link.name, []).append(link.piece)
    for name, pieces in grouped.items():
        constants = [piece.constant for piece in pieces]
        # Of two maps one may not be steep where the other is: relu behind
        # [1, -1] is never active in both units.
        active = [p for p in pieces if not isinstance(p, Identity)]
        exact = len(active) <= 1 and all(p.guarantee == EXACT for p in active)
        infinite = any(math.isinf(constant) for constant in constants)
        guarantee = NONE if infinite else EXACT if exact else UPPER
        reasons = [piece.reason for piece in pieces if piece.reason]
        if infinite and not reasons:
            reasons = ["Its weights are not finite."]
        rows.append(
            Row(
                name,
                product_upper(constants) if len(pieces) > 1 else constants[0],
                guarantee,
                "; ".join(dict.fromkeys(piece.source for piece in pieces)),
                reasons[0] if reasons else None,
            )
        )
    return rows


def run_at(links: list[Link], start: int) -> list[Link]:
    """The links from `start` on that scales of channels pass through.

    Linear pieces with channelwise pieces in between; it ends with a linear
    one, or is the single link at `start`.
    """
    first = links[start].piece
    if not isinstance(first, LinearPiece):
        return links[start : start + 1]
    end, axis, channels = start + 1, first.output_axis, first.outputs
    for position in range(start + 1, len(links)):
        piece = links[position].piece
        if isinstance(piece, LinearPiece):
            if piece.axis != axis or piece.inputs != channels:
                break
            channels, end = piece.outputs, position + 1
            axis = piece.output_axis
        elif not piece.channelwise:
            break
        elif piece.axes is not None:
            if piece.axes[0] != axis:
                break
            axis = piece.axes[1]
    return links[start:end]


def _joint_rows(run: list[Link], effort: Effort) -> list[Row]:
    """The best of: one by one, rescaled, and dense stacks on their own."""
    options = []
    large = _large(run)
    if effort.quick or not large or not effort.remaining:
        options.append(layer_rows(run))
    dense = _dense_start(run)
    stacked = effort.allows("closed_form") and len(run) - dense > 1
    # Proofs come at the end, and time has to be left for them.
    reserved = _proof_seconds(run)
    if stacked and effort.remaining > _CLOSED_FORM * reserved:
        reserved *= _CLOSED_FORM
    else:
        stacked = stacked and not reserved
    scales = None
    if not effort.quick and effort.remaining > reserved:
        pieces = _linear(run)
        scales = best_scales(
            pieces, effort.deadline - reserved, 4 if large else 60
        )
        options.append([_rescaled_row(run, scales, effort)])
    if stacked:
        head, tail = run[:dense], run[dense:]
        tried = [scales] if scales is not None and not head else []
        options.append(
            [*_head_rows(head, effort), _dense_row(tail, effort, tried)]
        )
    return min(
        options, key=lambda rows: product_upper([row.constant for row in rows])
    )


def _linear(run: list[Link]) -> list[LinearPiece]:
    return [x.piece for x in run if isinstance(x.piece, LinearPiece)]


def _proof_seconds(run: list[Link]) -> float:
    """About how long it takes to bound the matrices of a run one by one."""
    sizes = [
        max(x.piece.array.shape) for x in run if isinstance(x.piece, Matrix)
    ]
    seconds = _SECONDS * sum(size**3 for size in sizes)
    return seconds if seconds > _INSTANT else 0.0


def _head_rows(head: list[Link], effort: Effort) -> list[Row]:
    """The rows of what comes before a dense stack."""
    if len(_linear(head)) < 2 or effort.quick:
        return layer_rows(head)
    inner = list(head)
    while not isinstance(inner[-1].piece, LinearPiece):
        inner.pop()
    rest = layer_rows(head[len(inner) :])
    iterations = 4 if _large(inner) else 60
    scales = best_scales(_linear(inner), effort.deadline, iterations)
    return [_rescaled_row(inner, scales, effort), *rest]


def _rescaled_row(
    run: list[Link], scales: list[np.ndarray], effort: Effort
) -> Row:
    linear = _linear(run)
    others = [
        x.piece.constant for x in run if not isinstance(x.piece, LinearPiece)
    ]
    bound = rescaled_product(linear, compare=not _large(run), scales=scales)
    name = " + ".join(dict.fromkeys(n for x in run for n in x.names))
    return Row(
        name,
        product_upper([bound, *others]),
        UPPER,
        "product of norms, channels rescaled",
    )


def _large(run: list[Link]) -> bool:
    """Whether each bound of a kernel takes long enough to save it."""
    return any(
        isinstance(link.piece, Kernel) and link.piece.array.size > _LARGE_KERNEL
        for link in run
    )


def _dense_start(run: list[Link]) -> int:
    """Where the matrices with nothing but activations in between begin."""
    start = len(run)
    while start > 0:
        piece = run[start - 1].piece
        if not isinstance(piece, (Matrix, Diagonal, Slope)):
            break
        start -= 1
        if getattr(piece, "channel_of", None) is not None:
            break
    while start < len(run) and isinstance(run[start].piece, Slope):
        start += 1
    return start


def _dense_row(
    run: list[Link], effort: Effort, scales: list[list[np.ndarray]]
) -> Row:
    pieces = [_as_matrix(x.piece) for x in run[::2]]
    slopes = [(x.piece.low, x.piece.high) for x in run[1::2]]
    matrices = [piece.array for piece in pieces]
    errors = [piece.error for piece in pieces]
    if not scales and not effort.quick:
        plain = [Matrix(matrix) for matrix in matrices]
        reserved = _CLOSED_FORM * _proof_seconds(run)
        if effort.remaining >= reserved:
            scales = [
                best_scales(plain, effort.deadline - reserved, iterations=60)
            ]
    work = sum(max(matrix.shape) ** 3 for matrix in matrices)
    if effort.allows("refined", work):
        bound = refined_bound(
            matrices,
            slopes,
            scales,
            errors,
            time_limit=effort.remaining,
            progress=effort.progress,
        )
        source = "LipSDP-Neuron by descent"
    else:
        bound = closed_form_bound(
            matrices, slopes, scales, errors, effort.deadline
        )
        source = "closed-form LipSDP certificate"
    name = " + ".join(dict.fromkeys(n for x in run for n in x.names))
    return Row(name, bound, UPPER, source)


def _as_matrix(piece: Any) -> Matrix:
    return piece.matrix() if isinstance(piece, Diagonal) else piece
