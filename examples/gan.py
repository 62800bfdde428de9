"""A GAN truth table: which ways to hold a discriminator train, and how often?

python examples/gan.py                       # TensorFlow
KERAS_BACKEND=jax python examples/gan.py     # or torch

Every run is appended to OUTPUT/runs.jsonl, and not repeated when the command
is given again: it can be stopped at any time, or done in parts by --limit.
"""

import itertools
import json
import pathlib

import hush  # noqa: F401
import keras
import numpy as np
from data import FASHION_MNIST
from data import GREY
from data import Data
from data import load_images
from keras import layers
from keras import ops
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import console
from running import finish
from running import parser
from running import rates_on_axis

from keras_sn import SpectralNormalization
from keras_sn.losses import gradient_penalty

METHODS = ("none", "SN kernel", "SN operator", "R1 + R2")
LEARNING_RATES = (1e-3, 5e-3, 2e-2)
SEEDS = 5
STEPS = 600
BATCH = 32
LATENT = 32
# Of the penalties on the slope at real and at generated images.
GAMMA = 1.0
SAMPLES = 2000
SHOWN = 16

# A run trains if every class is that of 1 % of its samples, and the Frechet
# distance at most this share of that of uniform noise.
LEAST_OF_A_CLASS = 0.01
SHARE_OF_NOISE = 0.25


def generator(side: int) -> keras.Model:
    start = side // 2
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(start * start * 16, "relu"),
            layers.Reshape((start, start, 16)),
            layers.Conv2DTranspose(
                16, 4, strides=2, padding="same", activation="relu"
            ),
            layers.Conv2D(1, 3, padding="same", activation="tanh"),
        ],
        name="generator",
    )


def discriminator(method: str, side: int) -> keras.Model:
    def wrap(layer: keras.layers.Layer) -> keras.layers.Layer:
        if method.startswith("SN"):
            return SpectralNormalization(layer, norm=method.split()[1])
        return layer

    return keras.Sequential(
        [
            keras.Input((side, side, 1)),
            wrap(
                layers.Conv2D(
                    16, 4, strides=2, padding="same", activation="leaky_relu"
                )
            ),
            wrap(
                layers.Conv2D(
                    32, 4, strides=2, padding="same", activation="leaky_relu"
                )
            ),
            layers.Flatten(),
            wrap(layers.Dense(1)),
        ],
        name="discriminator",
    )


class DiscriminatorStep(keras.Model):
    """Real images and noise to the scores of both; the generator rests."""

    def __init__(self, maker, judge, gamma):
        super().__init__()
        self.maker = maker
        self.judge = judge
        self.gamma = gamma

    def call(self, inputs, training=None):
        real, noise = inputs
        images = ops.concatenate([real, self.maker(noise)])
        # One batch, so that one power iteration serves both.
        return images, self.judge(images, training=training)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        images, scores = y_pred
        real, fake = ops.split(scores, 2)
        loss = ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))
        if self.gamma:
            # A mean over both halves is half the sum of R1 and R2.
            loss += self.gamma * gradient_penalty(
                self.judge, ops.stop_gradient(images)
            )
        return loss


class GeneratorStep(keras.Model):
    """Noise to scores; the discriminator rests."""

    def __init__(self, maker, judge):
        super().__init__()
        self.maker = maker
        self.judge = judge

    def call(self, noise, training=None):
        return self.judge(self.maker(noise, training=training))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return ops.mean(ops.softplus(-y_pred))


def train(method, learning_rate, seed, images, steps):
    """The generator after so many steps of both."""
    keras.utils.set_random_seed(seed)
    side = images.shape[1]
    maker, judge = generator(side), discriminator(method, side)
    judging = DiscriminatorStep(maker, judge, GAMMA * (method == "R1 + R2"))
    making = GeneratorStep(maker, judge)
    for model in (judging, making):
        model.compile(keras.optimizers.Adam(learning_rate, beta_1=0.5))
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        real = images[rng.integers(len(images), size=BATCH)]
        maker.trainable, judge.trainable = False, True
        judging.train_on_batch((real, noise(rng, BATCH)))
        maker.trainable, judge.trainable = True, False
        making.train_on_batch(noise(rng, BATCH))
    return maker


def noise(rng, number):
    return rng.normal(size=(number, LATENT)).astype("float32")


def classifier(data, epochs):
    """A model from images to `(features, logits)`, trained on the same data."""
    keras.utils.set_random_seed(0)
    side = data.x_train.shape[1]
    inputs = keras.Input((side, side, 1))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    features = layers.Dense(64, "relu")(layers.Flatten()(x))
    logits = layers.Dense(data.classes)(features)
    model = keras.Model(inputs, logits)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        *(data.x_train, data.y_train), batch_size=64, epochs=epochs, verbose=0
    )
    accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)[1]
    return keras.Model(inputs, [features, logits]), accuracy


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the normal distributions fitted to rows.

    Args:
        a: `(n, features)`.
        b: `(m, features)`.
    """
    a, b = a.astype("float64"), b.astype("float64")
    values, vectors = np.linalg.eigh(np.cov(a.T))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    between = np.linalg.eigvalsh(root @ np.cov(b.T) @ root)
    shift = a.mean(axis=0) - b.mean(axis=0)
    return float(
        shift @ shift
        + np.trace(np.cov(a.T))
        + np.trace(np.cov(b.T))
        - 2 * np.sqrt(np.maximum(between, 0)).sum()
    )


def load(name: str, folder: str) -> Data:
    """Images in [-1, 1]; those of 28x28 as 14x14, four pixels averaged."""

    def prepared(images):
        n, side, _, channels = images.shape
        if side == 28:
            images = images.reshape(n, 14, 2, 14, 2, channels).mean((2, 4))
        return 2 * images - 1

    data = load_images(name, folder)
    return Data(
        *(prepared(data.x_train), data.y_train),
        *(prepared(data.x_test), data.y_test),
    )


class Referee:
    """Compares generated images with the real ones, in features."""

    def __init__(self, data: Data, epochs: int):
        self.model, self.accuracy = classifier(data, epochs)
        self.classes = data.classes
        self.real = self._features(data.x_train)[0]
        rng = np.random.default_rng(0)
        noise = rng.uniform(-1, 1, data.x_test.shape).astype("float32")
        self.distance_of_noise = self.distance(noise)
        self.distance_of_real = self.distance(data.x_test)

    def _features(self, images):
        return self.model.predict(images, batch_size=256, verbose=0)

    def distance(self, images: np.ndarray) -> float:
        return frechet_distance(self.real, self._features(images)[0])

    def judge(self, images: np.ndarray) -> dict[str, object]:
        """Distance, number of classes that appear, and whether it trained."""
        if not np.isfinite(images).all():
            return {"distance": None, "classes": 0, "trained": False}
        features, logits = self._features(images)
        counts = np.bincount(logits.argmax(axis=1), minlength=self.classes)
        classes = int((counts >= LEAST_OF_A_CLASS * len(images)).sum())
        distance = frechet_distance(self.real, features)
        trained = (
            classes == self.classes
            and distance <= SHARE_OF_NOISE * self.distance_of_noise
        )
        return {
            "distance": round(distance, 3),
            "classes": classes,
            "trained": trained,
        }


def run(data, referee, method, learning_rate, seed, steps):
    """Trains once; what `runs.jsonl` says of it."""
    maker = train(method, learning_rate, seed, data.x_train, steps)
    images = maker.predict(
        noise(np.random.default_rng(1), SAMPLES), batch_size=256, verbose=0
    )
    result = {"method": method, "learning_rate": learning_rate, "seed": seed}
    result |= referee.judge(images)
    if seed == 0:
        grey = np.nan_to_num(255 * (images[:SHOWN] + 1) / 2).astype(int)
        result["samples"] = grey.tolist()
    return result


def read_runs(path: pathlib.Path) -> dict[tuple, dict]:
    """`{(method, learning rate, seed): run}`."""
    if not path.exists():
        return {}
    runs = map(json.loads, path.read_text().splitlines())
    return {(r["method"], r["learning_rate"], r["seed"]): r for r in runs}


def of(runs, method, learning_rate):
    """The runs over all seeds."""
    return [
        run
        for key, run in sorted(runs.items())
        if key[:2] == (method, learning_rate)
    ]


def distances(some):
    """Sorted; what is not finite is infinite."""
    return sorted(
        np.inf if r["distance"] is None else r["distance"] for r in some
    )


def table(runs, rates):
    rows = []
    for method, rate in itertools.product(METHODS, rates):
        some = of(runs, method, rate)
        if not some:
            continue
        found = distances(some)
        rows.append(
            (
                method,
                f"{rate:g}",
                f"{sum(r['trained'] for r in some)} of {len(some)}",
                f"{np.median(found):.1f}",
                f"{found[0]:.1f} to {found[-1]:.1f}",
                f"{np.median([r['classes'] for r in some]):g}",
            )
        )
    return rows


def draw(runs, rates):
    """Left the distances, right samples of the first seed at the best rate."""
    figure = Figure((10, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    axes = left.subplots()
    for number, method in enumerate(METHODS):
        found = [distances(of(runs, method, rate)) for rate in rates]
        middle = np.array([np.median(f) if f else np.nan for f in found])
        ends = np.array([(f[0], f[-1]) if f else (np.nan,) * 2 for f in found])
        axes.errorbar(
            np.array(rates) * 1.06**number,  # Beside each other.
            middle,
            np.abs(ends.T - middle),
            label=method,
            marker="o",
            capsize=3,
        )
    axes.set(yscale="log", xlabel="learning rate")
    rates_on_axis(axes, rates, 1.06 ** (len(METHODS) - 1))
    axes.set_ylabel("Frechet distance (median and range of the seeds)")
    axes.legend()
    for cell, method in zip(right.subplots(2, 2).flat, METHODS, strict=True):
        cell.axis("off")
        shown = [r for r in runs.values() if r["method"] == method]
        shown = [r for r in shown if "samples" in r and r["distance"]]
        if shown:
            best = min(shown, key=lambda r: r["distance"])
            cell.imshow(mosaic(np.array(best["samples"])), "gray")
            cell.set_title(f"{method}, {best['learning_rate']:g}")
    return figure


def mosaic(images):
    """`(16, side, side, 1)` as one square, with lines between them."""
    lines = ((0, 0), (1, 1), (1, 1), (0, 0))
    images = np.pad(images, lines, constant_values=128)
    side = images.shape[1]
    rows = images.reshape(4, 4, side, side).swapaxes(1, 2)
    return rows.reshape(4 * side, 4 * side)


def main():
    arguments = parser(__doc__, "gan")
    arguments.add_argument("--data-set", choices=GREY, default="digits")
    arguments.add_argument("--data", default=FASHION_MNIST, metavar="FOLDER")
    arguments.add_argument(
        "--limit", type=int, help="stop after so many runs; go on next time"
    )
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "runs.jsonl"
    data = load(options.data_set, options.data)
    rates, seeds, steps, epochs = LEARNING_RATES, SEEDS, STEPS, 20
    if options.quick:
        rates, seeds, steps, epochs = LEARNING_RATES[:1], 1, 3, 1
        data = data.first(300, 100)
        path = options.output / "quick.jsonl"
        path.unlink(missing_ok=True)
    wanted = itertools.product(range(seeds), METHODS, rates)
    done = read_runs(path)
    left = [(m, r, s) for s, m, r in wanted if (m, r, s) not in done]
    referee = Referee(data, epochs)
    with bar("", len(left[: options.limit])) as step:
        for method, rate, seed in left[: options.limit]:
            step(f"{method}, learning rate {rate:g}, seed {seed}")
            result = run(data, referee, method, rate, seed, steps)
            with path.open("a") as file:
                file.write(json.dumps(result) + "\n")
    console.print(
        f"{options.data_set}: the classifier is right for "
        f"{referee.accuracy:.3f} of the test images. Distance of these "
        f"{referee.distance_of_real:.1f}, of noise "
        f"{referee.distance_of_noise:.1f}."
    )
    runs = read_runs(path)
    columns = ("method", "rate", "trained", "distance", "range", "classes")
    title = f"GANs on {options.data_set}, {steps} steps"
    finish(
        options.output,
        [Results(title, columns, table(runs, rates))],
        draw(runs, rates),
    )


if __name__ == "__main__":
    main()
