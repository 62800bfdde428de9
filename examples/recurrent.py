"""Recurrent networks on long sequences, and who says a Japanese vowel.

pip install --no-deps aeon                           # for its data
python examples/recurrent.py                         # TensorFlow
KERAS_BACKEND=jax python examples/recurrent.py       # or torch

First a network of rectifiers listens to a stream of recordings, and is to say
who spoke last. Its state is multiplied by the recurrent kernel at every step:
where the norm of that is above 1, a long stream can blow it up. The kernel
starts orthogonal, as is Keras's default, or by He's rule, the usual one for
rectifiers. Then short recordings, one at a time: the accuracy of three kinds
of recurrent network.
"""

import itertools

import hush  # noqa: F401
import keras
import numpy as np
from data import Data
from data import load_vowels
from keras import layers
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import finish
from running import parser

from keras_sn import SpectralNormalization

WIDTH = 32
LENGTH = 200
# Longer than any stream in training.
LONG = 2000
STARTS = ("orthogonal", "he_normal")
LEARNING_RATES = (3e-3, 3e-2)
SEEDS = 5
NETWORKS = {"SimpleRNN": layers.SimpleRNN, "GRU": layers.GRU}
NETWORKS["LSTM"] = layers.LSTM

WRAPPERS = {"plain": lambda layer: layer, "normalized": SpectralNormalization}


def streams(x, y, length, rng):
    """Recordings in a row, `(n, length, 12)`; each ends with one of `x`."""
    lengths = np.abs(x).sum(axis=2).astype(bool).sum(axis=1)
    shortest = lengths.min()
    made = np.empty((len(x), length, x.shape[2]), "float32")
    for i in range(len(x)):
        before = rng.integers(len(x), size=length // shortest)
        parts = [x[j, : lengths[j]] for j in (*before, i)]
        made[i] = np.concatenate(parts)[-length:]
    return made, y


def listener(wrap, start):
    """Streams of any length to the scores of nine speakers."""
    rnn = layers.SimpleRNN(
        WIDTH, activation="relu", recurrent_initializer=start
    )
    return keras.Sequential(
        [
            keras.Input((None, 12)),
            wrap(rnn),
            layers.Dense(9),
        ]
    )


def train(model, x, y, learning_rate, epochs):
    """Fits; returns the last loss."""
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return history.history["loss"][-1]


def accuracy(model, x, y):
    scores = model.predict(x, batch_size=128, verbose=0)
    right = scores.argmax(axis=1) == y
    # A prediction from what is no number is none.
    return float((right & np.isfinite(scores).all(axis=1)).mean())


def state_sizes(model, streams, steps):
    """Median norm of the state after each of so many steps of the streams."""
    state_of = keras.Model(model.inputs, model.layers[0].output)
    sizes = []
    for step in steps:
        states = state_of.predict(streams[:, :step], verbose=0)
        with np.errstate(over="ignore", invalid="ignore"):
            sizes.append(np.median(np.linalg.norm(states.astype("f8"), axis=1)))
    return sizes


def recognizer(kind, wrap):
    """Recordings padded with zeros to the scores of nine speakers."""
    return keras.Sequential(
        [
            keras.Input((None, 12)),
            layers.Masking(),
            wrap(NETWORKS[kind](2 * WIDTH)),
            layers.Dense(9),
        ]
    )


def on_streams(data, rates, seeds, epochs, long, step):
    """`{(start, wrapper, rate): [(loss, accuracy, that of long streams)]}`."""
    rng = np.random.default_rng(0)
    train_part = streams(data.x_train, data.y_train, LENGTH, rng)
    test_part = streams(data.x_test, data.y_test, LENGTH, rng)
    long_part = streams(data.x_test, data.y_test, long, rng)
    runs = {}
    for key in itertools.product(STARTS, WRAPPERS, rates):
        start, name, rate = key
        runs[key] = []
        for seed in range(seeds):
            step(f"streams, {start}, {name}, rate {rate:g}, seed {seed}")
            keras.utils.set_random_seed(seed)
            model = listener(WRAPPERS[name], start)
            loss = train(model, *train_part, rate, epochs)
            runs[key].append(
                (
                    loss,
                    accuracy(model, *test_part),
                    accuracy(model, *long_part),
                )
            )
    return runs


def at_the_start(data, seeds, long):
    """Steps, and the norms of the state there of networks not yet trained."""
    x, _ = streams(
        data.x_test[:20], data.y_test[:20], long, np.random.default_rng(0)
    )
    steps = np.unique(np.geomspace(1, long, 12).astype(int))
    sizes = {}
    for (name, wrap), seed in itertools.product(WRAPPERS.items(), range(seeds)):
        keras.utils.set_random_seed(seed)
        model = listener(wrap, "he_normal")
        sizes.setdefault(name, []).append(state_sizes(model, x, steps))
    return steps, sizes


def stability(runs):
    return [
        (
            start,
            name,
            f"{rate:g}",
            # Of those who guess, ln(9) = 2.2.
            f"{sum(not loss < 2.2 for loss, *_ in some)} of {len(some)}",
            *(
                f"{np.median([run[column] for run in some]):.3f}"
                for column in range(3)
            ),
        )
        for (start, name, rate), some in runs.items()
    ]


def draw(steps, sizes):
    figure = Figure((6, 3.4), layout="constrained")
    axes = figure.subplots()
    for color, name in zip(("C0", "C1"), sizes, strict=True):
        for number, run in enumerate(sizes[name]):
            shown = np.where(np.isfinite(run), run, np.nan)
            label = None if number else name
            axes.loglog(steps, shown, color, marker=".", label=label)
    axes.axvline(LENGTH, color="black", linewidth=0.8, linestyle=":")
    axes.set_title("Before training, recurrent kernel by He's rule")
    axes.set_xlabel("step of the stream (dotted: length in training)")
    axes.set_ylabel("norm of the state")
    axes.legend()
    return figure


def main():
    options = parser(__doc__, "recurrent").parse_args()
    data = load_vowels()
    rates, seeds, epochs, long = LEARNING_RATES, SEEDS, 40, LONG
    kinds = list(NETWORKS)
    if options.quick:
        data = Data(*(part[:32] for part in vars(data).values()))
        rates, seeds, epochs, long = rates[:1], 1, 1, 2 * LENGTH
        kinds = kinds[:1]
    total = len(WRAPPERS) * seeds * (len(STARTS) * len(rates) + len(kinds))
    with bar("", total) as step:
        runs = on_streams(data, rates, seeds, epochs, long, step)
        rows = []
        for kind in kinds:
            for name, wrap in WRAPPERS.items():
                found = []
                for seed in range(seeds):
                    step(f"recordings, {kind}, {name}, seed {seed}")
                    keras.utils.set_random_seed(seed)
                    model = recognizer(kind, wrap)
                    train(model, data.x_train, data.y_train, 3e-3, epochs)
                    found.append(accuracy(model, data.x_test, data.y_test))
                ends = f"{min(found):.3f} to {max(found):.3f}"
                rows.append((kind, name, f"{np.median(found):.3f}", ends))
    finish(
        options.output,
        [
            Results(
                f"Streams of {LENGTH} steps, SimpleRNN of rectifiers",
                (
                    *("start", "network", "rate", "failed", "loss"),
                    *("accuracy", f"after {long} steps"),
                ),
                stability(runs),
            ),
            Results(
                "JapaneseVowels, 370 recordings of the test part",
                ("network", "", "accuracy", f"range of {seeds} seeds"),
                rows,
            ),
        ],
        draw(*at_the_start(data, seeds, long)),
    )


if __name__ == "__main__":
    main()
