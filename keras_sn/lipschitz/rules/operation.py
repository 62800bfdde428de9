"""Use: one use of a `keras.ops` operation, as its rule sees it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.base import unbounded
from keras_sn.lipschitz.pieces.merge import Shape
from keras_sn.lipschitz.rules.call import Call

# Relative error of a constant converted to the dtype of a tensor.
_ROUNDED = {"float64": 1e-7, "float32": 1e-7, "float16": 1e-3}


@dataclasses.dataclass
class Use:
    """One use of an operation on a single tensor.

    Attributes:
        operation: The operation, which holds its settings.
        args: Positional arguments, the tensor among them.
        kwargs: Keyword arguments, or the tensor among them.
        call: The `Call`.
    """

    operation: Any
    args: tuple
    kwargs: dict
    call: Call

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return tuple(self.tensor.shape)

    @property
    def tensor(self) -> keras.KerasTensor:
        """The one symbolic tensor."""
        values = keras.tree.flatten((self.args, self.kwargs))
        return next(v for v in values if isinstance(v, keras.KerasTensor))

    @property
    def starts_with_tensor(self) -> bool:
        """Whether the tensor is the first argument."""
        return next(iter(self._values)) is self.tensor

    @property
    def constant(self) -> np.ndarray | None:
        """The other argument as float64, if it is one array or number."""
        others = [v for v in self._values if v is not self.tensor]
        return as_array(others[0]) if others else None

    @property
    def rounded(self) -> float:
        """Relative error by which the constant is rounded."""
        return _ROUNDED.get(self.tensor.dtype, 8e-3)

    @property
    def _values(self) -> list:
        return [*self.args, *self.kwargs.values()]


OperationRule = Callable[[Use], Piece | list[Piece]]


def as_array(value: Any) -> np.ndarray | None:
    """A constant as a float64 array, `None` if it is no number or tensor."""
    if isinstance(value, keras.Variable):
        value = value.value
    if ops.is_tensor(value) and not isinstance(value, keras.KerasTensor):
        if keras.backend.standardize_dtype(value.dtype) == "bfloat16":
            value = ops.cast(value, "float32")
        value = ops.convert_to_numpy(value)
    if not isinstance(value, (int, float, list, np.ndarray, np.number)):
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return None
    return array.astype("float64")


def unknown(what: str) -> Piece:
    """The piece of an operation of which no constant is known."""
    return unbounded(
        f"No constant is known for the operation {what}.",
        "Use a layer that has a rule, or write it as a layer and register "
        "one with `keras_sn.lipschitz.register_rule`.",
    )
