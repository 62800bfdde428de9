"""Linear maps of the recurrent cells: input kernel and recurrent kernel."""

import keras

from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight


@register_linear_map(keras.layers.SimpleRNNCell)
@register_linear_map(keras.layers.LSTMCell)
@register_linear_map(keras.layers.GRUCell)
def recurrent_cell(layer, norm):
    """`kernel` and `recurrent_kernel`, the gates side by side, as matrices.

    The matrix of all gates is what one step applies to its input (and to its
    state), so both norms agree.
    """
    del norm
    return [
        MatrixMap(AppliedWeight(layer, "kernel")),
        MatrixMap(AppliedWeight(layer, "recurrent_kernel")),
    ]
