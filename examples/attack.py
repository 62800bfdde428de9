"""Projected gradient ascent: how many predictions survive a radius."""

import keras
import numpy as np

from keras_sn.lipschitz.lower.pullback import pullback


def robust(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    radius: float,
    steps: int = 20,
) -> np.ndarray:
    """Whether the ascent finds no wrong prediction, a bool for each sample.

    Towards the runner-up, in the l2 ball around each image. What it breaks is
    broken; what it does not break may still be, by a better attack.

    Args:
        model: One output, the logits `(n, classes)`.
        images: `(n, ...)`; the attack may leave [0, 1].
        labels: Integers `(n,)`.
        radius: Of the ball.
        steps: Of the ascent, each 0.3 of the radius.
    """
    rows = np.arange(len(images))

    def towards_the_runner_up(outputs: list[np.ndarray]) -> list[np.ndarray]:
        (logits,) = outputs
        others = logits.copy()
        others[rows, labels] = -np.inf
        u = np.zeros_like(logits)
        u[rows, others.argmax(axis=1)] += 1
        u[rows, labels] -= 1
        return [u]

    right = np.ones(len(images), bool)
    moved = np.zeros_like(images)
    for _ in range(steps + 1):
        (logits,), (gradient,) = pullback(
            model, [images + moved], towards_the_runner_up
        )
        right &= logits.argmax(axis=1) == labels
        moved = moved + 0.3 * radius * gradient / _length(gradient)
        # Rounding to float32 must not leave the ball.
        moved *= np.minimum(1, radius * (1 - 1e-5) / _length(moved))
        moved = moved.astype("float32")
    return right


def _length(samples: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, samples.ndim))
    length = np.sqrt((samples.astype("float64") ** 2).sum(axes, keepdims=True))
    return np.maximum(length, 1e-12)
