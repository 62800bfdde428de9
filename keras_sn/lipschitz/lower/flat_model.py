"""FlatModel: a model as a map between flat vectors, in one batch size."""

import keras
import numpy as np

from keras_sn.lipschitz.lower.pullback import evaluate
from keras_sn.lipschitz.lower.pullback import pullback

_OPEN_AXIS = 8


class FlatModel:
    """A model that takes and gives a flat float64 row per sample.

    Args:
        model: Keras model or layer, called with `training=False`.
        shapes: Shapes of its inputs without the batch axis.
        batch_size: Rows of every call: backends compile for each size anew.
    """

    def __init__(self, model, shapes, batch_size):
        self.model = model
        self.shapes = shapes
        self.batch_size = batch_size

    def evaluate(self, points):
        """Outputs, a row per point."""
        return np.concatenate(
            [
                flat(evaluate(self.model, self._unflatten(part)))[: len(part)]
                for part in self._batches(points)
            ]
        )

    def pullback(self, points, cotangents):
        """Outputs, and `J^T u` at each point.

        Args:
            points: Rows, not more than a batch.
            cotangents: Function of the outputs that returns the `u`.

        Returns:
            `(outputs, gradients)`.
        """
        count = len(points)
        rows = []

        def pieces(outputs):
            rows.append(flat(outputs)[:count])
            u = np.zeros((len(outputs[0]), rows[0].shape[1]))
            u[:count] = cotangents(rows[0])
            sizes = [int(np.prod(output.shape[1:])) for output in outputs]
            parts = np.split(u, np.cumsum(sizes)[:-1], axis=1)
            return [
                part.reshape(output.shape)
                for part, output in zip(parts, outputs, strict=True)
            ]

        _, gradients = pullback(self.model, self._unflatten(points), pieces)
        return rows[0], flat(gradients)[:count]

    def _batches(self, points):
        for start in range(0, len(points), self.batch_size):
            yield points[start : start + self.batch_size]

    def _unflatten(self, points):
        missing = self.batch_size - len(points)
        points = np.concatenate([points, np.repeat(points[:1], missing, 0)])
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = np.split(points, np.cumsum(sizes)[:-1], axis=1)
        return [
            part.reshape(len(points), *shape).astype("float32")
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


def input_shapes(model):
    """Shapes of the inputs without batch, open axes at a small size.

    Returns:
        List of tuples; `None` if an input is no floating-point tensor or the
        shape is not known.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        shape = (model.get_build_config() or {}).get("input_shape")
        if not shape or isinstance(shape[0], (list, tuple, dict)):
            return None
        shapes = [shape]
    else:
        kinds = [keras.backend.standardize_dtype(x.dtype) for x in inputs]
        if not all("float" in kind for kind in kinds):
            return None
        shapes = [tensor.shape for tensor in inputs]
    return [
        tuple(_OPEN_AXIS if n is None else n for n in shape[1:])
        for shape in shapes
    ]


def flat(arrays):
    """Arrays side by side, a row per sample."""
    return np.concatenate(
        [
            np.asarray(array, "float64").reshape(len(array), -1)
            for array in arrays
        ],
        axis=1,
    )


def unit(rows):
    """The rows divided by their norms; zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
