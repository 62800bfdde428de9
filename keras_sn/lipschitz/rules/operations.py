"""Rules of `keras.ops` operations that stand in a Functional graph.

Keras exports the functions but not the classes of its operations, so they are
known by the names of the classes. An operation of the user's own is none of
them, whatever it is called.
"""

import keras

from keras_sn.keras_access import is_keras_own
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.merging import elementwise
from keras_sn.lipschitz.rules.operation import OperationRule
from keras_sn.lipschitz.rules.operation import Use
from keras_sn.lipschitz.rules.operation import unknown
from keras_sn.lipschitz.rules.operations_as_layers import AS_LAYERS
from keras_sn.lipschitz.rules.operations_elementwise import ELEMENTWISE
from keras_sn.lipschitz.rules.operations_on_axes import ON_AXES
from keras_sn.lipschitz.rules.operations_with_matrices import WITH_MATRICES
from keras_sn.lipschitz.rules.registry import Pieces

_RULES: dict[str, OperationRule] = {
    **ELEMENTWISE,
    **ON_AXES,
    **WITH_MATRICES,
    **AS_LAYERS,
}
_STACKS = ("Concatenate", "Stack", "Hstack", "Vstack")
_PRODUCTS = ("Multiply", "Matmul", "Dot", "Einsum", "TrueDivide", "Divide")


def operation_pieces(
    operation: keras.Operation, args: tuple, kwargs: dict, call: Call
) -> Pieces:
    """What an operation does to its tensors.

    Args:
        operation: The operation.
        args: Its positional arguments, tensors included.
        kwargs: Its keyword arguments.
        call: The `Call`, with the shapes of the tensors among them.

    Returns:
        List of pieces, or a `Merge`.
    """
    name = type(operation).__name__
    if not is_keras_own(operation):
        return [unknown(f"{name}, which is not one of Keras")]
    if len(call.shapes or []) > 1:
        return _of_several_tensors(name, call)
    if name not in _RULES:
        return [unknown(name)]
    result = _RULES[name](Use(operation, args, kwargs, call))
    return result if isinstance(result, list) else [result]


def _of_several_tensors(name: str, call: Call) -> Pieces:
    if name in _STACKS:
        return Merge("stack", "root of the sum of squares")
    if name in _PRODUCTS:
        return [
            unbounded(
                f"{name} of two tensors has a slope that grows with them.",
                "Bound both factors and write the gate as a layer with a "
                "registered rule, or use an addition.",
            )
        ]
    if name not in ("Add", "Subtract", "Maximum", "Minimum"):
        return [unknown(name)]
    if len({len(shape) for shape in call.shapes or []}) > 1:
        # NumPy aligns last axes, so the batch of one meets another axis.
        return [unknown(f"{name} of tensors with different numbers of axes")]
    kind = "sum" if name in ("Add", "Subtract") else "stack"
    source = "sum of the branches"
    if kind == "stack":
        source = "root of the sum of squares"
    # The order of the tensors of a difference is not known here.
    weights = [1.0, 1.0] if name == "Add" else None
    merge = elementwise(kind, source, call, weights=weights)
    return merge if isinstance(merge, Merge) else [merge]
