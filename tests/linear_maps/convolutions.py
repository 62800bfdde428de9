"""Random convolution layers, with a seed each, and their dense matrices."""

import dataclasses
import math

import keras
import numpy as np
from keras import layers

from tests import truth

_KINDS = ("plain", "plain", "transposed", "depthwise", "separable")
_CLASSES = {
    "plain": (layers.Conv1D, layers.Conv2D, layers.Conv3D),
    "transposed": (
        layers.Conv1DTranspose,
        layers.Conv2DTranspose,
        layers.Conv3DTranspose,
    ),
    "depthwise": (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    "separable": (layers.SeparableConv1D, layers.SeparableConv2D),
}
# Whether strides and dilation go together: in no other kind, nor in Keras 3.14.
try:
    layers.DepthwiseConv1D(1, strides=2, dilation_rate=2)
    _BOTH_AT_ONCE = ("depthwise", "separable")
except ValueError:
    _BOTH_AT_ONCE = ()
# On PyTorch Keras before 3.15 shifts a transposed convolution with an uneven
# padding by one against itself on other backends, and says so, or refuses it.
_SHIFTS_UNEVEN_PADDING = keras.backend.backend() == "torch" and (
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15)
)
# Entries of one input, so that a dense matrix stays cheap.
_LARGEST_INPUT = 220


@dataclasses.dataclass
class RandomConvolution:
    """A convolution layer drawn from a seed, and inputs that fit it.

    Args:
        seed: What it is drawn from, printed by a failing test.

    Attributes:
        layer: The built layer, without a bias.
        channels: Input channels.
        sizes: Spatial sizes to try.
    """

    seed: int

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        kind = _KINDS[rng.integers(len(_KINDS))]
        classes = _CLASSES[kind]
        dimensions = int(rng.choice([1, 2, 3], p=[0.45, 0.45, 0.1]))
        dimensions = min(dimensions, len(classes))
        strides = _per_axis(rng, dimensions, [1, 1, 2, 3, 4])
        dilation = _per_axis(rng, dimensions, [1, 1, 2, 3])
        if kind not in _BOTH_AT_ONCE and max(strides) > 1:
            dilation = (1,) * dimensions
        kernel = _fitting_kernel(rng, dimensions, dilation)
        groups = 1
        arguments = {
            "strides": strides,
            "dilation_rate": dilation,
            "use_bias": False,
        }
        paddings = ["valid", "same"]
        if kind == "plain":
            groups = int(rng.choice([1, 1, 2, 3]))
            arguments["groups"] = groups
            if dimensions == 1:
                paddings.append("causal")
        if kind == "transposed" and _SHIFTS_UNEVEN_PADDING:
            paddings = ["valid"]
        self.channels = groups * int(rng.integers(1, 4))
        if kind in ("depthwise", "separable"):
            arguments["depth_multiplier"] = int(rng.integers(1, 4))
        if kind != "depthwise":
            arguments["filters"] = groups * int(rng.integers(1, 4))
        arguments["padding"] = str(rng.choice(paddings))
        arguments["data_format"] = str(
            rng.choice(["channels_last", "channels_first"])
        )
        # Causal padding knows one format only.
        if arguments["padding"] == "causal":
            arguments["data_format"] = "channels_last"

        # Drawn by NumPy: JAX would compile its own generator for each shape.
        def draw(shape, dtype=None):
            values = rng.standard_normal(shape).astype("float32")
            return keras.ops.convert_to_tensor(values)

        names = ["kernel_initializer"]
        if kind == "separable":
            names = ["depthwise_initializer", "pointwise_initializer"]
        elif kind == "depthwise":
            names = ["depthwise_initializer"]
        self.description = f"{kind} {dimensions}-D {kernel} {arguments}"
        make = classes[dimensions - 1]
        arguments.update(dict.fromkeys(names, draw))
        self.layer = make(kernel_size=kernel, **arguments)
        self.layer.build((None, *self.input_shape((None,) * dimensions)))
        self.twin = self.layer
        if keras.backend.backend() == "tensorflow":
            self.twin = self._with_a_kernel_on_cpu(kind, classes, arguments)
        smallest = _extents(kernel, dilation)
        room = max(_LARGEST_INPUT / self.channels, 1)
        side = int(room ** (1 / dimensions))
        self.sizes = [
            tuple(max(n, int(rng.integers(1, side + 1))) for n in smallest),
            tuple(max(n, side) for n in smallest),
        ]

    def _with_a_kernel_on_cpu(self, kind, kinds, arguments):
        """The layer, or one that does the same, last axis channels.

        TensorFlow has no CPU kernels for channels first, for a dilated
        transposed convolution, nor, where oneDNN is off, as on older
        processors, for a depthwise one of different strides.
        """
        weights = self.layer.get_weights()
        dilation = arguments["dilation_rate"]
        uneven = kind in ("depthwise", "separable") and (
            len(set(arguments["strides"])) > 1
        )
        dilated = kind == "transposed" and max(dilation) > 1
        first = arguments["data_format"] == "channels_first"
        if not (first or dilated or uneven):
            return self.layer
        arguments = {**arguments, "data_format": "channels_last"}
        if uneven:
            kinds = _CLASSES["plain"]
            weights = [_undivided(*weights)]
            arguments["filters"] = weights[0].shape[-1]
            for name in (
                "depth_multiplier",
                "depthwise_initializer",
                "pointwise_initializer",
            ):
                arguments.pop(name, None)
        if uneven or dilated:
            weights = [_dilated(weights[0], dilation)]
            arguments["dilation_rate"] = (1,) * len(dilation)
        make = kinds[len(dilation) - 1]
        twin = make(kernel_size=weights[0].shape[: len(dilation)], **arguments)
        twin.build((None,) * (len(dilation) + 1) + (self.channels,))
        twin.set_weights(weights)
        return twin

    def input_shape(self, spatial):
        """Shape of one input of a spatial size."""
        if self.layer.data_format == "channels_first":
            return (self.channels, *spatial)
        return (*spatial, self.channels)

    def dense_matrix(self, size):
        """The layer's matrix at a spatial size, in its data format."""
        shape = self.input_shape(size)
        if self.twin is self.layer:
            return _images(self.layer, shape)
        count = math.prod(size)
        matrix = _images(self.twin, (*size, self.channels))
        if self.layer.data_format == "channels_last":
            return matrix
        matrix = matrix.reshape(count, self.channels, -1, self.filters)
        matrix = matrix.transpose(1, 0, 3, 2)
        return matrix.reshape(count * self.channels, -1)

    @property
    def filters(self):
        shape = (1, *self.input_shape(self.sizes[-1]))
        outputs = self.layer.compute_output_shape(shape)
        first = self.layer.data_format == "channels_first"
        return outputs[1] if first else outputs[-1]

    def __str__(self):
        return f"seed {self.seed}: {self.description}"


def _per_axis(rng, dimensions, choices):
    """A number for all axes, or now and then one for each."""
    if rng.random() < 0.7:
        return (int(rng.choice(choices)),) * dimensions
    return tuple(int(n) for n in rng.choice(choices, dimensions))


def _fitting_kernel(rng, dimensions, dilation):
    """A kernel size from 1 to 7 whose smallest input is not too large."""
    while True:
        kernel = tuple(int(k) for k in rng.integers(1, 8, dimensions))
        if math.prod(_extents(kernel, dilation)) <= _LARGEST_INPUT:
            return kernel


def _extents(kernel_size, dilation):
    """The size of a dilated kernel along each axis."""
    pairs = zip(kernel_size, dilation, strict=True)
    return [(k - 1) * d + 1 for k, d in pairs]


def _images(layer, shape):
    """The images of the unit vectors, a row each."""
    count = math.prod(shape)
    units = np.eye(count, dtype="float32").reshape(count, *shape)
    return truth.to_numpy(layer(units)).reshape(count, -1)


def _undivided(depthwise, pointwise=None):
    """The kernel of the plain convolution that does the same."""
    channels, multiplier = depthwise.shape[-2:]
    columns = channels * multiplier
    own = np.eye(channels)[:, :, None] * depthwise[..., None, :]
    kernel = own.reshape(*depthwise.shape[:-1], columns)
    return (
        kernel if pointwise is None else kernel @ pointwise.reshape(columns, -1)
    )


def _dilated(kernel, dilation):
    """The kernel with zeros between its taps."""
    sizes = _extents(kernel.shape[:-2], dilation)
    result = np.zeros((*sizes, *kernel.shape[-2:]), kernel.dtype)
    result[tuple(slice(None, None, d) for d in dilation)] = kernel
    return result
