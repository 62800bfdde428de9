"""MatrixMap: a weight whose blocks are real matrices, read off by a reshape."""

import numpy as np
from keras import ops

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.base import size


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

    Example:

    >>> from keras_sn.linear_maps import ArrayWeight, MatrixMap
    >>> table = np.arange(6.0).reshape(2, 3)
    >>> matrix = MatrixMap(ArrayWeight(table))
    >>> matrix.domain_shape, matrix.codomain_shape
    ((2,), (3,))
    """

    def __init__(
        self, weight, blocks=1, columns=None, split=None, permutation=None
    ):
        super().__init__([weight])
        columns = weight.shape[-1] if columns is None else columns
        rows = size(weight.shape) // max(blocks * columns, 1)
        self.block_shape = (blocks, rows, columns)
        self.split = split
        self.permutation = permutation
        self.probe_shape = (blocks, columns)
        self.domain_shape = (rows,) if blocks == 1 else (blocks, rows)
        self.codomain_shape = (columns,) if blocks == 1 else (blocks, columns)

    def block_tensor(self, values=None):
        """The blocks as one tensor, differentiable in the weight."""
        (weight,) = self.values() if values is None else values
        if self.permutation is not None:
            if self.split is not None:
                weight = ops.reshape(weight, self.split)
            weight = ops.transpose(weight, self.permutation)
        return ops.reshape(weight, self.block_shape)

    def matvec(self, inputs, values=None):
        blocks, rows, columns = self.block_shape
        inputs = ops.reshape(inputs, (-1, blocks, rows))
        outputs = ops.einsum("nbr,brc->nbc", inputs, self.block_tensor(values))
        return ops.reshape(outputs, (-1, *self.codomain_shape))

    def rmatvec(self, outputs, values=None):
        blocks, rows, columns = self.block_shape
        outputs = ops.reshape(outputs, (-1, blocks, columns))
        inputs = ops.einsum("nbc,brc->nbr", outputs, self.block_tensor(values))
        return ops.reshape(inputs, (-1, *self.domain_shape))

    def block_matvec(self, probes, values=None):
        blocks = self.block_tensor(values)
        if self.num_blocks == 1:
            # A plain matrix product: batched ones are slower on a CPU.
            return ops.matmul(probes, blocks[0])
        return ops.matmul(probes[:, None, :], blocks)[:, 0, :]

    def block_rmatvec(self, probes, values=None):
        # The vector on the right, so that no backend transposes the weight.
        blocks = self.block_tensor(values)
        if self.num_blocks == 1:
            return ops.transpose(ops.matmul(blocks[0], ops.transpose(probes)))
        return ops.matmul(blocks, probes[:, :, None])[:, :, 0]

    def block_form(self, left, right, index, values=None):
        block = ops.take(self.block_tensor(values), index, axis=0)
        left = ops.take(left, index, axis=0)
        right = ops.take(right, index, axis=0)
        return ops.sum(left * ops.matmul(right[None, :], block)[0])

    def blocks(self, grid=None):
        del grid
        array = ops.convert_to_numpy(self.weights[0].value())
        array = np.asarray(array, dtype="float64")
        if self.permutation is not None:
            array = array.reshape(self.split or array.shape)
            array = array.transpose(self.permutation)
        return array.reshape(self.block_shape)

    def gram(self, values=None, largest=None):
        _, rows, columns = self.block_shape
        if largest is not None and min(rows, columns) > largest:
            return None
        blocks = self.block_tensor(values)
        transposed = ops.transpose(blocks, (0, 2, 1))
        if rows < columns:
            return ops.matmul(blocks, transposed)
        return ops.matmul(transposed, blocks)
