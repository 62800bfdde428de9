"""Robust conformal sets on digits: coverage under attack, size of the sets.

`python -m benchmarks.conformal` writes
benchmarks/lipschitz_results/conformal.json and the table of docs/lipschitz.md.
"""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from benchmarks.bounds_page import save
from keras_sn.lipschitz import RobustConformalSets
from keras_sn.lipschitz.lower.pullback import pullback

COVERAGE, SPLITS = 0.9, 50
RADII = (0.1, 0.2)
# Radii of their own for each input take longer.
LOCAL_SPLITS = 3


def trained(width: int, epochs: int):
    """A network 64 - width - width - 10, and images it has not seen.

    Returns:
        `(model, images, labels)`.
    """
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 16).astype("float32")
    labels = labels[order]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(width, "relu"),
            layers.Dense(width, "relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(images[:700], labels[:700], epochs=epochs, verbose=0)
    return model, images[700:], labels[700:]


def attacked(model, x, y, radius, steps=10):
    """Inputs within the radius, by projected ascent: `y` scores lowest."""
    rows = np.arange(len(x))
    moved = np.zeros_like(x)

    def cotangents(outputs):
        (logits,) = outputs
        others = logits.copy()
        others[rows, y] = -np.inf
        u = np.zeros_like(logits)
        u[rows, others.argmax(axis=1)] += 1
        u[rows, y] -= 1
        return [u]

    def length(vectors):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.maximum(norms, 1e-12)

    for _ in range(steps):
        point = (x + moved).astype("float32")
        _, (gradient,) = pullback(model, [point], cotangents)
        moved = moved + 0.5 * radius * gradient / length(gradient)
        moved *= np.minimum(1, radius * (1 - 1e-5) / length(moved))
    return (x + moved).astype("float32")


def over_splits(sets, x, y, moved, splits=SPLITS):
    """Coverage and size of the sets, means over splits."""
    covered, sizes = [], []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(x))
        known, new = order[:500], order[500:]
        sets.calibrate(x[known], y[known], COVERAGE)
        found = sets(moved[new])
        covered.append(found[np.arange(len(new)), y[new]].mean())
        sizes.append(found.sum(axis=1).mean())
    return float(np.mean(covered)), float(np.mean(sizes))


def main() -> None:
    """Measures, and writes the page."""
    model, x, y = trained(64, 20)
    results = []
    for radius in RADII:
        moved = attacked(model, x, y, radius, steps=20)
        kinds = {
            "none (plain sets)": (RobustConformalSets(model, 0.0), SPLITS),
            '`"product"`': (
                RobustConformalSets(model, radius, method="product"),
                SPLITS,
            ),
            '`"auto"`': (RobustConformalSets(model, radius), SPLITS),
            "`local=True`": (
                RobustConformalSets(model, radius, local=True),
                LOCAL_SPLITS,
            ),
        }
        for name, (sets, splits) in kinds.items():
            covered, size = over_splits(sets, x, y, moved, splits)
            results.append(
                {
                    "radius": radius,
                    "bounds": name,
                    "splits": splits,
                    "covered": covered,
                    "size": size,
                }
            )
            print(results[-1], flush=True)
    save("conformal", results)


if __name__ == "__main__":
    main()
