"""The state of `keras.layers.SpectralNormalization` in its weight files."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_sn.layers.normalized_weight import NormalizedWeight


def is_stock_store(store: Any) -> bool:
    """Whether what was saved is the state of the stock wrapper.

    It stores the kernel next to its `vector_u`; ours, at least three.
    """
    return len(store.keys()) == 2


def load_stock_variables(weight: NormalizedWeight, store: Any) -> None:
    """Loads kernel and `vector_u`; what else the state needs is computed."""
    weight.variable.assign(store["0"])
    weight.refresh()
    vector_u = np.asarray(store["1"][...])
    # Otherwise one `u` per block here stands for one of the whole kernel.
    if math.prod(vector_u.shape) == math.prod(weight.u.shape):
        weight.start_from(ops.reshape(vector_u, weight.u.shape))
