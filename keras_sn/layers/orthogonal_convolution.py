"""OrthogonalConv1D, 2D and 3D: convolutions with equal singular values."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_sn.layers.layer_arguments import check_count
from keras_sn.layers.layer_arguments import check_counts
from keras_sn.layers.layer_arguments import check_norm_bound
from keras_sn.layers.layer_arguments import refusal
from keras_sn.layers.orthogonal_kernel import KernelPlan
from keras_sn.layers.orthonormal import SAFETY
from keras_sn.linear_maps.circular_window import CircularWindow
from keras_sn.linear_maps.circular_window import wrap
from keras_sn.linear_maps.convolution import grouped_kernel
from keras_sn.linear_maps.convolution_map import ConvolutionMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import ComputedWeight
from keras_sn.linear_maps.window import Window

_PADDINGS = ("circular", "valid", "same")


class OrthogonalConvolution(keras.layers.Layer):
    """What the orthogonal convolutions of 1, 2 and 3 axes share."""

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "circular",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        norm_bound: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = check_count(self, "filters", filters)
        self.kernel_size = check_counts(
            self, "kernel_size", kernel_size, self.rank
        )
        self.strides = check_counts(self, "strides", strides, self.rank)
        if any(
            k < s for k, s in zip(self.kernel_size, self.strides, strict=True)
        ):
            raise refusal(
                self,
                "`kernel_size` must be at least `strides`: no output would "
                "read the inputs between.",
                kernel_size=kernel_size,
                strides=strides,
            )
        if padding not in _PADDINGS:
            demand = f"`padding` must be one of {list(_PADDINGS)}."
            raise refusal(self, demand, padding=padding)
        self.padding = padding
        self.data_format = keras.config.image_data_format()
        if data_format is not None:
            self.data_format = data_format
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.norm_bound = check_norm_bound(self, norm_bound)
        # The image wraps around here; the convolution itself is "valid".
        self.torus = CircularWindow(
            self.kernel_size, self.strides, (1,) * self.rank, "circular"
        )

    @property
    def first_axis(self) -> int:
        """The first spatial axis of a batch."""
        return 2 if self.data_format == "channels_first" else 1

    def build(self, input_shape: tuple) -> None:
        axis = 1 if self.data_format == "channels_first" else -1
        self.channels = input_shape[axis]
        self.input_spec = keras.layers.InputSpec(
            ndim=self.rank + 2, axes={axis: self.channels}
        )
        if self.padding == "circular":
            self._check_size(input_shape)
        self.plan = KernelPlan(
            self.kernel_size, self.strides, self.channels, self.filters
        )
        self.raw_kernels = {
            name: self.add_weight(
                shape=shape,
                initializer=keras.initializers.RandomNormal(
                    stddev=shape[-2] ** -0.5
                ),
                autocast=False,
                name=name,
            )
            for name, shape in self.plan.shapes.items()
        }
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.filters,), initializer="zeros", name="bias"
            )

    @property
    def kernel(self):
        """The kernel that is applied, `(*kernel_size, channels, filters)`."""
        variables = {
            name: ops.convert_to_tensor(variable)
            for name, variable in self.raw_kernels.items()
        }
        kernel = self.plan.kernel(variables)
        return ops.cast(kernel * (self.norm_bound * SAFETY), self.compute_dtype)

    def call(self, inputs):
        padding = self.padding
        if padding == "circular":
            self._check_size(inputs.shape)
            inputs = wrap(inputs, self.torus.margins(), self.first_axis)
            padding = "valid"
        outputs = ops.conv(
            inputs,
            self.kernel,
            strides=list(self.strides),
            padding=padding,
            data_format=self.data_format,
        )
        if self.bias is not None:
            shape = [1] * (self.rank + 2)
            shape[1 if self.first_axis == 2 else -1] = self.filters
            outputs = outputs + ops.reshape(self.bias, shape)
        return self.activation(outputs)

    def _spatial(self, shape: tuple) -> tuple:
        return tuple(shape[self.first_axis : self.first_axis + self.rank])

    def _check_size(self, shape: tuple) -> None:
        """Raises `ValueError` for an image that the torus does not fit."""
        for size, stride, margin in zip(
            self._spatial(shape),
            self.strides,
            self.torus.margins(),
            strict=True,
        ):
            if size is None and stride == 1:
                continue
            if size is None or size % stride or size < max(margin):
                raise ValueError(
                    f"Layer '{self.name}' wraps its input around, so each "
                    "spatial size must be known and divisible by its stride, "
                    f"and at least {max(margin)}. Received an input of the "
                    f"shape {tuple(shape)} with strides={self.strides}. Pad "
                    "it before (`keras.layers.ZeroPadding2D`), or use "
                    "padding='valid'."
                )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sizes = []
        for n, k, s in zip(
            self._spatial(input_shape),
            self.kernel_size,
            self.strides,
            strict=True,
        ):
            if n is not None and self.padding == "valid":
                n = max(n - k + 1, 0)
            sizes.append(None if n is None else -(-n // s))
        if self.data_format == "channels_first":
            return (input_shape[0], self.filters, *sizes)
        return (input_shape[0], *sizes, self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "norm_bound": self.norm_bound,
        }


@keras.saving.register_keras_serializable(package="keras_sn")
class OrthogonalConv1D(OrthogonalConvolution):
    """`OrthogonalConv2D` for sequences, `(batch, steps, channels)`.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import OrthogonalConv1D
    >>> OrthogonalConv1D(8, 3, strides=2)(np.ones((4, 6, 2))).shape == (4, 3, 8)
    True
    """

    rank = 1


@keras.saving.register_keras_serializable(package="keras_sn")
class OrthogonalConv2D(OrthogonalConvolution):
    """A convolution that is orthogonal, times `norm_bound`.

    It keeps every distance between inputs if it has as many outputs
    (`filters` at least `channels * prod(strides)`), and otherwise those within
    the subspace that it reads. Its kernel is a product of filters of two taps,
    `P + (I - P) z` with projections `P`, and of a matrix of patches, computed
    in every call in float32 or wider. `keras_sn.models.fold_model` gives a
    `keras.layers.Conv2D`, behind a wrap of the image where it is circular.

    Guarantee: whatever the training did, the norm is at most `norm_bound`, at
    every input size and with every padding. Singular values of the dense
    matrix, `min(inputs, outputs)` of them, lie within 1e-4 below it

    - all of them with `padding="circular"`, where the image wraps around;
    - all of them with `padding="valid"` if there are no more filters than
      `channels * prod(strides)`. With more, the border is in fewer outputs
      than the rest, and so amplified less;
    - those of the inner of the image with `padding="same"`: zeros beyond the
      border take part of what is there, and no convolution padded with zeros
      is orthogonal unless it has a single tap.

    Args:
        filters: Number of output channels.
        kernel_size: Taps, one integer or one per axis; at least `strides`.
        strides: Stride, one integer or one per axis.
        padding: `"circular"`, `"valid"` or `"same"`, see above.
        data_format: `"channels_last"` or `"channels_first"`. `None`: as in
            `keras.config.image_data_format()`.
        activation: Activation, as for `keras.layers.Conv2D`.
        use_bias: Whether to add a bias.
        norm_bound: The singular values.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input shape: `(batch, height, width, channels)`. Output shape: with
    `padding="circular"` or `"same"` `(batch, ceil(height / stride),
    ceil(width / stride), filters)`.

    Raises:
        ValueError: If an argument is out of range; when built or called, if a
            circular image is not a multiple of the stride.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import OrthogonalConv2D
    >>> layer = OrthogonalConv2D(8, 3, strides=2)
    >>> x = np.random.default_rng(0).normal(size=(4, 6, 6, 2))
    >>> outputs = keras.ops.convert_to_numpy(layer(x))
    >>> outputs.shape
    (4, 3, 3, 8)
    >>> ratio = np.linalg.norm(outputs) / np.linalg.norm(x)
    >>> round(float(ratio), 3)
    1.0

    Reference:

    - [Li et al., 2019](https://arxiv.org/abs/1911.00937)
    - [Boissin et al., 2025](https://arxiv.org/abs/2501.08139)
    """

    rank = 2


@keras.saving.register_keras_serializable(package="keras_sn")
class OrthogonalConv3D(OrthogonalConvolution):
    """`OrthogonalConv2D` for volumes, `(batch, *sizes, channels)`.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import OrthogonalConv3D
    >>> outputs = OrthogonalConv3D(4, 2)(np.ones((2, 3, 3, 3, 1)))
    >>> tuple(outputs.shape)
    (2, 3, 3, 3, 4)
    """

    rank = 3


@register_linear_map(OrthogonalConvolution)
def _orthogonal_convolution(layer, norm):
    """The kernel `(*kernel_size, channels, filters)`."""
    shape = (*layer.kernel_size, layer.channels, layer.filters)
    weight = ComputedWeight(layer, "kernel", shape)
    if norm == "kernel":
        return [grouped_kernel(weight, groups=1)]
    window = layer.torus
    if layer.padding != "circular":
        window = Window(
            layer.kernel_size, layer.strides, (1,) * layer.rank, layer.padding
        )
    return [ConvolutionMap(weight, window, layer.data_format)]
