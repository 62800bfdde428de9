"""The graph of a model as steps: which layer takes what and gives what."""

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from keras_sn.lipschitz.pieces.merge import Shape
from keras_sn.lipschitz.rules.registry import Pieces


@dataclasses.dataclass
class Step:
    """One use of a layer or operation.

    Attributes:
        name: Name of the layer, behind those of the models it is nested in.
        pieces: What it does: a list of pieces, or a `Merge`.
        inputs: Numbers of the values it takes, in order.
        outputs: Numbers of the values it gives.
        operation: The layer or operation itself, out of its wrappers.
        run: Function of the tensors it takes, a list, that gives a list.
        shapes: Shapes of the values it takes, batch axis first, `None` where
            open; `None` altogether if nothing is known.
    """

    name: str
    pieces: Pieces
    inputs: list[int]
    outputs: list[int]
    operation: Any
    run: Callable[[list], list]
    shapes: Sequence[Shape] | None = None


@dataclasses.dataclass
class Graph:
    """A model, nested ones unfolded.

    Attributes:
        inputs: Numbers of the values that are the model's inputs.
        steps: The steps, each behind those it depends on.
        outputs: Numbers of the values that are its outputs.
    """

    inputs: list[int]
    steps: list[Step]
    outputs: list[int]


def first_unbounded(graph: Graph) -> tuple[str, str] | None:
    """`(name, reason)` of the first step without a finite constant."""
    for step in graph.steps:
        if isinstance(step.pieces, list):
            for piece in step.pieces:
                if math.isinf(piece.constant):
                    reason = piece.reason or "Its weights are not finite."
                    return step.name, reason
    return None
