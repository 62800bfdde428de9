"""FlatModel: a model as a map between flat vectors, in one batch size."""

import functools
from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np

from keras_sn.lipschitz.logits import UNIT
from keras_sn.lipschitz.lower.pullback import Arrays
from keras_sn.lipschitz.lower.pullback import evaluate
from keras_sn.lipschitz.lower.pullback import pullback

Shape = tuple[int, ...]


class FlatModel:
    """A model that takes and gives a flat float64 row per sample.

    Args:
        model: Keras model or layer, called with `training=False`.
        shapes: Shapes of its inputs without the batch axis; with it for a
            model of a fixed batch size, of which a whole batch is a sample.
        batch_size: Rows of every call: backends compile for each size anew.
            `None`: a sample is a whole batch.
    """

    def __init__(
        self,
        model: keras.layers.Layer,
        shapes: list[Shape],
        batch_size: int | None,
    ):
        self.model = model
        self.shapes = shapes
        self.whole = batch_size is None
        self.batch_size = batch_size or 1
        # Twice the relative error of a rounding in the model's precision.
        self.eps = 2 * max(
            [UNIT["float32"]]
            + [UNIT.get(layer.compute_dtype, 0.0) for layer in _parts(model)]
        )

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Outputs, a row per point."""
        return np.concatenate(
            [
                self._rows(evaluate(self.model, self._arrays(part)))[
                    : len(part)
                ]
                for part in self._batches(points)
            ]
        )

    def pullback(
        self,
        points: np.ndarray,
        cotangents: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs, and `J^T u` at each point.

        Args:
            points: Rows.
            cotangents: Function of the outputs that returns the `u`.

        Returns:
            `(outputs, gradients)`.
        """
        if len(points) <= self.batch_size:
            return self._pullback_of_batch(points, cotangents)
        # The `u` of a point may depend on the outputs at others.
        outputs = self.evaluate(points)
        u = np.broadcast_to(cotangents(outputs), outputs.shape)
        gradients, start = [], 0
        for part in self._batches(points):
            given = functools.partial(_given, u[start : start + len(part)])
            _, found = self._pullback_of_batch(part, given)
            gradients.append(found)
            start += len(part)
        return outputs, np.concatenate(gradients)

    def _pullback_of_batch(
        self,
        points: np.ndarray,
        cotangents: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        count = len(points)
        rows = []

        def pieces(outputs: Arrays) -> Arrays:
            found = self._rows(outputs)
            rows.append(found[:count])
            u = np.zeros_like(found)
            u[:count] = cotangents(rows[0])
            sizes = [output.size // len(found) for output in outputs]
            parts = np.split(u, np.cumsum(sizes)[:-1], axis=1)
            return [
                part.reshape(output.shape)
                for part, output in zip(parts, outputs, strict=True)
            ]

        _, gradients = pullback(self.model, self._arrays(points), pieces)
        return rows[0], self._rows(gradients)[:count]

    def _batches(self, points: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(points), self.batch_size):
            yield points[start : start + self.batch_size]

    def _arrays(self, points: np.ndarray) -> Arrays:
        """Rows as the arrays that the model takes."""
        missing = self.batch_size - len(points)
        points = np.concatenate([points, np.repeat(points[:1], missing, 0)])
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = np.split(points, np.cumsum(sizes)[:-1], axis=1)
        lead = () if self.whole else (len(points),)
        return [
            part.reshape(*lead, *shape).astype("float32")
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def _rows(self, arrays: Arrays) -> np.ndarray:
        """What the model gives or takes, as rows."""
        if self.whole:
            flat_arrays = [np.asarray(a, "float64").ravel() for a in arrays]
            return np.concatenate(flat_arrays)[None]
        if any(a.ndim == 0 or len(a) != self.batch_size for a in arrays):
            raise ValueError(
                "The outputs have no batch axis, so samples are not apart. "
                f"Received: shapes {[a.shape for a in arrays]} for a batch "
                f"of {self.batch_size}"
            )
        return flat(arrays)


def _given(u: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    return u


def _parts(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that compute, as far as dtypes are concerned."""
    return [model, *getattr(model, "layers", [])]


def flat(arrays: Arrays) -> np.ndarray:
    """Arrays side by side, a row per sample."""
    return np.concatenate(
        [
            np.asarray(array, "float64").reshape(len(array), -1)
            for array in arrays
        ],
        axis=1,
    )


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows divided by their norms; zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
