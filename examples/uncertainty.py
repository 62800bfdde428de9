"""Does a network know what it does not know? Normalized features and a GP head.

python examples/uncertainty.py                       # TensorFlow
KERAS_BACKEND=jax python examples/uncertainty.py     # or torch

Trained on seven of ten digits, networks meet the other three, and clothes if
Fashion-MNIST is here (--data). The less certain they are of these than of test
images, the better: the area under the ROC curve. Compared are a plain network,
five of them, and one whose residual blocks are normalized below 1, so that
what is far apart stays so, with a Gaussian process in place of its last layer.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable

import hush  # noqa: F401
import keras
import numpy as np
from data import FASHION_MNIST
from data import Data
from data import load_images
from keras import layers
from keras import ops
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import finish
from running import parser
from sklearn.metrics import roc_auc_score

from keras_sn import SpectralNormalization
from keras_sn.models import fold_model

# Classes from this one on are not trained.
UNSEEN = 7
CHANNELS = 16
BLOCKS = 3
NORM_BOUND = 0.95
FEATURES = 512
MEMBERS = 5
SEEDS = 3
# To the probability that a logit of this variance gives, on average.
MEAN_FIELD = math.pi / 8


def hidden(inputs, wrap):
    """Images to features: a stem and residual blocks."""
    x = layers.Conv2D(CHANNELS, 3, strides=2, activation="relu")(inputs)
    for _ in range(BLOCKS):
        conv = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")
        x = x + wrap(conv)(x)
    return layers.Flatten()(layers.AveragePooling2D(2)(x))


def plain_network(shape):
    inputs = keras.Input(shape)
    return keras.Model(
        inputs, layers.Dense(UNSEEN)(hidden(inputs, lambda conv: conv))
    )


def fit(model, data, epochs):
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        data.x_train, data.y_train, batch_size=64, epochs=epochs, verbose=0
    )
    return model


def softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def of_one(data, epochs):
    """A plain network; its probabilities as a function of images."""
    model = fit(plain_network(data.x_train.shape[1:]), data, epochs)
    return lambda images: softmax(predict(model, images))


def of_five(data, epochs):
    """The mean over networks that started differently."""
    members = [
        fit(plain_network(data.x_train.shape[1:]), data, epochs)
        for _ in range(MEMBERS)
    ]

    def probabilities(images):
        return np.mean([softmax(predict(m, images)) for m in members], axis=0)

    return probabilities


def of_process(data, epochs):
    """Normalized features, random cosines of them, and their covariance.

    A linear layer on random Fourier features is a Gaussian process. The
    further from the training images, the larger the variance of its logits,
    provided that the features keep distances.

    Reference: Liu et al., 2020, https://arxiv.org/abs/2006.10108
    """
    inputs = keras.Input(data.x_train.shape[1:])
    x = hidden(inputs, lambda conv: bounded(conv, NORM_BOUND))
    x = layers.LayerNormalization(center=False, scale=False)(x)
    angles = layers.Dense(
        FEATURES,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.05),
        bias_initializer=keras.initializers.RandomUniform(0, 2 * math.pi),
        trainable=False,
    )(x)
    cosines = ops.cos(angles)
    logits = layers.Dense(UNSEEN, use_bias=False)(cosines)
    fit(keras.Model(inputs, logits), data, epochs)

    both = fold_model(keras.Model(inputs, [cosines, logits]))
    seen = predict(both, data.x_train)[0].astype("float64")
    covariance = np.linalg.inv(np.eye(FEATURES) + seen.T @ seen)

    def probabilities(images):
        features, logits = predict(both, images)
        variance = ((features @ covariance) * features).sum(axis=1)
        return softmax(logits / np.sqrt(1 + MEAN_FIELD * variance)[:, None])

    return probabilities


def bounded(conv, bound):
    return SpectralNormalization(
        conv, norm="operator", norm_bound=bound, mode="clip"
    )


def predict(model, images):
    return model.predict(images, batch_size=256, verbose=0)


METHODS = {
    "plain": of_one,
    "five plain networks": of_five,
    "normalized, Gaussian process": of_process,
}


@dataclasses.dataclass(frozen=True)
class Task:
    """Images of known classes, and others, by what they show."""

    data: Data
    others: dict[str, np.ndarray]


def make_task(folder, quick):
    whole = load_images("digits" if quick else "mnist_5k")
    train, test = whole.y_train < UNSEEN, whole.y_test < UNSEEN
    data = Data(
        *(whole.x_train[train], whole.y_train[train]),
        *(whole.x_test[test], whole.y_test[test]),
    )
    others = {"unseen digits": whole.x_test[~test]}
    if not quick and pathlib.Path(folder).is_dir():
        others["clothes"] = load_images("fashion_mnist", folder).x_test[:1000]
    return Task(data.first(100, 50) if quick else data, others)


def measure(method, task, epochs):
    """Accuracy, area under the ROC curve for each kind of others, seconds."""
    start = time.process_time()
    probabilities = method(task.data, epochs)
    training = time.process_time() - start
    probabilities(task.data.x_test)  # Compiles.
    start = time.process_time()
    known = probabilities(task.data.x_test)
    inference = time.process_time() - start
    areas, doubts = {}, {"test images": 1 - known.max(axis=1)}
    for kind, images in task.others.items():
        doubts[kind] = 1 - probabilities(images).max(axis=1)
        is_other = np.repeat([0, 1], [len(known), len(images)])
        both = np.concatenate([doubts["test images"], doubts[kind]])
        areas[kind] = roc_auc_score(is_other, both)
    accuracy = (known.argmax(axis=1) == task.data.y_test).mean()
    return accuracy, areas, training, inference, doubts


def row(name, runs, first):
    """Medians over the seeds, with the range of the areas."""
    accuracy = np.median([run[0] for run in runs])
    cells = [name, f"{accuracy:.3f}"]
    for kind in runs[0][1]:
        areas = sorted(run[1][kind] for run in runs)
        cells.append(
            f"{np.median(areas):.3f} ({areas[0]:.3f} to {areas[-1]:.3f})"
        )
    for column in (2, 3):
        ratio = np.median([run[column] for run in runs]) / np.median(
            [run[column] for run in first]
        )
        cells.append(f"{ratio:.1f}")
    return cells


def draw(runs):
    """How doubtful the first run of each method is, of what."""
    figure = Figure((10, 3.2), layout="constrained")
    for axes, (name, some) in zip(
        figure.subplots(1, len(runs), sharey=True), runs.items(), strict=True
    ):
        for kind, doubts in some[0][-1].items():
            axes.hist(
                doubts,
                bins=np.linspace(0, 1 - 1 / UNSEEN, 25),
                density=True,
                histtype="step",
                label=kind,
            )
        axes.set(title=name, xlabel="1 - largest probability", yscale="log")
    axes.legend()
    return figure


def main():
    arguments = parser(__doc__, "uncertainty")
    arguments.add_argument("--data", default=FASHION_MNIST, metavar="FOLDER")
    options = arguments.parse_args()
    task = make_task(options.data, options.quick)
    seeds, epochs = (1, 1) if options.quick else (SEEDS, 12)
    runs: dict[str, list] = {name: [] for name in METHODS}
    method: Callable
    with bar("", len(METHODS) * seeds) as step:
        for name, method in METHODS.items():
            for seed in range(seeds):
                step(f"{name}, seed {seed}")
                keras.utils.set_random_seed(seed)
                runs[name].append(measure(method, task, epochs))
    rows = [row(name, some, runs["plain"]) for name, some in runs.items()]
    finish(
        options.output,
        [
            Results(
                f"Trained on digits below {UNSEEN}: area under the ROC curve",
                (
                    *("method", "accuracy", *task.others),
                    *("time to train", "to predict"),
                ),
                rows,
            )
        ],
        draw(runs),
    )


if __name__ == "__main__":
    main()
