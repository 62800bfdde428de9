"""Rules of the activations: functions, and layers that are nothing else."""

from typing import Any

import keras
import numpy as np
from keras import activations
from keras import ops

from keras_sn.lipschitz.pieces import curves
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.curves import CURVES
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.pieces.probabilities import LogSoftmax
from keras_sn.lipschitz.pieces.probabilities import Sigmoid
from keras_sn.lipschitz.pieces.probabilities import Softmax
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import REGISTER
from keras_sn.lipschitz.rules.registry import Pieces
from keras_sn.lipschitz.rules.registry import as_pieces
from keras_sn.lipschitz.rules.registry import function_rule
from keras_sn.lipschitz.rules.registry import pieces_of
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule

# Infimum and supremum of the derivative, rounded outwards.
GELU = (-0.1289041452, 1.1289041452)
GELU_TANH = (-0.1289930687, 1.1289930687)
SILU = (-0.0998393202, 1.0998393202)
MISH = (-0.1125261224, 1.0884981613)
SELU = 1.7580993409

_SLOPES = {
    "relu": (0, 1),
    "relu6": (0, 1),
    "tanh": (0, 1),
    "hard_tanh": (0, 1),
    "softsign": (0, 1),
    "softplus": (0, 1),
    "celu": (0, 1),
    "elu": (0, 1),
    "log_sigmoid": (0, 1),
    "soft_shrink": (0, 1),
    "tanh_shrink": (0, 1),
    "sparse_plus": (0, 1),
    "squareplus": (0, 1),
    "linear": (1, 1),
    "leaky_relu": (0.2, 1),
    "selu": (0, SELU),
    "gelu": GELU,
    "silu": SILU,
    "swish": SILU,
    "mish": MISH,
    "hard_silu": (-0.5, 1.5),
    "hard_swish": (-0.5, 1.5),
    "sigmoid": (0, 0.25),
    "hard_sigmoid": (0, 1 / 6),
    "sparse_sigmoid": (0, 0.5),
}
# They pick numbers, and compute none.
_UNROUNDED = ("relu", "relu6", "hard_tanh")


def slope_of(name: str) -> Piece:
    """The piece of the activation of that name in `keras.activations`."""
    if name == "linear":
        return Identity("linear")
    if name == "sigmoid":
        return Sigmoid()
    low, high = _SLOPES[name]
    # 1/6 is not a float64; the next larger one bounds it.
    high = np.nextafter(high, 2) if high == 1 / 6 else high
    piece = Slope(low, high, name, CURVES[name])
    if name in _UNROUNDED:
        piece.roundings = 0.0
    return piece


def _register_slopes(name: str, low: float, high: float) -> None:
    formula = f"{max(abs(low), abs(high)):.10g}"
    note = f"derivative in [{low:.10g}, {high:.10g}]"
    register_rule(getattr(activations, name), formula, note)(
        lambda function, call: slope_of(name)
    )


for _name, (_low, _high) in _SLOPES.items():
    _register_slopes(_name, _low, _high)

refuse(
    activations.exponential,
    "The derivative of exponential is unbounded.",
    "Use softplus, or exponential after a bounded activation.",
)
refuse(
    activations.glu,
    "A gated linear unit multiplies two halves of its input, so its "
    "derivative grows with the input.",
    "Bound the input, or use a 1-Lipschitz activation such as relu.",
)
refuse(
    activations.hard_shrink,
    "hard_shrink jumps at its threshold.",
    "Use soft_shrink, which is continuous.",
)
refuse(
    activations.threshold,
    "threshold jumps from its default value to the threshold.",
    "Use relu, which is continuous.",
)


@register_rule(activations.softmax, "1/2", "Jacobian diag(p) - p p^T")
def softmax_function(function: Any, call: Call) -> Piece:
    return Softmax(-1, None if call.shape is None else call.shape[-1])


@register_rule(
    activations.log_softmax, "sqrt(n)", "Jacobian I - 1 p^T, p at a vertex"
)
def log_softmax(function: Any, call: Call) -> Piece:
    return log_softmax_piece(-1, call)


def log_softmax_piece(axis: int, call: Call) -> Piece:
    """The piece of a log-softmax over one axis."""
    size = None if call.shape is None else call.shape[axis]
    if size is None:
        return unbounded("log_softmax over an axis of unknown size.")
    return LogSoftmax(axis, size)


@register_rule(
    activations.sparsemax,
    "1",
    "projection onto the simplex; inf where Keras computes something else",
)
def sparsemax(function: Any, call: Call) -> Piece:
    # Keras 3.15 subtracts the sum of all partial sums in place of the last
    # one, and jumps where an entry joins the support.
    probe = np.array([[1.0, 0.2, 0.1, -3.0, 0.5]], "float32")
    found = ops.convert_to_numpy(function(probe))
    if np.allclose(found, [[0.75, 0.0, 0.0, 0.0, 0.25]], atol=1e-6):
        return Piece(1.0, "sparsemax: a projection")
    return unbounded(
        f"sparsemax of Keras {keras.__version__} is not the projection onto "
        "the simplex, and is not continuous.",
        "Use softmax, or your own projection with a registered rule.",
    )


def activation_pieces(activation: Any, call: Call) -> list[Piece]:
    """The pieces of an activation, as layers hold it.

    Args:
        activation: `None`, a function, or a layer.
        call: The `Call` of the layer, its shape that of the activation.

    Returns:
        List of pieces.
    """
    if activation is None or activation is activations.linear:
        return []
    if isinstance(activation, keras.layers.Layer):
        return _list(pieces_of(activation, call))
    rule = function_rule(activation)
    name = getattr(activation, "__name__", repr(activation))
    if rule is None:
        return [
            unbounded(f"No rule is known for the activation {name}.", REGISTER)
        ]
    return _list(as_pieces(rule.function(activation, call), rule, name))


def _list(pieces: Pieces) -> list[Piece]:
    if isinstance(pieces, Merge):
        return [unbounded("An activation takes one input, not several.")]
    return pieces


@register_rule(keras.layers.Activation, "that of the activation")
def activation_layer(layer: keras.layers.Activation, call: Call) -> list[Piece]:
    return activation_pieces(layer.activation, call) or [Identity("linear")]


def relu_slopes(
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Piece:
    """The piece of `keras.activations.relu` with all its arguments."""
    if threshold != 0:
        return unbounded(
            f"relu with threshold={threshold} jumps there.",
            "Use threshold=0 and a bias.",
        )
    slopes = [1.0, float(negative_slope)]
    if max_value is not None:
        slopes.append(0.0)
    curve = None
    if max_value is None or max_value > 0:
        curve = curves.relu(float(negative_slope), max_value)
    piece = Slope(min(slopes), max(slopes), "relu: max(1, |slope|)", curve)
    if negative_slope == 0:
        piece.roundings = 0.0
    return piece


@register_rule(
    keras.layers.ReLU,
    "max(1, |negative_slope|)",
    "inf with threshold != 0, where it jumps",
)
def relu(layer: keras.layers.ReLU, call: Call) -> Piece:
    return relu_slopes(layer.negative_slope, layer.max_value, layer.threshold)


@register_rule(keras.layers.LeakyReLU, "max(1, |negative_slope|)")
def leaky_relu(layer: keras.layers.LeakyReLU, call: Call) -> Piece:
    return relu_slopes(layer.negative_slope)


@register_rule(keras.layers.ELU, "max(1, |alpha|)")
def elu(layer: keras.layers.ELU, call: Call) -> Piece:
    return elu_slopes(float(layer.alpha))


def elu_slopes(alpha: float) -> Piece:
    """The piece of `keras.activations.elu` with any `alpha`."""
    low, high = min(0.0, alpha), max(1.0, alpha)
    return Slope(low, high, "elu: max(1, |alpha|)", curves.elu(alpha))


@register_rule(keras.layers.PReLU, "max(1, max|alpha|)")
def prelu(layer: keras.layers.PReLU, call: Call) -> Piece:
    alpha = call.weight(layer, "alpha")
    low = min(1.0, float(alpha.min(initial=1.0)))
    high = max(1.0, float(alpha.max(initial=1.0)))
    # One slope per unit; those of images are shared along axes.
    curve = curves.relu(alpha) if alpha.ndim == 1 else None
    return Slope(low, high, "PReLU: max(1, max|alpha|)", curve)


@register_rule(
    keras.layers.Softmax, "1/2", "over each set of axes", constants=("mask",)
)
def softmax(layer: keras.layers.Softmax, call: Call) -> Piece:
    mask = call.arguments.get("mask")
    if mask is None:
        return softmax_piece(layer.axis, call)
    if call.shape is None or tuple(mask.shape) != tuple(call.shape):
        return unbounded(
            "The mask may repeat the input by broadcasting.",
            "Pass a mask in the shape of the input.",
        )
    # A softmax over fewer numbers.
    return Softmax(layer.axis)


def softmax_piece(axis: Any, call: Call) -> Piece:
    """The piece of a softmax over one axis or several."""
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if call.shape is None or len(axes) != 1:
        return Softmax(axis)
    return Softmax(axis, call.shape[axes[0]])


def scalar_slope(name: str) -> Piece | None:
    """The piece of an activation by its name, `None` if it is another."""
    return slope_of(name) if name in _SLOPES else None
