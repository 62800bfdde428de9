"""Time of a train step: plain layers, the stock wrapper, keras_sn.

    KERAS_BACKEND=jax python benchmarks/train_step.py

The variants of a model run interleaved in one process, each on the same
batch; the figure is the median over rounds of the ratio to the plain model
in the same round. Absolute times are medians in milliseconds.
"""

import argparse
import functools
import statistics
import time

import keras
import numpy as np
from keras import layers

from keras_sn.layers import SpectralNormalization


def mlp(wrap):
    """Dense 1024-2048-2048-2048-10."""
    return keras.Sequential(
        [
            keras.Input((1024,)),
            *[wrap(layers.Dense(2048, activation="relu")) for _ in range(3)],
            wrap(layers.Dense(10)),
        ]
    )


def discriminator(wrap):
    """The SNGAN discriminator for 32x32x3 (Miyato et al., table 3)."""
    convolutions = [
        *[(64, 3, 1), (64, 4, 2), (128, 3, 1), (128, 4, 2)],
        *[(256, 3, 1), (256, 4, 2), (512, 3, 1)],
    ]
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters, size, strides in convolutions:
        model.add(
            wrap(layers.Conv2D(filters, size, strides=strides, padding="same"))
        )
        model.add(layers.LeakyReLU(0.1))
    model.add(layers.Flatten())
    model.add(wrap(layers.Dense(1)))
    return model


def embedding(wrap):
    """Embedding 100k x 64, averaged, then Dense."""
    return keras.Sequential(
        [
            keras.Input((64,), dtype="int32"),
            wrap(layers.Embedding(100_000, 64)),
            layers.GlobalAveragePooling1D(),
            wrap(layers.Dense(10)),
        ]
    )


def lstm(wrap):
    """LSTM 128 over 32 steps of 64 features."""
    return keras.Sequential(
        [keras.Input((32, 64)), wrap(layers.LSTM(128)), layers.Dense(10)]
    )


def plain(layer):
    return layer


VARIANTS = {
    "plain": plain,
    "stock": keras.layers.SpectralNormalization,
    "keras_sn": SpectralNormalization,
    "operator": functools.partial(SpectralNormalization, norm="operator"),
}
# name: (model, batch, variants)
MODELS = {
    "mlp": (mlp, 64, ("plain", "stock", "keras_sn")),
    "discriminator": (
        discriminator,
        32,
        ("plain", "stock", "keras_sn", "operator"),
    ),
    "embedding": (embedding, 32, ("plain", "stock", "keras_sn")),
    # The stock wrapper finds no kernel in an LSTM.
    "lstm": (lstm, 32, ("plain", "keras_sn")),
}


def batch_for(model, size):
    """Random inputs and targets for a model."""
    rng = np.random.default_rng(0)
    shape = (size, *model.input_shape[1:])
    if "int" in model.inputs[0].dtype:
        inputs = rng.integers(0, 100_000, size=shape).astype("int32")
    else:
        inputs = rng.standard_normal(shape).astype("float32")
    targets = rng.standard_normal((size, *model.output_shape[1:]))
    return inputs, targets.astype("float32")


def measure(build, size, variants, rounds, steps):
    """Times per step, `{variant: [seconds of each round]}`."""
    models = {}
    for name in variants:
        keras.utils.set_random_seed(0)
        model = build(VARIANTS[name])
        model.compile(keras.optimizers.SGD(1e-4), "mse")
        batch = batch_for(model, size)
        for _ in range(3):
            model.train_on_batch(*batch)
        models[name] = (model, batch)
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (model, batch) in models.items():
            start = time.perf_counter()
            for _ in range(steps):
                model.train_on_batch(*batch)
            times[name].append((time.perf_counter() - start) / steps)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    print(f"backend {keras.backend.backend()}, keras {keras.__version__}")
    for key in arguments.models:
        build, size, variants = MODELS[key]
        times = measure(
            build, size, variants, arguments.rounds, arguments.steps
        )
        for name in variants:
            pairs = zip(times[name], times["plain"], strict=True)
            ratio = statistics.median(own / base for own, base in pairs)
            milliseconds = 1000 * statistics.median(times[name])
            print(f"{key:14} {name:9} {milliseconds:8.2f} ms  {ratio:5.2f}")


if __name__ == "__main__":
    main()
