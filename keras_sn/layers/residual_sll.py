"""SLLDense and SLLConv2D: residual layers that are 1-Lipschitz by design."""

import abc
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.layers.layer_arguments import check_count
from keras_sn.layers.layer_arguments import check_counts
from keras_sn.layers.layer_arguments import refusal

# Added to every diagonal, so that a zero kernel divides by no zero.
_FLOOR = 1e-12
# Largest relative error of rounding to a dtype.
_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


class ResidualSLL(keras.layers.Layer, abc.ABC):
    """What the dense and the convolutional layer share.

    `x - 2 A^T T^-1 relu(A x + b)` with a linear map `A` is 1-Lipschitz where
    `T - A A^T` is positive semidefinite. A diagonal `T` of the row sums of
    `|A A^T|`, weighted by any positive `q`, is so by diagonal dominance.
    """

    units: int

    def _add_hidden_weights(self, kernel_shape: tuple) -> None:
        self.kernel = self.add_weight(
            shape=kernel_shape,
            initializer="glorot_uniform",
            # Not a name by which a wrapper finds what to normalize.
            name="hidden_kernel",
        )
        self.bias = self.add_weight(
            shape=(self.units,), initializer="zeros", name="bias"
        )
        self.log_q = self.add_weight(
            shape=(self.units,),
            initializer="zeros",
            autocast=False,
            name="log_q",
        )

    @property
    def factors(self):
        """`2 / T`, one number for each hidden unit, as applied."""
        weights = ops.exp(ops.convert_to_tensor(self.log_q))
        kernel = ops.cast(self.applied_kernel, weights.dtype)
        sums = ops.matmul(self.correlations(kernel), weights) / weights
        # Sums of float32, and the rounding to the dtype of the call.
        slack = 1 + 1e-5 + 4 * _UNITS.get(self.compute_dtype, 0.0)
        return ops.cast(2 / (sums * slack + _FLOOR), self.compute_dtype)

    @property
    def applied_kernel(self):
        """The kernel in the dtype that the call uses."""
        return ops.cast(self.kernel, self.compute_dtype)

    @staticmethod
    @abc.abstractmethod
    def correlations(kernel):
        """Sums of `|A A^T|` over all that one unit shares with another.

        Args:
            kernel: Tensor or float64 array.

        Returns:
            `(units, units)`, an array or tensor as `kernel` is.
        """

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@keras.saving.register_keras_serializable(package="keras_sn")
class SLLDense(ResidualSLL):
    """A residual dense layer that is 1-Lipschitz, whatever its weights.

    `x - 2 relu(x W + b) T^-1 W^T`, where the diagonal `T` has the row sums of
    `|W^T W|`, weighted by learned positive numbers `q`. Nothing is normalized
    by a largest singular value, and stacks of such layers keep their gradients,
    since each is the identity and more.

    Guarantee: the Lipschitz constant is at most 1.

    Args:
        units: Number of hidden units; the output is as large as the input.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input and output shape: `(batch, ..., inputs)`.

    Raises:
        ValueError: If `units` is no positive integer.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import SLLDense
    >>> from keras_sn.lipschitz import lipschitz_bound
    >>> model = keras.Sequential([keras.Input((3,)), SLLDense(8), SLLDense(8)])
    >>> round(lipschitz_bound(model, lower=False).upper, 6)
    1.0

    Reference:

    - [Araujo et al., 2023](https://arxiv.org/abs/2303.03169)
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = check_count(self, "units", units)
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: input_shape[-1]}
        )
        self._add_hidden_weights((input_shape[-1], self.units))

    @staticmethod
    def correlations(kernel):
        if isinstance(kernel, np.ndarray):
            return np.abs(kernel.T @ kernel)
        return ops.abs(ops.matmul(ops.transpose(kernel), kernel))

    def call(self, inputs):
        kernel = self.applied_kernel
        hidden = ops.relu(ops.matmul(inputs, kernel) + self.bias)
        return inputs - ops.matmul(hidden * self.factors, ops.transpose(kernel))

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="keras_sn")
class SLLConv2D(ResidualSLL):
    """A residual convolution that is 1-Lipschitz: `SLLDense` for images.

    Guarantee: the Lipschitz constant is at most 1, at every input size. (Zeros
    beyond the border only take from `A A^T`.)

    Args:
        filters: Number of hidden channels; the output is as the input.
        kernel_size: Odd numbers of taps, one integer or two.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input and output shape: `(batch, height, width, channels)`.

    Raises:
        ValueError: If `filters` is no positive integer or a size is even.

    Example:

    >>> from keras_sn.layers import SLLConv2D
    >>> from keras_sn.lipschitz import lipschitz_bound
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), SLLConv2D(6, 3)])
    >>> round(lipschitz_bound(model, lower=False).upper, 6)
    1.0

    Reference:

    - [Araujo et al., 2023](https://arxiv.org/abs/2303.03169)
    """

    def __init__(self, filters: int, kernel_size: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = check_count(self, "filters", filters)
        self.kernel_size = check_counts(self, "kernel_size", kernel_size, 2)
        if not all(size % 2 for size in self.kernel_size):
            raise refusal(
                self,
                "`kernel_size` must be odd, so that the convolution and its "
                "adjoint are padded alike.",
                kernel_size=kernel_size,
            )

    def build(self, input_shape: tuple) -> None:
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes={-1: input_shape[-1]}
        )
        self._add_hidden_weights(
            (*self.kernel_size, input_shape[-1], self.units)
        )

    @staticmethod
    def correlations(kernel):
        if isinstance(kernel, np.ndarray):
            return _correlations(kernel)
        # Each filter as an image, seen by all filters at all distances.
        high, wide = kernel.shape[0] - 1, kernel.shape[1] - 1
        images = ops.transpose(kernel, (3, 0, 1, 2))
        images = ops.pad(images, ((0, 0), (high, high), (wide, wide), (0, 0)))
        products = ops.conv(
            images, kernel, padding="valid", data_format="channels_last"
        )
        return ops.sum(ops.abs(products), axis=(1, 2))

    def call(self, inputs):
        kernel = self.applied_kernel
        hidden = ops.relu(self._convolved(inputs, kernel) + self.bias)
        adjoint = ops.transpose(ops.flip(kernel, (0, 1)), (0, 1, 3, 2))
        return inputs - self._convolved(hidden * self.factors, adjoint)

    @staticmethod
    def _convolved(images, kernel):
        return ops.conv(
            images, kernel, padding="same", data_format="channels_last"
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.units,
            "kernel_size": self.kernel_size,
        }


def _correlations(kernel: np.ndarray) -> np.ndarray:
    """`SLLConv2D.correlations` of an array, written out."""
    high, wide, _, units = kernel.shape
    sums = np.zeros((units, units))
    for down in range(1 - high, high):
        for right in range(1 - wide, wide):
            one = kernel[
                max(0, down) : high + min(0, down),
                max(0, right) : wide + min(0, right),
            ]
            other = kernel[
                max(0, -down) : high + min(0, -down),
                max(0, -right) : wide + min(0, -right),
            ]
            sums += np.abs(np.einsum("abcj,abck->jk", one, other))
    return sums
