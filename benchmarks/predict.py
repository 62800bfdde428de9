"""Predict time of folded models against the plain model, interleaved.

    KERAS_BACKEND=jax python benchmarks/predict.py [ResNet50 ...]

The folded model is the same graph with other numbers in it, so the ratio is 1
but for noise; the wrapped model normalizes at each call.
"""

import argparse
import statistics
import time

import keras
import numpy as np

from keras_sn.models import fold_model
from keras_sn.models import normalize_model

NAMES = ("MobileNetV3Small", "ResNet50")
SIZE = 64
BATCH = 8


def main():
    """Prints a line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--no-wrapped",
        action="store_true",
        help="leave out the wrapped model, which JAX compiles for minutes",
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        plain = getattr(keras.applications, name)(
            weights=None, input_shape=(SIZE, SIZE, 3)
        )
        wrapped = normalize_model(plain)
        models = {"plain": plain, "folded": fold_model(wrapped)}
        if not arguments.no_wrapped:
            models["wrapped"] = wrapped
        times = measured(models, arguments.rounds)
        report(name, times)


def measured(models, rounds):
    """Times of each model, in turn, so that drift meets all of them."""
    data = np.random.default_rng(0).random((BATCH, SIZE, SIZE, 3))
    data = data.astype("float32")
    for model in models.values():
        model.predict(data, verbose=0)
    times = {name: [] for name in models}
    for i in range(rounds):
        # Whoever goes first in a round pays for cold caches: rotate.
        names = list(models)
        first = i % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            models[name].predict(data, verbose=0)
            times[name].append(time.perf_counter() - start)
    return times


def report(name, times):
    """Medians, and medians of the ratios within a round."""
    plain = statistics.median(times["plain"])
    ratios = {
        kind: statistics.median(
            a / b for a, b in zip(times[kind], times["plain"], strict=True)
        )
        for kind in times
        if kind != "plain"
    }
    print(
        f"{keras.backend.backend()} {name}: plain {1e3 * plain:.1f} ms, "
        + ", ".join(f"{kind} {ratio:.3f}" for kind, ratio in ratios.items()),
        flush=True,
    )


if __name__ == "__main__":
    main()
