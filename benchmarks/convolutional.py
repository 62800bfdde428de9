"""Chains of convolutions: He-normal ones, CNNs trained on digits, ResNet-18.

`python -m benchmarks.convolutional` writes
benchmarks/lipschitz_results/convolutional.json, and the table of
docs/lipschitz.md where its marks are on the page.
"""

import time
from collections.abc import Iterator

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from benchmarks.bounds_page import save
from benchmarks.workloads import RESNET_18
from benchmarks.workloads import resnet
from keras_sn.lipschitz import lipschitz_bound

# Seconds of a bound, at most.
LIMIT = 30.0
Data = tuple[np.ndarray, np.ndarray]


def he_normal(depth: int) -> keras.Model:
    """3 -> 16 -> ... of 3 x 3 at 14 x 14, relu in between."""
    inputs = x = keras.Input((14, 14, 3))
    for i in range(depth):
        x = layers.Conv2D(
            16,
            3,
            padding="same",
            activation="relu" if i < depth - 1 else None,
            kernel_initializer=keras.initializers.HeNormal(seed=i),
        )(x)
    return keras.Model(inputs, x)


def digits() -> tuple[Data, Data]:
    """Images 8 x 8 and labels: 1200 to train on, 597 others."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 16).astype("float32").reshape(-1, 8, 8, 1)
    labels = labels[order]
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def digits_network(normalized: bool, seed: int = 0) -> keras.Model:
    """Conv, conv of stride 2, average pooling, conv, mean, dense; trained."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 1))
    for filters, strides in ((16, 1), (32, 2), (32, 1)):
        if strides == 1 and filters == 32:
            x = layers.AveragePooling2D(2)(x)
        x = layers.Conv2D(filters, 3, strides, padding="same")(x)
        if normalized:
            x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10)(x))
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    (x_train, y_train), _ = digits()
    model.fit(x_train, y_train, epochs=20, batch_size=32, verbose=0)
    return model


def resnet_18() -> keras.Model:
    """At CIFAR size, as Keras initializes it."""
    keras.utils.set_random_seed(0)
    return resnet(lambda layer: layer, RESNET_18)


def cases() -> Iterator[tuple[str, keras.Model, np.ndarray | None]]:
    """Name, model, and data to start the search for a lower bound from."""
    for depth in (4, 10):
        yield f"He-normal 3 -> 16 x {depth}, 14 x 14", he_normal(depth), None
    (x, _), _ = digits()
    for normalized in (False, True):
        name = "CNN on digits" + ", BatchNormalization" * normalized
        yield name, digits_network(normalized), x
    yield "ResNet-18, 32 x 32", resnet_18(), None


def measured(model: keras.Model, data: np.ndarray | None) -> dict:
    """Bounds of each method, and seconds of the tightest."""
    row: dict = {"parameters": model.count_params()}
    for method in ("product", "rescaled", "closed_form", "auto", "refined"):
        start = time.perf_counter()
        report = lipschitz_bound(model, method, lower=False, time_limit=LIMIT)
        row[method] = {
            "bound": report.upper,
            "seconds": time.perf_counter() - start,
        }
    start = time.perf_counter()
    row["lower"] = {
        "bound": lipschitz_bound(model, "product", data=data).lower,
        "seconds": time.perf_counter() - start,
    }
    return row


def main() -> None:
    """Measures, and writes the page."""
    results = {}
    for name, model, data in cases():
        results[name] = measured(model, data)
        print(name, results[name], flush=True)
    save("convolutional", results)


if __name__ == "__main__":
    main()
