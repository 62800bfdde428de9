"""The layers that SpectralNormalization wraps: one table for all tests."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to wrap and what to feed it.

    Args:
        name: Name of the test.
        make: Function that makes the layer.
        input_shapes: Shape of each input, without the batch axis.
        weights: Names of the weights that get normalized, in order.
        integers: Upper end of integer inputs; `None` for normal floats.
        masked: Whether the layer keeps or uses the mask of its input.
        channels_first: Whether the data format needs a GPU on TensorFlow.
    """

    name: str
    make: Callable
    input_shapes: tuple
    weights: tuple = ("kernel",)
    integers: int | None = None
    masked: bool = False
    channels_first: bool = False

    def inputs(self, batch=4, seed=0):
        """List of arrays, one per input."""
        rng = np.random.default_rng(seed)
        shapes = [(batch, *shape) for shape in self.input_shapes]
        if self.integers:
            return [rng.integers(1, self.integers, size=s) for s in shapes]
        return [rng.standard_normal(s).astype("float32") for s in shapes]

    def model(self, layer):
        """A functional model of the layer alone."""
        dtype = "int32" if self.integers else "float32"
        inputs = [keras.Input(s, dtype=dtype) for s in self.input_shapes]
        return keras.Model(inputs, layer(*inputs))

    def __str__(self):
        return self.name


def _sequential():
    return keras.Sequential(
        [
            layers.Dense(5, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.2, seed=3),
            layers.Dense(3),
        ]
    )


def _functional():
    inputs = keras.Input((6,))
    hidden = layers.Dense(6, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(2)(hidden + inputs))


@keras.saving.register_keras_serializable(package="keras_sn_tests")
class Subclassed(layers.Layer):
    """A layer with sublayers and no `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(5, activation="relu")
        self.second = layers.Dense(2)

    def call(self, inputs):
        return self.second(self.first(inputs))


@keras.saving.register_keras_serializable(package="keras_sn_tests")
class CustomKernel(layers.Layer):
    """A user's layer with a weight called `kernel`."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 3), name="kernel")

    def call(self, inputs):
        return keras.ops.tanh(keras.ops.matmul(inputs, self.kernel))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)


_IMAGE = ((8, 8, 4),)
_SERIES = ((9, 4),)
_VIDEO = ((3, 6, 6, 2),)
_TWO_KERNELS = ("kernel", "recurrent_kernel")

CASES = [
    Case("dense", lambda: layers.Dense(5), ((6,),)),
    Case("dense_relu", lambda: layers.Dense(5, activation="relu"), ((6,),)),
    Case("dense_nd", lambda: layers.Dense(5), ((2, 3, 6),), masked=True),
    Case("dense_no_bias", lambda: layers.Dense(5, use_bias=False), ((6,),)),
    Case(
        "dense_regularized",
        lambda: layers.Dense(
            5, kernel_regularizer="l2", activity_regularizer="l2"
        ),
        ((6,),),
    ),
    Case(
        "dense_constrained",
        lambda: layers.Dense(5, kernel_constraint="max_norm"),
        ((6,),),
    ),
    Case(
        "einsum",
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 5)),
        ((3, 6),),
    ),
    Case(
        "einsum_batch",
        lambda: layers.EinsumDense("abc,bcd->abd", (3, 5)),
        ((3, 6),),
    ),
    Case(
        "embedding",
        lambda: layers.Embedding(12, 5, mask_zero=True),
        ((7,),),
        ("embeddings",),
        integers=12,
        masked=True,
    ),
    Case("conv1d", lambda: layers.Conv1D(5, 3), _SERIES),
    Case(
        "conv1d_causal",
        lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2),
        _SERIES,
    ),
    Case("conv2d", lambda: layers.Conv2D(5, 3, activation="relu"), _IMAGE),
    Case(
        "conv2d_strided",
        lambda: layers.Conv2D(5, 3, strides=2, padding="same"),
        _IMAGE,
    ),
    Case(
        "conv2d_dilated", lambda: layers.Conv2D(5, 3, dilation_rate=2), _IMAGE
    ),
    Case("conv2d_grouped", lambda: layers.Conv2D(6, 3, groups=2), _IMAGE),
    Case(
        "conv2d_channels_first",
        lambda: layers.Conv2D(5, 3, data_format="channels_first"),
        ((4, 8, 8),),
        channels_first=True,
    ),
    Case("conv3d", lambda: layers.Conv3D(3, 2), _VIDEO),
    Case("conv1d_transpose", lambda: layers.Conv1DTranspose(5, 3), _SERIES),
    Case(
        "conv2d_transpose",
        lambda: layers.Conv2DTranspose(5, 3, strides=2),
        _IMAGE,
    ),
    Case("conv3d_transpose", lambda: layers.Conv3DTranspose(3, 2), _VIDEO),
    Case(
        "depthwise1d",
        lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
        _SERIES,
    ),
    Case(
        "depthwise2d",
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        _IMAGE,
    ),
    Case(
        "separable1d",
        lambda: layers.SeparableConv1D(5, 3),
        _SERIES,
        ("depthwise_kernel", "pointwise_kernel"),
    ),
    Case(
        "separable2d",
        lambda: layers.SeparableConv2D(5, 3),
        _IMAGE,
        ("depthwise_kernel", "pointwise_kernel"),
    ),
    Case(
        "simple_rnn",
        lambda: layers.SimpleRNN(5, return_sequences=True),
        _SERIES,
        _TWO_KERNELS,
        masked=True,
    ),
    Case(
        "lstm",
        lambda: layers.LSTM(5, return_sequences=True),
        _SERIES,
        _TWO_KERNELS,
        masked=True,
    ),
    Case("gru", lambda: layers.GRU(5), _SERIES, _TWO_KERNELS),
    Case(
        "rnn_of_cells",
        lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)]),
        _SERIES,
        _TWO_KERNELS * 2,
    ),
    Case(
        "conv_lstm1d",
        lambda: layers.ConvLSTM1D(3, 3),
        ((3, 8, 2),),
        _TWO_KERNELS,
    ),
    Case("conv_lstm2d", lambda: layers.ConvLSTM2D(3, 3), _VIDEO, _TWO_KERNELS),
    Case(
        "conv_lstm3d",
        lambda: layers.ConvLSTM3D(2, 2),
        ((2, 4, 4, 4, 2),),
        _TWO_KERNELS,
    ),
    Case(
        "bidirectional",
        lambda: layers.Bidirectional(layers.LSTM(3)),
        _SERIES,
        _TWO_KERNELS * 2,
    ),
    Case(
        "time_distributed",
        lambda: layers.TimeDistributed(layers.Dense(3)),
        _SERIES,
    ),
    Case(
        "attention",
        lambda: layers.MultiHeadAttention(2, 3, use_bias=False),
        ((5, 6), (7, 6)),
        ("kernel",) * 4,
    ),
    Case(
        "grouped_attention",
        lambda: layers.GroupQueryAttention(3, 4, 2, use_bias=False),
        ((5, 6), (7, 6)),
        ("kernel",) * 4,
    ),
    Case(
        "batch_normalization",
        lambda: layers.BatchNormalization(),
        ((6,),),
        ("gamma",),
    ),
    Case("sequential", _sequential, ((6,),), ("kernel",) * 2),
    Case("functional", _functional, ((6,),), ("kernel",) * 2),
    Case("subclassed", Subclassed, ((6,),), ("kernel",) * 2),
    Case("custom_kernel", CustomKernel, ((6,),)),
]
