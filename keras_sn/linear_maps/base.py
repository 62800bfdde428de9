"""LinearMap: the linear map that a weight defines, as estimators see it."""

import abc
import math
from collections.abc import Sequence

import numpy as np

from keras_sn.linear_maps.arrays import float64
from keras_sn.linear_maps.frequencies import excess
from keras_sn.linear_maps.frequencies import grid_sizes
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.linear_maps.weights import Weight


class LinearMap(abc.ABC):
    """The linear map that one or more weights of a layer define.

    In the right basis every linear Keras layer is a set of independent
    blocks, and its spectral norm is the largest block norm. A `LinearMap`
    says what those blocks are and applies them; it never says how large they
    are, that is the task of `keras_sn.norms`.

    A map holds structure and a reference to its weights. Every method takes
    `values`, the numbers to use as the weights (`None`: their current
    values). Tensors or float64 arrays, the formula is the same: one map
    serves a training step (differentiable) and a certificate (NumPy).

    Three families of methods:

    - `symbol` describes the map: the blocks of all frequencies.
    - `matvec` and `rmatvec` apply the whole map to a batch of inputs of the
      layer; they are adjoint to each other.
    - `block_matvec` and `block_rmatvec` apply each block to a vector of its
      own. Such *probes* have the shape `(blocks, n)`, or `(blocks, 2 * n)`
      for complex blocks: the real parts, then the imaginary parts.

    Args:
        weights: Sequence of the weights (`AppliedWeight` or `ArrayWeight`).
            Scaling the first one by `c` scales the map by `c`.

    Attributes:
        weights: Tuple of those weights.
        domain_shape: Shape of one input, without the batch axis; `None` for
            an axis that may have any size.
        codomain_shape: Shape of one output, likewise.
        probe_shape: Shape of the probes on the output side, which is the
            state (`u`) of a warm power iteration.
        input_probe_shape: Shape of the probes on the input side.
        kernel_size: Taps per axis of the symbol; `()` where the map is a
            block-diagonal matrix.
        probe_grid: Frequencies per axis that the probes cover.
    """

    domain_shape: tuple
    codomain_shape: tuple
    probe_shape: tuple[int, int]
    input_probe_shape: tuple[int, int]
    kernel_size: tuple[int, ...] = ()
    probe_grid: tuple[int, ...] = ()

    def __init__(self, weights: Sequence[Weight]):
        self.weights = tuple(weights)

    @property
    def path(self) -> str:
        """Path of the weight to scale in order to scale the map."""
        return self.weights[0].path

    @property
    def num_blocks(self) -> int:
        """Number of blocks that a probe covers."""
        return self.probe_shape[0]

    def values(self) -> tuple:
        """Tuple of the tensors that the layer applies at present."""
        return tuple(weight.value() for weight in self.weights)

    @abc.abstractmethod
    def symbol(self, values=None) -> Symbol:
        """The blocks of all frequencies, of arrays or tensors as `values` are.

        All that is known of the size of the map is read off from it.
        """

    @abc.abstractmethod
    def matvec(self, inputs, values=None):
        """Applies the map to `(batch, *domain_shape)`."""

    @abc.abstractmethod
    def rmatvec(self, outputs, values=None):
        """Applies the adjoint to `(batch, *codomain_shape)`."""

    @abc.abstractmethod
    def block_matvec(self, probes, values=None):
        """Applies each block to its own probe, input side to output side."""

    @abc.abstractmethod
    def block_rmatvec(self, probes, values=None):
        """Applies the adjoint of each block to its own output-side probe."""

    def rounding(self, values: tuple[np.ndarray, ...]) -> float:
        """Bound on what rounding takes from the symbol, in the 2-norm.

        Zero where the entries of the symbol are those of the weights.

        Args:
            values: The weights, float64 arrays.
        """
        del values
        return 0.0

    def certificate(self, values=None) -> Symbol:
        """The symbol in float64, on the host, and the error that it has."""
        values = self.values() if values is None else values
        arrays = tuple(map(float64, values))
        symbol = self.symbol(arrays)
        return Symbol(symbol.taps, self.rounding(arrays), symbol.sign)

    def blocks(self, values=None, grid=None) -> np.ndarray:
        """The blocks themselves, for certificates.

        Args:
            values: The weights.
            grid: Number of frequencies per spatial axis of a sampled symbol,
                one for all or one each; `None`: those of the probes.

        Returns:
            NumPy array `(blocks, rows, columns)`, float64 or complex128.
        """
        return self.certificate(values).sample(self.grid(grid))

    def grid(self, grid=None) -> tuple[int, ...]:
        """Frequencies per axis for what a user may pass as a `grid`."""
        grid = self.probe_grid if grid is None else grid
        return grid_sizes(self.kernel_size, grid)

    def excess(self, grid=None) -> float:
        """Factor by which the norm can exceed the largest of `blocks(grid)`.

        1.0 where the blocks are the whole map.
        """
        return excess(self.kernel_size, self.grid(grid))

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.path}: "
            f"{self.domain_shape} -> {self.codomain_shape}>"
        )


def size(shape: Sequence[int]) -> int:
    """Number of elements of a fully defined shape."""
    return math.prod(shape)
