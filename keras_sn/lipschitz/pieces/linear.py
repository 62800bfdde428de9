"""Linear pieces: matrices, kernels and diagonals that fold and rescale."""

import abc
import copy
import math

import numpy as np

from keras_sn.linear_maps.frequencies import TapGeometry
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Piece
from keras_sn.lipschitz.pieces.rounding import scaled_error
from keras_sn.lipschitz.pieces.rounding import scaling_error
from keras_sn.norms import symbol_norm
from keras_sn.norms.leading import leading_triplet
from keras_sn.norms.proofs import norm_upper

# Frequencies to keep an eye on while channels are rescaled.
_FOCUS = 6


class LinearPiece(Piece, abc.ABC):
    """A linear map between channels, at each position or across positions.

    Attributes:
        axis: The channel axis of input and output, `-1` for the last.
        inputs: Number of input channels (of rescaling groups of inputs).
        outputs: Number of output channels.
        error: Bound on the spectral norm of what merging rounded away.
        offset: What is added behind the map, `(outputs,)`, and how far that
            may be off; `None` where it is not known.
    """

    inputs: int
    outputs: int
    offset: tuple[np.ndarray, float] | None = None

    def __init__(self, axis, source, error=0.0):
        super().__init__(None, source)
        self.axis = axis
        self.error = error

    @property
    def output_axis(self):
        """The channel axis of the output."""
        return self.axis

    @property
    def constant(self):
        if self._constant is None:
            self._constant = self.norm_upper() + self.error
        return self._constant

    @property
    def bounded(self):
        return bool(np.all(np.isfinite(self.weights)))

    @property
    @abc.abstractmethod
    def weights(self):
        """The numbers it is made of."""

    @abc.abstractmethod
    def norm_upper(self):
        """Proved upper bound of the spectral norm."""

    def focused(self):
        """The same piece; `top` may look only where the norm is large."""
        return self

    @abc.abstractmethod
    def scaled(self, out_scale, in_scale):
        """`diag(out_scale) W diag(in_scale)`."""

    @abc.abstractmethod
    def top(self):
        """The norm, and the energies of its singular vectors by channel.

        Returns:
            `(norm, outputs, inputs)`, an estimate; the energies sum to 1.
        """

    @abc.abstractmethod
    def moduli(self):
        """Sizes of the entries, `(outputs, inputs)`."""


class Matrix(LinearPiece):
    """A matrix that acts on the channel axis, the same at each position.

    Args:
        array: `(outputs, inputs)`, applied as `W x`.
        axis: The channel axis.
        channel_of: For a matrix behind a `Flatten`, the channel of each
            input, so that scales of channels apply to it.
    """

    def __init__(
        self, array, axis=-1, source="|W|", error=0.0, channel_of=None
    ):
        super().__init__(axis, source, error)
        self.array = np.asarray(array, "float64")
        self.channel_of = channel_of
        self.outputs = self.array.shape[0]
        self.inputs = self.array.shape[1]
        if channel_of is not None:
            self.inputs = int(channel_of.max()) + 1

    @property
    def weights(self):
        return self.array

    @property
    def output_axis(self):
        # Behind a Flatten the units are the last axis.
        return self.axis if self.channel_of is None else -1

    def norm_upper(self):
        return norm_upper(self.array)

    def scaled(self, out_scale, in_scale):
        array = self.array
        if out_scale is not None:
            array = out_scale[:, None] * array
        if in_scale is not None:
            if self.channel_of is not None:
                in_scale = in_scale[self.channel_of]
            array = array * in_scale[None, :]
        error = scaled_error(self.error, out_scale, in_scale)
        error += scaling_error(array, out_scale, in_scale)
        return Matrix(array, self.axis, self.source, error, self.channel_of)

    def top(self):
        left, norm, right = leading_triplet(self.array)
        energy = right**2
        if self.channel_of is not None:
            energy = np.bincount(self.channel_of, energy, self.inputs)
        return norm, left**2, energy

    def moduli(self):
        moduli = np.abs(self.array)
        if self.channel_of is None:
            return moduli
        grouped = np.zeros((self.outputs, self.inputs))
        for channel in range(self.inputs):
            chosen = moduli[:, self.channel_of == channel]
            grouped[:, channel] = np.linalg.norm(chosen, axis=1)
        return grouped


class Diagonal(LinearPiece):
    """A number per channel, such as BatchNormalization at inference."""

    def __init__(self, vector, axis=-1, source="max|a|", error=0.0):
        super().__init__(axis, source, error)
        self.vector = np.asarray(vector, "float64")
        self.inputs = self.outputs = len(self.vector)

    @property
    def weights(self):
        return self.vector

    def norm_upper(self):
        if not np.all(np.isfinite(self.vector)):
            return math.inf
        return float(np.abs(self.vector).max(initial=0.0))

    def scaled(self, out_scale, in_scale):
        factor = (1.0 if out_scale is None else out_scale) * (
            1.0 if in_scale is None else in_scale
        )
        vector = self.vector * factor
        error = scaled_error(self.error, out_scale, in_scale)
        error += scaling_error(vector, out_scale, in_scale)
        return Diagonal(vector, self.axis, self.source, error)

    def top(self):
        energy = np.zeros(self.inputs)
        index = np.argmax(np.abs(self.vector))
        energy[index] = 1.0
        return abs(self.vector[index]), energy, energy

    def moduli(self):
        return np.diag(np.abs(self.vector))

    def matrix(self):
        return Matrix(np.diag(self.vector), self.axis, self.source, self.error)


class Kernel(LinearPiece):
    """A convolution, at every input size at once.

    Args:
        array: `(taps, inputs / groups, groups, outputs / groups)`.
        kernel_size: Taps per axis.
        strides: Stride per axis.
        axis: The channel axis.
        transposed: Whether the piece is the adjoint of that convolution.
        angles: Frequencies for `top` to look at; `None` for a coarse grid.
    """

    def __init__(
        self,
        array,
        kernel_size,
        strides,
        axis=-1,
        transposed=False,
        source="sup_w |K^(w)|",
        error=0.0,
        angles=None,
    ):
        super().__init__(axis, source, error)
        self.array = np.asarray(array, "float64")
        self.angles = angles
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)
        self.transposed = transposed
        _, inputs, groups, outputs = self.array.shape
        sizes = groups * inputs, groups * outputs
        self.inputs, self.outputs = reversed(sizes) if transposed else sizes
        self._guarantee = UPPER

    @property
    def weights(self):
        return self.array

    @property
    def geometry(self):
        return TapGeometry(self.kernel_size, self.strides)

    @property
    def pointwise(self):
        """Whether it is a matrix at each position."""
        groups = self.array.shape[2]
        return groups == 1 and max(self.kernel_size + self.strides) == 1

    def matrix(self):
        array = self.array[0, :, 0, :]
        array = array if self.transposed else array.T
        return Matrix(array, self.axis, "|W|", self.error)

    def symbol(self):
        return Symbol(self.geometry.polyphase(self.array))

    def norm_upper(self):
        if not np.all(np.isfinite(self.array)):
            return math.inf
        return symbol_norm.upper(self.symbol())

    def scaled(self, out_scale, in_scale):
        error = scaled_error(self.error, out_scale, in_scale)
        scales = out_scale, in_scale
        if self.transposed:
            out_scale, in_scale = in_scale, out_scale
        _, inputs, groups, outputs = self.array.shape
        array = self.array
        if in_scale is not None:
            array = array * in_scale.reshape(groups, inputs).T[None, :, :, None]
        if out_scale is not None:
            array = array * out_scale.reshape(groups, outputs)[None, None]
        return Kernel(
            array,
            self.kernel_size,
            self.strides,
            self.axis,
            self.transposed,
            self.source,
            error + scaling_error(array, *scales, terms=len(array)),
            self.angles,
        )

    def focused(self):
        piece = copy.copy(self)
        piece.angles = symbol_norm.leading_angles(self.symbol(), _FOCUS)
        return piece

    def top(self):
        norm, group, rows, columns = symbol_norm.top(self.symbol(), self.angles)
        _, inputs, groups, outputs = self.array.shape
        # The rows of a polyphase matrix: phases, each with all inputs.
        rows = rows.reshape(-1, inputs).sum(axis=0)
        row_energy = np.zeros((groups, inputs))
        row_energy[group] = rows
        column_energy = np.zeros((groups, outputs))
        column_energy[group] = columns
        energies = column_energy.ravel(), row_energy.ravel()
        if self.transposed:
            energies = energies[::-1]
        return norm, *energies

    def moduli(self):
        _, inputs, groups, outputs = self.array.shape
        sizes = np.abs(self.array).sum(axis=0)
        full = np.zeros((groups, outputs, groups, inputs))
        for group in range(groups):
            full[group, :, group, :] = sizes[:, group, :].T
        moduli = full.reshape(groups * outputs, groups * inputs)
        return moduli.T if self.transposed else moduli
