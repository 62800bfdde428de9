"""Classifier: the scores of a model's classes, and what bounds them."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.bound import constant_of
from keras_sn.lipschitz.inputs import input_arrays
from keras_sn.lipschitz.logits import Scores
from keras_sn.lipschitz.logits import check_single_logit
from keras_sn.lipschitz.logits import scores_of
from keras_sn.lipschitz.logits import up_to_logits
from keras_sn.lipschitz.pair_constants import pair_constants
from keras_sn.lipschitz.rounding import Reach
from keras_sn.lipschitz.rounding import RoundingAnalysis
from keras_sn.lipschitz.tracing import trace


class Classifier:
    """A model as scores of classes.

    Args:
        model: As for `certified_radius`.

    Attributes:
        logits: The graph up to its logits.
    """

    def __init__(self, model: keras.layers.Layer):
        self._model = model
        self.logits, self._head = up_to_logits(trace(model, constant_of))
        self._analysis = RoundingAnalysis(self.logits)
        self._outputs = 0

    def batches(
        self, x: Any, size: int
    ) -> Iterator[tuple[list[np.ndarray], Scores, Reach]]:
        """Inputs, their scores, and what rounding did to these.

        Args:
            x: Inputs as the model takes.
            size: How many at once.
        """
        arrays = input_arrays(self._model, x)
        for start in range(0, len(arrays[0]), size):
            batch = [array[start : start + size] for array in arrays]
            reach = self._analysis.run(batch)
            outputs, dtype = _values(reach)
            self._outputs = outputs.shape[1]
            if self._outputs == 1 and self._head is None:
                check_single_logit(self.logits)
            yield batch, scores_of(outputs, self._head, dtype), reach

    def constants(self, method: str, time_limit: float) -> np.ndarray:
        """`K_ij` of all pairs, see `pair_constants`, behind a first batch."""
        single = self._outputs == 1
        classes = max(self._outputs, 2)
        return pair_constants(self.logits, classes, method, time_limit, single)


def _values(reach: Reach) -> tuple[np.ndarray, str]:
    """The outputs as float64, and what they were computed in."""
    dtype = keras.backend.standardize_dtype(reach.tensor.dtype)
    if len(reach.tensor.shape) != 2:
        raise ValueError(
            "`certified_radius` needs outputs of shape (batch, classes). "
            f"Received: {tuple(reach.tensor.shape)}"
        )
    tensor = keras.ops.cast(reach.tensor, "float32")
    if dtype == "float64":
        tensor = reach.tensor
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64"), dtype
