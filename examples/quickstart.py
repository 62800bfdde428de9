"""Trains a spectrally normalized classifier, saves it, exports it, serves it.

python examples/quickstart.py                       # TensorFlow
KERAS_BACKEND=jax python examples/quickstart.py     # or torch
"""

import hush  # noqa: F401
import keras
import numpy as np
from data import FASHION_MNIST
from data import IMAGES
from data import load_images
from keras import layers
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import console
from running import finish
from running import parser

from keras_sn.layers import SpectralNormalization
from keras_sn.models import export_model
from keras_sn.models import fold_model

# With 1.0 the logits of four layers stay small, and the loss large.
NORM_BOUND = 2.0


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
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.x_train,
        data.y_train,
        validation_split=0.1,
        epochs=epochs,
        batch_size=64,
        verbose=0,
    )
    return model.evaluate(data.x_test, data.y_test, verbose=0)[1]


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


def norm_rows(before, after):
    return [
        (name, *(f"{norm:.4f}" for norm in (*before[name], *after[name])))
        for name in before
    ]


def draw(before, after):
    """The norm of each kernel, and of the kernel that is applied."""
    figure = Figure((6, 3), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(after))
    raw = [norm for norm, _ in after.values()]
    applied = [norm for _, norm in after.values()]
    started = [norm for norm, _ in before.values()]
    axes.bar(places - 0.27, started, 0.27, label="kernel, before training")
    axes.bar(places, raw, 0.27, label="kernel, after training")
    axes.bar(places + 0.27, applied, 0.27, label="as applied")
    axes.axhline(NORM_BOUND, color="black", linewidth=0.8, linestyle=":")
    axes.set_xticks(places, list(after))
    axes.set_ylabel("spectral norm")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


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
    """Folds, exports, and serves with TensorFlow alone."""
    plain = fold_model(model)
    try:
        path = export_model(plain, folder / "saved_model")
        import tensorflow as tf
    except (ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        console.print(f"No SavedModel: {reason}", markup=False)
        return
    loaded = tf.saved_model.load(str(path))
    served = loaded.serve(tf.constant(images)).numpy()
    difference = np.abs(served - plain.predict(images, verbose=0)).max()
    console.print(f"{path} served: largest difference {difference:.1e}")


def main():
    arguments = parser(__doc__, "quickstart")
    arguments.add_argument("--dataset", choices=IMAGES, default="digits")
    arguments.add_argument("--data", default=FASHION_MNIST, metavar="FOLDER")
    arguments.add_argument("--epochs", type=int, default=20)
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    data = load_images(options.dataset, options.data)
    epochs = options.epochs
    if options.quick:
        data, epochs = data.first(200, 50), 1
    images, shape = data.x_test[:16], data.x_train.shape[1:]
    console.print(
        f"{options.dataset} on {keras.backend.backend()}: {len(data.x_train)} "
        f"training images {shape}, {len(data.x_test)} for the test"
    )

    with bar("", 4) as step:
        step("training with normalization")
        model = classifier(
            shape,
            data.classes,
            lambda layer: SpectralNormalization(layer, norm_bound=NORM_BOUND),
        )
        before = kernel_norms(model)
        accuracy = train(model, data, epochs)
        after = kernel_norms(model)
        step("training without")
        plain = classifier(shape, data.classes, lambda layer: layer)
        plain_accuracy = train(plain, data, epochs)
        step("saving and reloading")
        check_reload(model, images, options.output)
        step("folding, exporting and serving")
        if not options.quick:
            check_served(model, images, options.output)

    columns = ("before", "normalized", "after training", "normalized")
    finish(
        options.output,
        [
            Results(
                "Spectral norm of each kernel",
                ("layer", *columns),
                norm_rows(before, after),
            ),
            Results(
                "Test accuracy",
                ("with normalization", "without"),
                [(f"{accuracy:.4f}", f"{plain_accuracy:.4f}")],
            ),
        ],
        draw(before, after),
    )


if __name__ == "__main__":
    main()
