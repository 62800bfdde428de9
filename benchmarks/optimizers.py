"""Muon against Keras's Muon and AdamW: steps to an accuracy, step time.

`KERAS_BACKEND=torch python -m benchmarks.optimizers` trains a convolutional
network on scikit-learn's digits (1797 images of 8 x 8), three in four of them.
Each optimizer has its learning rate tuned over the same grid, on seeds of its
own: the one that reaches the target first. Then come five other seeds.
Everything else is at its default. Writes benchmarks/results/optimizers.json.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_sn

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TUNING_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)
TARGET = 0.975
MOST_STEPS = 400
EVERY = 5
BATCH = 64
RESULT = pathlib.Path(__file__).parent / "results" / "optimizers.json"

Optimizer = Callable[[float, keras.Model], keras.optimizers.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "keras_sn Muon": lambda rate, model: keras_sn.optimizers.Muon(
        rate, model=model
    ),
    # The last layer by AdamW, as its documentation asks.
    "keras Muon": lambda rate, model: keras.optimizers.Muon(
        rate, exclude_layers=["logits"]
    ),
    "keras AdamW": lambda rate, model: keras.optimizers.AdamW(rate),
}


def data() -> tuple:
    """`(x, y)` to train on and to test on."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order].astype("int32")
    count = len(images) * 3 // 4
    return (images[:count], labels[:count]), (images[count:], labels[count:])


def network(seed: int, optimizer: Optimizer, rate: float) -> keras.Model:
    """Three convolutions and a dense layer, 66,000 weights."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for filters, strides in ((32, 1), (64, 2), (64, 2)):
        model.add(
            layers.Conv2D(
                filters, 3, strides=strides, padding="same", activation="relu"
            )
        )
    model.add(layers.Flatten())
    model.add(layers.Dense(10, name="logits"))
    model.compile(
        optimizer(rate, model),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def steps_to_target(seed: int, optimizer: Optimizer, rate: float) -> int:
    """Steps until the accuracy on the test images is reached."""
    (x, y), (x_test, y_test) = data()
    model = network(seed, optimizer, rate)
    rng = np.random.default_rng(seed)
    for step in range(1, MOST_STEPS + 1):
        chosen = rng.integers(len(x), size=BATCH)
        model.train_on_batch(x[chosen], y[chosen])
        if step % EVERY == 0:
            logits = model.predict_on_batch(x_test)
            if (logits.argmax(axis=1) == y_test).mean() >= TARGET:
                break
    else:
        step = 2 * MOST_STEPS
    keras.utils.clear_session()
    return step


def tuned(optimizer: Optimizer) -> tuple[float, dict[float, list[int]]]:
    """The best learning rate, and the steps of all."""
    steps = {
        rate: [steps_to_target(s, optimizer, rate) for s in TUNING_SEEDS]
        for rate in RATES
    }
    return min(steps, key=lambda rate: sum(steps[rate])), steps


def step_seconds(rates: dict[str, float]) -> dict[str, float]:
    """Median seconds of a step of each optimizer, taken in turns."""
    (x, y), _ = data()
    models = {
        name: network(0, optimizer, rates[name])
        for name, optimizer in OPTIMIZERS.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(60):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(x[:BATCH], y[:BATCH])
            samples[name].append(time.perf_counter() - start)
    return {
        name: float(np.median(taken[10:])) for name, taken in samples.items()
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument("--only-time", action="store_true")
    arguments = parser.parse_args()
    key = keras.backend.backend()
    results = {}
    if arguments.out.exists():
        results = json.loads(arguments.out.read_text("utf-8"))
    rates = dict.fromkeys(OPTIMIZERS, 0.01)
    if not arguments.only_time:
        results["steps"] = {"backend": key, "target": TARGET, "rows": {}}
        for name, optimizer in OPTIMIZERS.items():
            rate, grid = tuned(optimizer)
            steps = [steps_to_target(s, optimizer, rate) for s in SEEDS]
            rates[name] = rate
            results["steps"]["rows"][name] = {
                "learning_rate": rate,
                "steps": steps,
                "median": float(np.median(steps)),
                "tuning": {str(r): found for r, found in grid.items()},
            }
            print(name, results["steps"]["rows"][name], flush=True)
    seconds = step_seconds(rates)
    print({name: f"{1e3 * s:.2f} ms" for name, s in seconds.items()})
    results.setdefault("step_milliseconds", {})[key] = {
        name: 1e3 * s for name, s in seconds.items()
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    arguments.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
