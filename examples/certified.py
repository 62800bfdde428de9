"""Trains a classifier of Lipschitz constant 1 and certifies its predictions.

python examples/certified.py                       # TensorFlow
KERAS_BACKEND=jax python examples/certified.py     # or torch
"""

import argparse
import time

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_sn.lipschitz import RobustConformalSets
from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz.lower.pullback import pullback
from keras_sn.losses import LipschitzMarginCrossentropy
from keras_sn.models import fold_model
from keras_sn.models import normalize_model

console = Console(width=88)

RADII = (0.1, 0.5)


def load():
    """Digits of 8x8 pixels in [0, 1], flat; training and test part."""
    digits = load_digits()
    images = (digits.data / 16).astype("float32")
    return train_test_split(
        images, digits.target, test_size=0.25, random_state=0
    )


def classifier():
    """A dense network whose kernels share a budget of 1."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(128, "relu"),
            layers.Dense(128, "relu"),
            layers.Dense(10),
        ]
    )
    return normalize_model(model, lipschitz=1.0)


def train(model, images, labels, epochs):
    """Fits the model to margins that the constant turns into radii."""
    model.compile(
        keras.optimizers.Adam(3e-3),
        LipschitzMarginCrossentropy(0.3, lipschitz=1.0, temperature=0.1),
    )
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    # What is certified is what is shipped: plain layers, norms proved.
    return fold_model(model, certified=True)


def robust(model, images, labels, radius, steps=20):
    """Whether projected gradient ascent finds no wrong prediction."""
    rows = np.arange(len(images))

    def towards_the_runner_up(outputs):
        (logits,) = outputs
        others = logits.copy()
        others[rows, labels] = -np.inf
        u = np.zeros_like(logits)
        u[rows, others.argmax(axis=1)] += 1
        u[rows, labels] -= 1
        return [u]

    right = np.ones(len(images), bool)
    moved = np.zeros_like(images)
    for _ in range(steps):
        (logits,), (gradient,) = pullback(
            model, [images + moved], towards_the_runner_up
        )
        right &= logits.argmax(axis=1) == labels
        moved = moved + 0.3 * radius * gradient / length(gradient)
        # Rounding to float32 must not leave the ball.
        moved *= np.minimum(1, radius * (1 - 1e-5) / length(moved))
        moved = moved.astype("float32")
    return right


def length(rows):
    return np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def print_accuracies(model, images, labels):
    """What is certified by the product, by covariances, and on balls."""
    found = {
        "product": certified_radius(model, images, "product"),
        "pairs": certified_radius(model, images),
        "local": certified_radius(model, images, local=True),
    }
    clean = model.predict(images, verbose=0).argmax(axis=1) == labels
    table = Table(title="Accuracy on the test part: clean, attacked, certified")
    for column in ("radius", "clean", "under attack", *found):
        table.add_column(column, justify="right")
    for radius in RADII:
        attacked = robust(model, images, labels, radius).mean()
        certified = [(clean & (r >= radius)).mean() for r in found.values()]
        cells = (radius, clean.mean(), attacked, *certified)
        table.add_row(*(f"{cell:.4f}" for cell in cells))
    console.print(table)
    gain = np.median(found["local"] / np.maximum(found["product"], 1e-9))
    console.print(f"median radius: {gain:.2f} times that of the product")


def print_conformal(model, images, labels):
    """Sets of classes that hold the right one in spite of an attack."""
    half = len(images) // 2
    sets = RobustConformalSets(model, radius=RADII[0], local=True)
    sets.calibrate(images[:half], labels[:half], coverage=0.95)
    found = sets(images[half:])
    covered = found[np.arange(len(found)), labels[half:]].mean()
    console.print(
        f"conformal sets, coverage 0.95 whatever moves by {RADII[0]}: "
        f"{covered:.3f} covered, {found.sum(axis=1).mean():.2f} classes each"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = load()
    console.print(
        f"digits on {keras.backend.backend()}: {len(x_train)} training images, "
        f"{len(x_test)} for the test"
    )
    model = train(classifier(), x_train, y_train, arguments.epochs)
    console.print(lipschitz_bound(model, data=x_test))
    print_accuracies(model, x_test, y_test)
    print_conformal(model, x_test, y_test)
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
