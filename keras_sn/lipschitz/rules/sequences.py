"""Rules of recurrent layers and attention."""

from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.rules.activations import activation_pieces
from keras_sn.lipschitz.rules.call import Call
from keras_sn.lipschitz.rules.registry import refuse
from keras_sn.lipschitz.rules.registry import register_rule
from keras_sn.norms.proofs import norm_upper

_GATES = (
    "{} multiplies gates with states, so its slope grows with the states and "
    "the number of steps; no useful global constant is known."
)
_USE_RNN = (
    "Use SimpleRNN with a recurrent kernel of norm below 1, or a "
    "convolution, or bound it on your domain and register a rule with "
    "`keras_sn.lipschitz.register_rule`."
)
for _name in (
    "LSTM",
    "GRU",
    "LSTMCell",
    "GRUCell",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
):
    refuse(getattr(keras.layers, _name), _GATES.format(_name), _USE_RNN)

for _name in ("RNN", "StackedRNNCells", "SimpleRNNCell"):
    refuse(
        getattr(keras.layers, _name),
        "The constant of a cell depends on the loop around it, and that of a "
        "loop on its cell.",
        _USE_RNN,
    )

_ATTENTION = (
    "Dot-product attention is not Lipschitz on an unbounded domain (Kim et "
    "al., 2021)."
)
_USE_L2 = (
    "Bound the tokens by a normalization layer and register a rule with the "
    "constant for bounded tokens (Castin et al., 2024), or use L2 attention "
    "with tied queries and keys."
)
for _name in (
    "Attention",
    "AdditiveAttention",
    "MultiHeadAttention",
    "GroupQueryAttention",
):
    _reason = _ATTENTION
    if _name == "AdditiveAttention":
        _reason = (
            "Additive attention multiplies its values with weights that "
            "depend on the inputs, so its slope grows with the values."
        )
    refuse(getattr(keras.layers, _name), _reason, _USE_L2)


@register_rule(
    keras.layers.SimpleRNN,
    "norm of the block Toeplitz matrix of |U|^(i-j) |W|",
    "inf for an open number of steps with |U| >= 1",
)
def simple_rnn(layer: keras.layers.SimpleRNN, call: Call) -> Any:
    if layer.stateful or len(call.shapes or [None]) > 1:
        return unbounded(
            "The state comes from outside of the call.",
            "Use stateful=False without `initial_state`.",
        )
    slopes = activation_pieces(layer.activation, Call())
    steepest = float(np.prod([piece.constant for piece in slopes]))
    if not np.isfinite(steepest):
        return slopes
    kernel = steepest * norm_upper(call.weight(layer.cell, "kernel"))
    recurrent = steepest * norm_upper(
        call.weight(layer.cell, "recurrent_kernel")
    )
    steps = None if call.shape is None else call.shape[1]
    source = "|U|^(i-j) |W|, block Toeplitz"
    if steps is None:
        if recurrent >= 1:
            return unbounded(
                f"The number of steps is open and |U| = {recurrent:.4g} is "
                "not below 1.",
                "Fix the number of steps, or normalize the recurrent kernel.",
            )
        loop = 1 / (1 - recurrent)
    else:
        loop = _toeplitz_norm(recurrent, steps, layer.return_sequences)
    piece = Piece(kernel * loop * (1 + 1e-14), source, UPPER)
    # What is rounded in one step goes around with the state.
    piece.roundings = 8.0 * max(loop, 1.0) * (1 + recurrent)
    return piece


def _toeplitz_norm(ratio: float, steps: int, sequences: bool) -> float:
    """Norm of the lower triangle of `ratio^(i - j)`, or of its last row."""
    with np.errstate(over="ignore"):
        powers = ratio ** np.arange(steps)
    if not np.all(np.isfinite(powers)):
        return np.inf
    if not sequences:
        return float(np.linalg.norm(powers) * (1 + 1e-14))
    if steps > 1024:
        # The sum of the diagonals' norms.
        return float(powers.sum() * (1 + 1e-12))
    lag = np.arange(steps)[:, None] - np.arange(steps)[None, :]
    return norm_upper(np.where(lag >= 0, powers[np.maximum(lag, 0)], 0.0))
