"""SubspaceTracker: several vectors at once, for a small matrix."""

import numpy as np

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import Constant
from keras_sn.fast_ops import held
from keras_sn.fast_ops import kept
from keras_sn.fast_ops import largest_size_over
from keras_sn.fast_ops import length_over
from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import orthonormal
from keras_sn.fast_ops import power
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import row_of_largest_diagonal
from keras_sn.fast_ops import sum_over
from keras_sn.fast_ops import tiny
from keras_sn.fast_ops import transposed
from keras_sn.fast_ops import where
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.base import size
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.norms.momentum import generic
from keras_sn.norms.power_iteration import norms_and_directions
from keras_sn.norms.power_iteration import unit
from keras_sn.norms.tracking import GENERIC
from keras_sn.norms.tracking import SETTLED
from keras_sn.norms.tracking import SMALL
from keras_sn.norms.tracking import Settle
from keras_sn.norms.tracking import State
from keras_sn.norms.tracking import Tracker

# Training makes the largest singular values of a layer agree, so that about ten
# lie within 3 percent. With half as many vectors, two of three norms served
# after a step of Adam were off by more than 1e-3 (three layers, digits).
_VECTORS = 16
# Squared angle by which what the matrix makes of the dominant vector may turn
# from the last training step on.
_TURN = 5e-4


class SubspaceTracker(Tracker):
    """Follows the norm of a small matrix by several vectors at once.

    One vector alone is left behind where another singular value overtakes its
    own, and the largest ones of a layer change places all the time. Here they
    are in the subspace already, and the norm is the largest within it, at the
    price of a product with more rows.

    The state is `u` and `v`, the dominant vectors of either side; `basis`,
    orthonormal rows on the input side; and `images`, what the matrix makes of
    them, scaled. From these the next step starts, and by them inference tells
    whether the state still belongs to the weights.

    Args:
        linear_map: `MatrixMap` of a single block.

    Reference:

    - [Halko et al., 2011](https://arxiv.org/abs/0909.4061)
    """

    def __init__(self, linear_map: LinearMap) -> None:
        super().__init__(linear_map)
        rows = linear_map.input_probe_shape[1]
        columns = linear_map.probe_shape[1]
        count = min(_VECTORS, rows, columns)
        self.shapes = {
            "vector_u": (1, columns),
            "vector_v": (1, rows),
            "basis": (count, rows),
            "images": (count, columns),
        }
        self._generic_rows = Constant(GENERIC * generic((count, rows)))

    @staticmethod
    def suits(linear_map: LinearMap) -> bool:
        """Whether it can follow a map, and does so at little cost."""
        return (
            isinstance(linear_map, MatrixMap)
            and linear_map.num_blocks == 1
            and size(linear_map.block_shape) <= SMALL
        )

    def _start(self, arrays: tuple[np.ndarray, ...] | None) -> State:
        u, v, basis, images = [generic(s) for s in self.shapes.values()]
        state = [u, v, orthonormal(basis), images]
        if arrays is None:
            return state
        (matrix,) = self.linear_map.blocks(values=arrays)
        if not np.isfinite(matrix).all() or not matrix.any():
            return state
        vectors = np.linalg.svd(matrix, full_matrices=False)[0]
        v, basis, images = self._within(vectors.T[: len(basis)], arrays)
        u = unit(self.linear_map.block_matvec(v, arrays))
        return u, v, basis, images

    def belongs(self, state: State, u: Array, values: tuple) -> State:
        # The subspace knows more than any vector.
        return u, *state[1:]

    def follow(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, State]:
        v, settle = self.lead(state, values, power_iterations)
        # By itself, so that its gradient is of rank one.
        image = self.linear_map.block_matvec(v, values)
        norm, direction = norms_and_directions(image)
        return reshaped(norm, ()), settle(held(norm), direction)

    def lead(
        self, state: State, values: tuple, power_iterations: int = 1
    ) -> tuple[Array, Settle]:
        constants = tuple([held(value) for value in values])
        images = state[3]
        for _ in range(power_iterations):
            pulled = self.linear_map.block_rmatvec(images, constants)
            rows = scaled(pulled) + self._generic_rows.tensor(pulled)
            v, basis, images = self._within(orthonormal(rows), constants)

        def settle(norm: Array, direction: Array) -> State:
            grows = norm > 0
            new = (direction, v, basis, images)
            return [
                where(grows, fresh, old)
                for fresh, old in zip(new, state, strict=True)
            ]

        return v, settle

    def _look(
        self, state: State, values: tuple, age: Array
    ) -> tuple[Array, Array]:
        basis = kept(state[2])
        images = self.linear_map.block_matvec(basis, values)
        weights = self._longest(scaled(held(images)))
        norm, u = norms_and_directions(weights @ images)
        before = weights @ state[3]
        square = sum_over(before * before, None) + tiny(before)
        cosine = sum_over(u * before, None) * square**-0.5
        turned = reshaped(2 - 2 * cosine, ()) > _TURN
        # Rows of the basis may be shorter than one: see `orthonormal`.
        norm = norm / length_over(weights @ basis, None)
        return reshaped(norm, ()), turned | (age < SETTLED)

    def _within(self, basis: Array, values: tuple) -> tuple:
        """The unit vector in a subspace that the matrix makes longest.

        Returns:
            It; the basis; and the images of the basis, scaled.
        """
        images = scaled(self.linear_map.block_matvec(basis, values))
        v = self._longest(images) @ basis
        return v / length_over(v, None), basis, images

    def _longest(self, images: Array) -> Array:
        """The coefficients `(1, k)` whose sum of images is the longest.

        They are the dominant eigenvector of the Gram matrix, by squaring it.
        The relative error of the norm is at most 1 / (4 e 1024).
        """
        # Entries of the images are at most 1, and one is, so that the 4th
        # power is in the range of float32; as is the 16th of what has the
        # largest entry 1, whose norm is at most their number.
        gram = power(images @ transposed(images), 2)
        gram = power(gram / max_over(gram, None), 4)
        gram = power(gram / max_over(gram, None), 4)
        # By now of rank one, so each row is the eigenvector; the longest is
        # not lost in what is left of the others.
        row = row_of_largest_diagonal(gram)
        return row / length_over(row, None)


def scaled(rows: Array) -> Array:
    """Rows with a largest entry of one, so that squares stay in range.

    Rows of zeros become rows of ones.
    """
    rows = rows + tiny(rows)
    return rows / largest_size_over(rows, None)
