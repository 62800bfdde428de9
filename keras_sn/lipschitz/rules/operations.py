"""Rules of `keras.ops` operations that stand in a Functional graph.

Keras exports the functions but not the classes of its operations, so they are
known by the names of the classes.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Merge
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.activations import relu_slopes
from keras_sn.lipschitz.rules.activations import scalar_slopes
from keras_sn.lipschitz.rules.merging import elementwise

_SCALAR = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Tanh": "tanh",
    "HardTanh": "hard_tanh",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "LogSigmoid": "log_sigmoid",
    "TanhShrink": "tanh_shrink",
    "SoftShrink": "soft_shrink",
    "SparsePlus": "sparse_plus",
    "Sigmoid": "sigmoid",
    "SparseSigmoid": "sparse_sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Silu": "silu",
    "Selu": "selu",
    "Mish": "mish",
    "Celu": "celu",
    "Squareplus": "squareplus",
}
_OTHER_SLOPES = {
    "Absolute": (-1, 1),
    "Fabs": (-1, 1),
    "Negative": (-1, -1),
    "Sin": (-1, 1),
    "Cos": (-1, 1),
    "Arctan": (0, 1),
    "Arcsinh": (0, 1),
    "Clip": (0, 1),
    "StopGradient": (1, 1),
    "Copy": (1, 1),
}
_ISOMETRIES = (
    "Reshape",
    "Transpose",
    "Swapaxes",
    "Moveaxis",
    "ExpandDims",
    "Squeeze",
    "Flip",
    "Roll",
    "Ravel",
    "Sort",
)
_STACKS = ("Concatenate", "Stack", "Hstack", "Vstack")
_PRODUCTS = ("Multiply", "Matmul", "Dot", "Einsum", "TrueDivide", "Divide")


def operation_pieces(operation, args, kwargs, call):
    """What an operation does to its tensors.

    Args:
        operation: A `keras.Operation`.
        args: Its positional arguments, tensors included.
        kwargs: Its keyword arguments.
        call: The `Call`, with the shapes of the tensors among them.

    Returns:
        List of pieces, or a `Merge`.
    """
    name = type(operation).__name__
    shapes = call.shapes
    if len(shapes) > 1:
        return _merge(name, call)
    if name in _SCALAR:
        return scalar_slopes(_SCALAR[name])
    if name in _OTHER_SLOPES:
        return [Slope(*_OTHER_SLOPES[name], f"ops: {name}")]
    if name in _ISOMETRIES:
        return [Piece(1.0, "isometry")]
    if name in ("Add", "Subtract", "Maximum", "Minimum"):
        return _with_constant(name, args, kwargs, shapes[0])
    if name in _PARAMETRIC:
        return [_PARAMETRIC[name](operation, args, kwargs, shapes[0])]
    return _unknown(name)


def _unknown(name):
    return [
        unbounded(
            f"No constant is known for the operation {name}.",
            "Use a layer that has a rule, or write it as a layer and register "
            "one with `keras_sn.lipschitz.register_rule`.",
        )
    ]


def _merge(name, call):
    if name in ("Add", "Subtract"):
        return elementwise("sum", "sum of the branches", call)
    if name in ("Maximum", "Minimum"):
        return elementwise("stack", "root of the sum of squares", call)
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
    return _unknown(name)


def _with_constant(name, args, kwargs, shape):
    """A tensor and a constant: a shift, or a clipping."""
    repeated = _broadcast(_other(args, kwargs), shape)
    if repeated is None:
        return _unknown(f"{name} with a constant of a larger shape")
    if name == "Add":
        return [Identity("shift by a constant")]
    if name == "Subtract":
        return [Slope(-1, 1, "shift, perhaps a reflection")]
    return [Slope(0, 1, "clipping by a constant")]


def _broadcast(constant, shape):
    """The constant as an array, unless it makes the tensor larger."""
    if not isinstance(constant, (int, float, np.ndarray)):
        if not keras.ops.is_tensor(constant):
            return None
        constant = ops.convert_to_numpy(constant)
    array = np.asarray(constant, "float64")
    if array.ndim > len(shape):
        return None
    for size, other in zip(array.shape[::-1], shape[::-1], strict=False):
        if size not in (1, other):
            return None
    return array


def _multiply(operation, args, kwargs, shape):
    factor = _other(args, kwargs)
    array = _broadcast(factor, shape)
    if array is None or not np.all(np.isfinite(array)):
        return _unknown("Multiply by this constant")[0]
    if array.ndim == 0:
        # A float32 product with the constant rounded to float32.
        low = high = float(array) * (1 + 1e-7)
        return Slope(low, high, "|c|")
    bound = float(np.abs(array).max(initial=0.0)) * (1 + 1e-7)
    return Slope(-bound, bound, "max|c|")


def _divide(operation, args, kwargs, shape):
    if not args or not isinstance(args[0], keras.KerasTensor):
        return unbounded(
            "A constant divided by a tensor has no bounded slope.",
            "Keep the denominator constant.",
        )
    factor = _other(args, kwargs)
    array = _broadcast(factor, shape)
    if array is None or not np.all(array):
        return _unknown("Divide by this constant")[0]
    bound = float((1 / np.abs(array)).max(initial=0.0)) * (1 + 1e-7)
    return Slope(-bound, bound, "max 1/|c|")


def _other(args, kwargs):
    values = [*args, *kwargs.values()]
    others = [v for v in values if not isinstance(v, keras.KerasTensor)]
    return others[0] if others else None


def _elu(operation, args, kwargs, shape):
    alpha = float(getattr(operation, "alpha", 1.0))
    return Slope(min(0.0, alpha), max(1.0, alpha), "elu: max(1, |alpha|)")


def _leaky_relu(operation, args, kwargs, shape):
    return relu_slopes(operation.negative_slope)


def _relu_with_arguments(operation, args, kwargs, shape):
    return relu_slopes(
        operation.negative_slope, operation.max_value, operation.threshold
    )


def _gelu(operation, args, kwargs, shape):
    from keras_sn.lipschitz.rules import activations

    tanh_form = getattr(operation, "approximate", True)
    slopes = activations.GELU_TANH if tanh_form else activations.GELU
    return Slope(*slopes, "gelu")


def _softmax(operation, args, kwargs, shape):
    return Piece(0.5, "softmax: 1/2")


def _reduction_size(operation, shape):
    axis = getattr(operation, "axis", None)
    axes = range(len(shape)) if axis is None else np.atleast_1d(axis)
    sizes = [shape[int(axis)] for axis in axes]
    if None in sizes or 0 in [int(axis) % len(shape) for axis in axes]:
        # The batch axis mixes samples.
        return None
    return math.prod(sizes)


def _mean(operation, args, kwargs, shape):
    size = _reduction_size(operation, shape)
    if size is None:
        return _unknown("Mean over the batch or an open axis")[0]
    return Piece(1 / math.sqrt(size) * (1 + 1e-15), "1/sqrt(n)")


def _sum(operation, args, kwargs, shape):
    size = _reduction_size(operation, shape)
    if size is None:
        return _unknown("Sum over the batch or an open axis")[0]
    return Piece(math.sqrt(size) * (1 + 1e-15), "sqrt(n)")


def _extremum(operation, args, kwargs, shape):
    if _reduction_size(operation, shape) is None:
        return _unknown("an extremum over the batch or an open axis")[0]
    return Piece(1.0, "one of its inputs")


def _norm(operation, args, kwargs, shape):
    if getattr(operation, "ord", None) not in (None, "fro", 2):
        return _unknown("Norm of this order")[0]
    return Piece(1.0, "the norm of an input", UPPER)


def _get_item(operation, args, kwargs, shape):
    key = args[1] if len(args) > 1 else kwargs.get("key")
    parts = key if isinstance(key, tuple) else (key,)
    if all(
        isinstance(part, (slice, int)) or part in (None, Ellipsis)
        for part in parts
    ):
        return Piece(1.0, "a part of its input")
    return _unknown("indexing by an array")[0]


def _pad(operation, args, kwargs, shape):
    if getattr(operation, "mode", None) == "constant":
        return Piece(1.0, "padding")
    return _unknown("Pad with repeated entries")[0]


_PARAMETRIC = {
    "Multiply": _multiply,
    "TrueDivide": _divide,
    "Divide": _divide,
    "Elu": _elu,
    "LeakyRelu": _leaky_relu,
    "ReLU": _relu_with_arguments,
    "Gelu": _gelu,
    "Softmax": _softmax,
    "Mean": _mean,
    "Sum": _sum,
    "Max": _extremum,
    "Amax": _extremum,
    "Min": _extremum,
    "Amin": _extremum,
    "Norm": _norm,
    "GetItem": _get_item,
    "Pad": _pad,
}
