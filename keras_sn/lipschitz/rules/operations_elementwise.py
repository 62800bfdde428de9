"""Rules of the operations that act on each number alone."""

from collections.abc import Callable

import numpy as np

from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.curves import CURVES
from keras_sn.lipschitz.pieces.merge import scaling_norm
from keras_sn.lipschitz.rules.activations import GELU
from keras_sn.lipschitz.rules.activations import GELU_TANH
from keras_sn.lipschitz.rules.activations import elu_slopes
from keras_sn.lipschitz.rules.activations import relu_slopes
from keras_sn.lipschitz.rules.activations import slope_of
from keras_sn.lipschitz.rules.operation import OperationRule
from keras_sn.lipschitz.rules.operation import Use
from keras_sn.lipschitz.rules.operation import unknown

# Operations without settings, by the activation of the same formula.
_ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Tanh": "tanh",
    "HardTanh": "hard_tanh",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "LogSigmoid": "log_sigmoid",
    "TanhShrink": "tanh_shrink",
    "SparsePlus": "sparse_plus",
    "Sigmoid": "sigmoid",
    "SparseSigmoid": "sparse_sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Silu": "silu",
    "Selu": "selu",
    "Mish": "mish",
}
_SLOPES = {
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


def _activation(name: str) -> OperationRule:
    return lambda use: slope_of(name)


def _slope(name: str, low: float, high: float) -> OperationRule:
    return lambda use: Slope(low, high, f"ops: {name}")


def _with_setting(
    name: str, setting: str, works: Callable[[float], bool]
) -> OperationRule:
    """The rule of an activation whose slopes a setting leaves as they are."""

    def rule(use: Use) -> Piece:
        value = float(getattr(use.operation, setting))
        if not works(value):
            return unbounded(
                f"{name} with {setting}={value:g} jumps or grows without "
                "bound.",
                f"Use a positive {setting}.",
            )
        return slope_of(name)

    return rule


def _elu(use: Use) -> Piece:
    return elu_slopes(float(use.operation.alpha))


def _leaky_relu(use: Use) -> Piece:
    return relu_slopes(use.operation.negative_slope)


def _relu_with_arguments(use: Use) -> Piece:
    operation = use.operation
    return relu_slopes(
        operation.negative_slope, operation.max_value, operation.threshold
    )


def _gelu(use: Use) -> Piece:
    if use.operation.approximate:
        return Slope(*GELU_TANH, "gelu", CURVES["gelu_tanh"])
    return Slope(*GELU, "gelu", CURVES["gelu"])


def _cast(use: Use) -> Piece:
    if "float" not in use.operation.dtype:
        return unknown("Cast to integers, which jumps")
    if "float" not in use.tensor.dtype:
        return unknown("Cast of integers, which have no slopes")
    return Identity("cast")


def _with_constant(
    name: str, source: str, low: float, high: float
) -> OperationRule:
    """The rule of a sum with a constant, or of a clipping by one."""

    def rule(use: Use) -> Piece:
        if use.constant is None:
            return unknown(f"{name} with this constant")
        repeated = scaling_norm(np.ones_like(use.constant), use.shape)
        if repeated is None:
            return unknown(f"{name} with a constant of another shape")
        if repeated > 1 + 1e-9:
            return Piece(repeated, f"{source}, repeated")
        return Slope(low, high, source)

    return rule


def _multiply(use: Use) -> Piece:
    return _scaled_by(use, use.constant, "|c|")


def _divide(use: Use) -> Piece:
    if not use.starts_with_tensor:
        return unbounded(
            "A constant divided by a tensor has no bounded slope.",
            "Keep the denominator constant.",
        )
    constant = use.constant
    if constant is None or not np.all(constant):
        return unknown("Divide by this constant")
    return _scaled_by(use, 1 / constant, "1/|c|")


def _scaled_by(use: Use, factor: np.ndarray | None, source: str) -> Piece:
    bound = None if factor is None else scaling_norm(factor, use.shape)
    if factor is None or bound is None:
        return unknown("Multiply or Divide with this constant")
    bound *= 1 + use.rounded
    if factor.ndim == 0 and use.rounded < 1e-6:
        low = float(factor) * (1 + use.rounded)
        return Slope(low, low, source)
    if bound > float(np.abs(factor).max()) * (1 + 2 * use.rounded):
        # Broadcasting repeats the tensor.
        return Piece(bound, f"{source}, repeated")
    return Slope(-bound, bound, f"max {source}")


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


ELEMENTWISE: dict[str, OperationRule] = {
    **{name: _activation(kind) for name, kind in _ACTIVATIONS.items()},
    **{name: _slope(name, *ends) for name, ends in _SLOPES.items()},
    "Celu": _with_setting("celu", "alpha", _positive),
    "Squareplus": _with_setting("squareplus", "b", _not_negative),
    "SoftShrink": _with_setting("soft_shrink", "threshold", _not_negative),
    "Elu": _elu,
    "LeakyRelu": _leaky_relu,
    "ReLU": _relu_with_arguments,
    "Gelu": _gelu,
    "Cast": _cast,
    "Add": _with_constant("Add", "shift by a constant", 1, 1),
    "Subtract": _with_constant(
        "Subtract", "shift, perhaps a reflection", -1, 1
    ),
    "Maximum": _with_constant("Maximum", "clipping by a constant", 0, 1),
    "Minimum": _with_constant("Minimum", "clipping by a constant", 0, 1),
    "Multiply": _multiply,
    "TrueDivide": _divide,
    "Divide": _divide,
}
