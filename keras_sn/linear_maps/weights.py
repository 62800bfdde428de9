"""The weight a layer applies: its path, its value, and how to scale it."""

import keras
from keras import ops


class VariableWeight:
    """A variable of a layer, taken by itself rather than by an attribute.

    Args:
        layer: The layer it was found in.
        variable: The `keras.Variable`.
    """

    def __init__(self, layer, variable):
        self.layer = layer
        self.variable = variable

    @property
    def path(self):
        return self.variable.path

    @property
    def shape(self):
        return tuple(self.variable.shape)

    def value(self):
        return self.variable.value

    def scalable_variables(self):
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

    def __init__(self, layer, attribute, name=None):
        super().__init__(layer, _own_variable(layer, name or attribute))
        self.attribute = attribute

    @property
    def lora_enabled(self):
        return bool(getattr(self.layer, "lora_enabled", False))

    def value(self):
        """The tensor the layer applies, differentiable in its variables."""
        self.check_not_quantized()
        if self.lora_enabled:
            return ops.convert_to_tensor(getattr(self.layer, self.attribute))
        return self.variable.value

    def scalable_variables(self):
        """The variables to scale by `c` to apply `c` times the weight."""
        if not self.lora_enabled:
            return [self.variable]
        factor = next(
            v
            for v in self.layer.weights
            if v.name == f"lora_{self.attribute}_b"
        )
        return [self.variable, factor]

    def check_not_quantized(self):
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


class ArrayWeight:
    """A weight that is just an array, with no layer around it.

    Args:
        array: NumPy array or tensor.
        path: Name to use in messages.
    """

    def __init__(self, array, path="array"):
        self._array = array
        self.path = path
        self.shape = tuple(array.shape)

    def value(self):
        return ops.convert_to_tensor(self._array)


def _own_variable(layer, name):
    value = getattr(layer, name, None)
    if isinstance(value, keras.Variable):
        return value
    # An attribute such as `kernel` is a computed tensor while LoRA is on.
    for variable in layer.weights:
        if variable.name == name:
            return variable
    raise ValueError(
        f"Layer '{layer.name}' ({type(layer).__name__}) has no weight named "
        f"'{name}'. It has {[v.name for v in layer.weights]}."
    )
