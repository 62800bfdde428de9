"""Trains classifiers of Lipschitz constant 1 and certifies their predictions.

python examples/certified.py                       # TensorFlow
KERAS_BACKEND=jax python examples/certified.py     # or torch

Four ways to train the same dense network: as ever; with a budget of 1 shared
by normalized layers, and a loss that asks for margins; the same with sorted
pairs in place of rectifiers; the same with orthogonal layers.
"""

import hush  # noqa: F401
import keras
from attack import robust
from data import FASHION_MNIST
from data import IMAGES
from data import Data
from data import load_images
from keras import layers
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import console
from running import finish
from running import parser

from keras_sn.layers import GroupSort
from keras_sn.layers import OrthogonalDense
from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.losses import LipschitzMarginCrossentropy
from keras_sn.models import fold_model
from keras_sn.models import normalize_model

RADII = (0.1, 0.25, 0.5, 1.0)
# Accuracy under attack is that of the first test images.
ATTACKED = 300
WIDTH = 128


def network(dense, activation, data):
    """Three layers; flat images to logits."""
    return keras.Sequential(
        [
            keras.Input(data.x_train.shape[1:]),
            layers.Flatten(),
            dense(WIDTH),
            activation(),
            dense(WIDTH),
            activation(),
            dense(data.classes),
        ]
    )


def plain(data):
    model = network(layers.Dense, layers.ReLU, data)
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def normalized(data, activation=layers.ReLU):
    model = network(layers.Dense, activation, data)
    return normalize_model(model, lipschitz=1.0), margin_loss()


def normalized_pairs(data):
    return normalized(data, GroupSort)


def orthogonal(data):
    return network(OrthogonalDense, GroupSort, data), margin_loss()


def margin_loss():
    """Asks for margins, which the constant turns into radii."""
    return LipschitzMarginCrossentropy(0.3, lipschitz=1.0, temperature=0.1)


NETWORKS = {
    "plain": plain,
    "normalized": normalized,
    "normalized, GroupSort": normalized_pairs,
    "orthogonal, GroupSort": orthogonal,
}


def train(make, data, epochs):
    """Fits, and folds: what is certified is what is shipped."""
    keras.utils.set_random_seed(0)
    model, loss = make(data)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(
        data.x_train, data.y_train, batch_size=64, epochs=epochs, verbose=0
    )
    return fold_model(model, certified=True)


def accuracies(model, data, radii, seconds):
    """`{radius: (clean, under attack, certified, with local bounds)}`."""
    x, y = data.x_test, data.y_test
    right = model.predict(x, verbose=0).argmax(axis=1) == y
    global_radii = certified_radius(model, x, time_limit=seconds)
    local_radii = certified_radius(model, x, time_limit=seconds, local=True)
    return {
        radius: (
            right.mean(),
            robust(model, x[:ATTACKED], y[:ATTACKED], radius).mean(),
            (right & (global_radii >= radius)).mean(),
            (right & (local_radii >= radius)).mean(),
        )
        for radius in radii
    }


def draw(found):
    figure = Figure((6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for color, (name, rows) in enumerate(found.items()):
        clean = next(iter(rows.values()))[0]
        for column, style in ((1, "--"), (2, ":"), (3, "-")):
            heights = [clean, *(row[column] for row in rows.values())]
            label = name if column == 3 else None
            axes.plot((0, *rows), heights, f"C{color}{style}", label=label)
    axes.set_xlabel("radius (l2, pixels in [0, 1])")
    axes.set_ylabel("certified; dotted: globally; dashed: attacked")
    axes.legend()
    return figure


def main():
    arguments = parser(__doc__, "certified")
    arguments.add_argument("--data-set", choices=IMAGES, default="digits")
    arguments.add_argument("--data", default=FASHION_MNIST, metavar="FOLDER")
    arguments.add_argument("--epochs", type=int, default=40)
    options = arguments.parse_args()
    data: Data = load_images(options.data_set, options.data)
    epochs, radii, seconds = options.epochs, RADII, 60.0
    if options.quick:
        data, epochs, radii, seconds = data.first(64, 4), 1, RADII[:1], 0.5
    found, bounds = {}, []
    with bar("", 2 * len(NETWORKS)) as step:
        for name, make in NETWORKS.items():
            step(f"training: {name}")
            model = train(make, data, epochs)
            step(f"certifying: {name}")
            report = lipschitz_bound(
                model, data=data.x_test, time_limit=seconds
            )
            bounds.append((name, f"{report.lower:.3f}", f"{report.upper:.3f}"))
            found[name] = accuracies(model, data, radii, seconds)
    rows = [
        (name, f"{radius:g}", *(f"{100 * share:.1f}" for share in shares))
        for name, by_radius in found.items()
        for radius, shares in by_radius.items()
    ]
    console.print(
        f"{options.data_set}: {len(data.x_train)} training images, "
        f"{len(data.x_test)} for the test"
    )
    columns = (
        *("network", "radius", "clean", "under attack"),
        *("certified", "locally"),
    )
    finish(
        options.output,
        [
            Results("Accuracy on the test part, %", columns, rows),
            Results(
                "Lipschitz constant",
                ("network", "at least", "at most"),
                bounds,
            ),
        ],
        draw(found),
    )


if __name__ == "__main__":
    main()
