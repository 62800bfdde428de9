"""MatrixMap: a weight whose blocks are real matrices, read off by a reshape."""

import numpy as np
from keras import ops

from keras_sn.fast_ops import adjoint_product
from keras_sn.fast_ops import reshaped
from keras_sn.linear_maps.arrays import functions_of
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.base import size
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.linear_maps.weights import Weight


class MatrixMap(LinearMap):
    """A block-diagonal map whose blocks are a rearrangement of one weight.

    The weight is reshaped to `split`, its axes are permuted, and the result
    is reshaped to `(blocks, rows, columns)`. Block `i` maps a vector of
    `rows` numbers to one of `columns`: `x -> x @ block_i`, as in
    `keras.layers.Dense`.

    Args:
        weight: The weight.
        blocks: Number of blocks.
        columns: Size of the output side of a block.
        split: Shape that separates the axes to permute. `None`: the weight's.
        permutation: Order of those axes. `None`: unchanged.
        channel_axis: Where the only block acts on one axis of the input, at
            each position alike, and puts its output there: that axis, batch
            axis first. `None`: nothing is said of where it acts.

    Example:

    >>> import numpy as np
    >>> from keras_sn.linear_maps import ArrayWeight, MatrixMap
    >>> table = np.arange(6.0).reshape(2, 3)
    >>> matrix = MatrixMap(ArrayWeight(table))
    >>> matrix.domain_shape, matrix.codomain_shape
    ((2,), (3,))
    """

    def __init__(
        self,
        weight: Weight,
        blocks: int = 1,
        columns: int | None = None,
        split: tuple[int, ...] | None = None,
        permutation: tuple[int, ...] | None = None,
        channel_axis: int | None = None,
    ):
        super().__init__([weight])
        columns = weight.shape[-1] if columns is None else columns
        rows = size(weight.shape) // max(blocks * columns, 1)
        self.block_shape = (blocks, rows, columns)
        self.split = split
        self.permutation = permutation
        self.channel_axis = channel_axis
        self.probe_shape = (blocks, columns)
        self.input_probe_shape = (blocks, rows)
        self.domain_shape = (rows,) if blocks == 1 else (blocks, rows)
        self.codomain_shape = (columns,) if blocks == 1 else (blocks, columns)

    def symbol(self, values=None) -> Symbol:
        return Symbol(self.matrices(values))

    def matrices(self, values=None):
        """The blocks, `(blocks, rows, columns)`, array or tensor."""
        return reshaped(self._permuted(values), self.block_shape)

    def weight_of(self, matrices, values=None):
        """The weight whose blocks are these: the inverse of `matrices`.

        Args:
            matrices: Array or tensor `(blocks, rows, columns)`.
            values: The weights at present, for maps of several weights.
        """
        del values
        shape = self.weights[0].shape
        if self.permutation is None:
            return reshaped(matrices, shape)
        split = shape if self.split is None else self.split
        permuted = reshaped(
            matrices, tuple([split[i] for i in self.permutation])
        )
        back = np.argsort(self.permutation).tolist()
        axes = functions_of(matrices).transpose(permuted, back)
        return reshaped(axes, shape)

    def _permuted(self, values):
        (weight,) = self.values() if values is None else values
        if self.permutation is None:
            return weight
        if self.split is not None:
            weight = reshaped(weight, self.split)
        return functions_of(weight).transpose(weight, self.permutation)

    def _matrix(self, values):
        """The only block, `(rows, columns)`.

        Indexing `matrices` instead would cost a copy of the gradient.
        """
        return reshaped(self._permuted(values), self.block_shape[1:])

    def matvec(self, inputs, values=None):
        blocks, rows, _ = self.block_shape
        inputs = ops.reshape(inputs, (-1, blocks, rows))
        outputs = ops.einsum("nbr,brc->nbc", inputs, self.matrices(values))
        return ops.reshape(outputs, (-1, *self.codomain_shape))

    def rmatvec(self, outputs, values=None):
        blocks, _, columns = self.block_shape
        outputs = ops.reshape(outputs, (-1, blocks, columns))
        inputs = ops.einsum("nbc,brc->nbr", outputs, self.matrices(values))
        return ops.reshape(inputs, (-1, *self.domain_shape))

    def block_matvec(self, probes, values=None):
        if self.num_blocks == 1:
            return probes @ self._matrix(values)
        return (probes[:, None, :] @ self.matrices(values))[:, 0]

    def block_rmatvec(self, probes, values=None):
        # The vector on the right, so that no backend transposes the weight.
        if self.num_blocks == 1:
            return adjoint_product(probes, self._matrix(values))
        return (self.matrices(values) @ probes[:, :, None])[..., 0]
