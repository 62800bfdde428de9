"""LinearMap: the linear map that a weight defines, as estimators see it."""

import abc
import math

from keras_sn.linear_maps.symbol import Symbol


class LinearMap(abc.ABC):
    """The linear map that one or more weights of a layer define.

    In the right basis every linear Keras layer is a set of independent
    blocks, and its spectral norm is the largest block norm. A `LinearMap`
    says what those blocks are and applies them; it never says how large they
    are, that is the task of `keras_sn.norms`.

    A map holds structure and a reference to its weights. Every method takes
    `values`, the tensors to use as the weights (`None`: their current
    values), so that the same map serves a training step (float32 tensors,
    differentiable) and a certificate (NumPy, float64).

    Two families of methods:

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
    """

    domain_shape: tuple
    codomain_shape: tuple
    probe_shape: tuple

    def __init__(self, weights):
        self.weights = tuple(weights)

    @property
    def path(self):
        """Path of the weight to scale in order to scale the map."""
        return self.weights[0].path

    @property
    def num_blocks(self):
        """Number of blocks that a probe covers."""
        return self.probe_shape[0]

    def values(self):
        """Tuple of the tensors that the layer applies at present."""
        return tuple(weight.value() for weight in self.weights)

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

    @abc.abstractmethod
    def blocks(self, grid=None, values=None):
        """The blocks themselves, for certificates.

        Args:
            grid: Number of frequencies per spatial axis of a sampled symbol;
                maps with finitely many blocks have no use for it.
            values: The weights.

        Returns:
            NumPy array `(blocks, rows, columns)`, float64 or complex128.
        """

    @abc.abstractmethod
    def block_tensor(self, values=None, grid=None):
        """The blocks as a tensor of real matrices, differentiable.

        Args:
            values: The weights.
            grid: Number of frequencies per spatial axis.

        Returns:
            Tensor `(blocks, rows, columns)`, with `[[Re, -Im], [Im, Re]]` for
            a complex block, which has each singular value twice.
        """

    def multiplicity(self, grid=None):
        """How often `block_tensor(grid=grid)` has each singular value."""
        del grid
        return 1

    def symbol(self, values=None):
        """The blocks of all frequencies, as a `Symbol`, in NumPy."""
        return Symbol(self.blocks(values=values))

    def excess(self, grid=None):
        """Factor by which the norm can exceed the largest of `blocks(grid)`.

        1.0 where the blocks are the whole map.
        """
        del grid
        return 1.0

    def gram(self, values=None, largest=None):
        """Gram matrices of the blocks, or `None` if they are not at hand.

        Args:
            values: The weights.
            largest: Largest `n` to compute; above it the answer is `None`.

        Returns:
            Tensor `(blocks, n, n)` of the smaller side of real blocks.
        """
        del values, largest

    def __repr__(self):
        return (
            f"<{type(self).__name__} {self.path}: "
            f"{self.domain_shape} -> {self.codomain_shape}>"
        )


def size(shape):
    """Number of elements of a fully defined shape."""
    return math.prod(shape)
