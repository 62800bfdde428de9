"""The weight a layer applies: its path, its value, and how to scale it."""

import abc
from collections.abc import Iterable

import keras
from keras import ops

from keras_sn.keras_access import own_weights


class Weight(abc.ABC):
    """What a `LinearMap` knows of a weight.

    Attributes:
        path: Name for messages; several weights may have the same.
        shape: Its shape.
        layer: The layer it was found in, or `None`.
        variable: The variable it is known by, or `None` for what is none and
            can't be scaled.
    """

    path: str
    shape: tuple[int, ...]
    layer: keras.layers.Layer | None = None
    variable: keras.Variable | None = None

    @abc.abstractmethod
    def value(self):
        """The tensor that is applied, differentiable where it can be."""

    def scalable_variables(self) -> list[keras.Variable]:
        """The variables to scale by `c` to apply `c` times the weight."""
        return []


class VariableWeight(Weight):
    """A variable of a layer, taken by itself rather than by an attribute.

    Args:
        layer: The layer it was found in.
        variable: The `keras.Variable`.
    """

    def __init__(self, layer: keras.layers.Layer, variable: keras.Variable):
        self.layer: keras.layers.Layer = layer
        self.variable: keras.Variable = variable

    @property
    def path(self) -> str:  # type: ignore[override]
        # Paths change: a layer may become part of a model.
        return self.variable.path

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.variable.shape)

    def value(self):
        return self.variable.value

    def scalable_variables(self) -> list[keras.Variable]:
        return [self.variable]


class AppliedWeight(VariableWeight):
    """A weight of a layer, as the layer applies it.

    With LoRA a layer applies `kernel + scale * a @ b`, not the variable
    `kernel`; the value is then that sum, and scaling it means scaling
    `kernel` and `b`.

    Args:
        layer: A built Keras layer.
        attribute: Name of the attribute, such as `"kernel"`.
        name: Name of the variable, if it differs from the attribute.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        attribute: str,
        name: str | None = None,
    ):
        super().__init__(layer, _own_variable(layer, name or attribute))
        self.attribute = attribute
        # Reading the attribute in every step would be felt.
        self._computed = self._applied() is not self.variable

    @property
    def lora_enabled(self) -> bool:
        return bool(getattr(self.layer, "lora_enabled", False))

    def value(self):
        """The tensor the layer applies, differentiable in its variables."""
        self.check_not_quantized()
        if not (self._computed or self.lora_enabled):
            return self.variable.value
        return ops.convert_to_tensor(self._applied())

    def _applied(self):
        """The attribute: the variable itself or what it is computed to.

        With LoRA it is a sum; a subclass may make a property of it.
        """
        return getattr(self.layer, self.attribute, self.variable)

    def scalable_variables(self) -> list[keras.Variable]:
        if not self.lora_enabled:
            return [self.variable]
        factor = next(
            v
            for v in self.layer.weights
            if v.name == f"lora_{self.attribute}_b"
        )
        return [self.variable, factor]

    def check_not_quantized(self) -> None:
        """Raises `ValueError` if the layer was quantized."""
        mode = self.layer.quantization_mode
        if mode is not None:
            raise ValueError(
                f"Layer '{self.layer.name}' is quantized ('{mode}'), so its "
                f"'{self.attribute}' can no longer be normalized. Fold the "
                "normalization into the weights first "
                "(`keras_sn.models.fold_model`) and quantize the folded "
                "model."
            )


class ComputedWeight(Weight):
    """A weight that a layer computes from its variables, whatever they are.

    It has no variable to scale, so nothing normalizes it.

    Args:
        layer: A built Keras layer.
        attribute: Name of the attribute that computes it.
        shape: Its shape.
    """

    def __init__(
        self, layer: keras.layers.Layer, attribute: str, shape: tuple[int, ...]
    ):
        self.layer: keras.layers.Layer = layer
        self.attribute = attribute
        self.shape = shape

    @property
    def path(self) -> str:  # type: ignore[override]
        return f"{self.layer.path}/{self.attribute}"

    def value(self):
        return getattr(self.layer, self.attribute)


class ArrayWeight(Weight):
    """A weight that is just an array, with no layer around it.

    Args:
        array: NumPy array or tensor.
        path: Name to use in messages.
    """

    def __init__(self, array, path: str = "array"):
        self._array = array
        self.path = path
        self.shape = tuple(array.shape)

    def value(self):
        return ops.convert_to_tensor(self._array)


def unique_keys(paths: Iterable[str]) -> list[str]:
    """Paths as the keys of a dict: variables may share a path.

    The first variable of a path keeps it, the second gets it with `#2`
    behind, the third with `#3`.

    Example:

    >>> from keras_sn.linear_maps.weights import unique_keys
    >>> unique_keys(["fc/kernel", "out/kernel", "fc/kernel"])
    ['fc/kernel', 'out/kernel', 'fc/kernel#2']
    """
    seen: dict[str, int] = {}
    keys = []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        keys.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return keys


def _own_variable(layer, name):
    value = getattr(layer, name, None)
    if isinstance(value, keras.Variable):
        return value
    # An attribute such as `kernel` is a computed tensor while LoRA is on.
    for variable in own_weights(layer):
        if variable.name == name:
            return variable
    raise ValueError(
        f"Layer '{layer.name}' ({type(layer).__name__}) has no weight named "
        f"'{name}'. It has {[v.name for v in layer.weights]}."
    )
