"""OrthogonalDense: a dense layer all of whose singular values are equal."""

from typing import Any

import keras
from keras import ops

from keras_sn.layers.layer_arguments import check_count
from keras_sn.layers.layer_arguments import check_norm_bound
from keras_sn.layers.orthonormal import SAFETY
from keras_sn.layers.orthonormal import orthonormal_columns
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import ComputedWeight


@keras.saving.register_keras_serializable(package="keras_sn")
class OrthogonalDense(keras.layers.Layer):
    """A dense layer whose kernel is orthogonal, times `norm_bound`.

    `outputs = activation(inputs @ kernel + bias)`, as `keras.layers.Dense`.
    With as many units as inputs or more it keeps every distance between
    inputs; with fewer it keeps those within the subspace that it reads. So no
    gradient vanishes on its way back through a stack of such layers, as it
    does through layers whose largest singular value alone is bounded.

    The kernel is `Q` of the QR decomposition of the variable `raw_kernel`
    with a positive diagonal of `R`, computed in every call, in float32 or
    wider; `keras_sn.models.fold_model` gives a `keras.layers.Dense`.

    Guarantee: all `min(inputs, units)` singular values lie within 2e-5 below
    `norm_bound`, whatever the training did. In bfloat16 or float16 the
    kernel is rounded once more, and they move by as much.

    Args:
        units: Number of outputs.
        activation: Activation, as for `keras.layers.Dense`. Those that keep
            the gradient's norm fit best, see `keras_sn.layers.GroupSort`.
        use_bias: Whether to add a bias.
        norm_bound: The singular values.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input shape: `(batch, ..., inputs)`. Output shape: `(batch, ..., units)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import OrthogonalDense
    >>> layer = OrthogonalDense(3, use_bias=False)
    >>> x = np.random.default_rng(0).normal(size=(5, 2))
    >>> outputs = keras.ops.convert_to_numpy(layer(x))
    >>> ratios = np.linalg.norm(outputs, axis=1) / np.linalg.norm(x, axis=1)
    >>> ratios.round(3).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]

    Reference:

    - [Anil et al., 2019](https://arxiv.org/abs/1811.05381)
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        norm_bound: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = check_count(self, "units", units)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.norm_bound = check_norm_bound(self, norm_bound)
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        self.inputs = input_shape[-1]
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: self.inputs}
        )
        largest = max(self.inputs, self.units)
        self.raw_kernel = self.add_weight(
            shape=(largest, min(self.inputs, self.units)),
            initializer=keras.initializers.RandomNormal(stddev=largest**-0.5),
            autocast=False,
            name="raw_kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.units,), initializer="zeros", name="bias"
            )

    @property
    def kernel(self):
        """The kernel that is applied, `(inputs, units)`."""
        q = orthonormal_columns(ops.convert_to_tensor(self.raw_kernel))
        if self.inputs < self.units:
            q = ops.transpose(q)
        return ops.cast(q * (self.norm_bound * SAFETY), self.compute_dtype)

    def call(self, inputs):
        outputs = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "norm_bound": self.norm_bound,
        }


@register_linear_map(OrthogonalDense)
def _orthogonal_dense(layer, norm):
    """The kernel, `(inputs, units)`; both norms agree."""
    del norm
    weight = ComputedWeight(layer, "kernel", (layer.inputs, layer.units))
    return [MatrixMap(weight, channel_axis=-1)]
