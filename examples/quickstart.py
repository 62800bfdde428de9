"""Trains a spectrally normalized classifier, saves it, exports it, serves it.

python examples/quickstart.py                       # TensorFlow
KERAS_BACKEND=jax python examples/quickstart.py     # or torch
"""

import argparse
import pathlib
import time

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_sn.layers import SpectralNormalization

console = Console(width=88)

# With 1.0 the logits of four layers stay small, and the loss large.
NORM_BOUND = 2.0


def load(dataset):
    """Images in [0, 1], `(n, h, w, c)`, and labels; training and test part."""
    if dataset == "digits":
        digits = load_digits()
        images = digits.images[..., None].astype("float32") / 16
        return train_test_split(
            images, digits.target, test_size=0.25, random_state=0
        )
    # These need the internet.
    module = getattr(keras.datasets, dataset)
    (x_train, y_train), (x_test, y_test) = module.load_data()
    if x_train.ndim == 3:
        x_train, x_test = x_train[..., None], x_test[..., None]
    scale = np.float32(255)
    return x_train / scale, x_test / scale, y_train, y_test


def classifier(input_shape, classes, wrap):
    """Two convolutions and two dense layers, each passed through `wrap`."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            wrap(layers.Conv2D(32, 3, padding="same", activation="relu")),
            wrap(layers.Conv2D(64, 3, strides=2, activation="relu")),
            layers.Flatten(),
            wrap(layers.Dense(64, activation="relu")),
            wrap(layers.Dense(classes)),
        ]
    )


def train(model, data, epochs):
    """Fits the model; returns its accuracy on the test part."""
    x_train, x_test, y_train, y_test = data
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        y_train,
        validation_split=0.1,
        epochs=epochs,
        batch_size=64,
        verbose=0,
    )
    return model.evaluate(x_test, y_test, verbose=0)[1]


def kernel_norms(model):
    """`{layer: (norm of the kernel, norm of the normalized kernel)}`."""
    norms = {}
    for wrapper in model.layers:
        if isinstance(wrapper, SpectralNormalization):
            raw = matrix_norm(wrapper.layer.kernel)
            (normalized,) = wrapper.normalized_weights().values()
            norms[wrapper.layer.name] = raw, matrix_norm(normalized)
    return norms


def matrix_norm(kernel):
    """Spectral norm of a kernel reshaped to a matrix, by numpy's SVD."""
    kernel = keras.ops.convert_to_numpy(kernel)
    return np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)


def print_norms(before, after):
    table = Table(title="Spectral norm of each kernel")
    columns = ("before", "normalized", "after training", "normalized")
    for column in ("layer", *columns):
        table.add_column(
            column, justify="left" if column == "layer" else "right"
        )
    for name in before:
        values = (*before[name], *after[name])
        table.add_row(name, *(f"{value:.4f}" for value in values))
    console.print(table)


def check_reload(model, images, folder):
    """Saves and reloads the model; returns the largest difference."""
    path = folder / "classifier.keras"
    model.save(path)
    reloaded = keras.saving.load_model(path)
    difference = model.predict(images, verbose=0) - reloaded.predict(
        images, verbose=0
    )
    console.print(
        f"{path} reloaded: largest difference {np.abs(difference).max():.1e}"
    )


def check_served(model, images, folder):
    """Exports a SavedModel, loads it with TensorFlow alone and serves it."""
    path = folder / "saved_model"
    try:
        model.export(path, format="tf_saved_model", verbose=False)
        import tensorflow as tf
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:80]
        console.print(
            f"No SavedModel: Keras {keras.__version__} cannot export this "
            f"model on {keras.backend.backend()} ({reason})",
            markup=False,
        )
        return
    loaded = tf.saved_model.load(str(path))
    served = loaded.serve(tf.constant(images)).numpy()
    difference = np.abs(served - model.predict(images, verbose=0)).max()
    console.print(f"{path} served: largest difference {difference:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset",
        default="digits",
        choices=["digits", "mnist", "fashion_mnist", "cifar10"],
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=pathlib.Path, default="out/quickstart")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    data = load(arguments.dataset)
    images = data[1][:16]
    shape, classes = data[0].shape[1:], int(data[2].max()) + 1
    console.print(
        f"{arguments.dataset} on {keras.backend.backend()}: "
        f"{len(data[0])} training images {shape}, {len(data[1])} for the test"
    )

    model = classifier(
        shape,
        classes,
        lambda layer: SpectralNormalization(layer, norm_bound=NORM_BOUND),
    )
    before = kernel_norms(model)
    accuracy = train(model, data, arguments.epochs)
    print_norms(before, kernel_norms(model))

    plain = classifier(shape, classes, lambda layer: layer)
    plain_accuracy = train(plain, data, arguments.epochs)
    console.print(f"Test accuracy with normalization    {accuracy:.4f}")
    console.print(f"Test accuracy without normalization {plain_accuracy:.4f}")

    check_reload(model, images, arguments.output)
    check_served(model, images, arguments.output)
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
