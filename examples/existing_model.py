"""Takes a .keras file: report, normalize, fine-tune, fold, export, serve.

python examples/existing_model.py                       # TensorFlow
KERAS_BACKEND=jax python examples/existing_model.py     # or torch

--model FILE takes a classifier of your own that fits the images of --data-set.
Without it a plain network is trained and saved first, as if found somewhere.
At the end the same is done by the command line alone.
"""

import contextlib
import io
import pathlib
import shlex

import hush  # noqa: F401
import keras
import numpy as np
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

from keras_sn import cli
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import NormReport
from keras_sn.models import export_model
from keras_sn.models import fold_model
from keras_sn.models import norm_report
from keras_sn.models import normalize_model

# For the whole network. What is found has some tens.
LIPSCHITZ = 10.0
RADIUS = 1.0
ATTACKED = 500
COLUMNS = (
    "model",
    "test accuracy",
    f"attacked, radius {RADIUS:g}",
    "largest layer norm",
    "Lipschitz constant <=",
)


def make_found_model(data: Data, epochs: int, path: pathlib.Path) -> None:
    """Trains and saves what this example then finds."""
    model = keras.Sequential(
        [
            keras.Input(data.x_train.shape[1:]),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, "relu"),
            layers.Dense(data.classes),
        ],
        name="found",
    )
    train(model, data, epochs)
    model.save(path)


def train(model: keras.Model, data: Data, epochs: int) -> None:
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        data.x_train, data.y_train, batch_size=64, epochs=epochs, verbose=0
    )


def judged(name: str, model: keras.Model, data: Data) -> tuple[str, ...]:
    """A row of the table. A wrapped model is judged by the weights it uses."""
    x, y = data.x_test, data.y_test
    accuracy = (model.predict(x, verbose=0).argmax(axis=1) == y).mean()
    attacked = robust(model, x[:ATTACKED], y[:ATTACKED], RADIUS).mean()
    plain = fold_model(model)
    bound = lipschitz_bound(plain, lower=False, time_limit=10.0)
    largest = norm_report(plain).largest
    return (
        name,
        f"{accuracy:.3f}",
        f"{attacked:.3f}",
        f"{largest:.2f}",
        f"{bound.upper:.1f}",
    )


def serve(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
    """What TensorFlow alone answers, without Keras."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return loaded.serve(tf.constant(images)).numpy()


def by_hand(path: pathlib.Path, output: pathlib.Path) -> None:
    """The same by the command line, but for the training."""
    for line in (
        f"report {path} --plot {output}/norms.png",
        f"normalize {path} {output}/by_hand.keras --lipschitz {LIPSCHITZ:g}",
        f"fold {output}/tuned.keras {output}/plain.keras --certified",
        f"export {output}/plain.keras {output}/served_by_hand",
    ):
        command(f"{line} --force")


def command(line: str) -> None:
    """Runs `keras-sn`, as a shell would."""
    print(f"$ keras-sn {line}")
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        code = cli.main(shlex.split(line))
    if code:
        raise SystemExit(f"keras-sn ended with {code}")
    print(answer.getvalue().strip())


def draw(found: NormReport, tuned: NormReport) -> Figure:
    figure = Figure((9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    found.plot(left)
    left.set_title("found")
    tuned.plot(right)
    right.set_title("normalized and fine-tuned")
    right.set_yticklabels([])
    return figure


def main() -> None:
    arguments = parser(__doc__, "existing_model")
    arguments.add_argument("--model", help="a .keras file (default: make one)")
    arguments.add_argument("--data-set", choices=IMAGES, default="mnist_5k")
    arguments.add_argument("--data", default=FASHION_MNIST, metavar="FOLDER")
    arguments.add_argument("--epochs", type=int, default=8)
    options = arguments.parse_args()
    output, epochs = options.output, options.epochs
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = load_images(
        "digits" if options.quick else options.data_set, options.data
    )
    if options.quick:
        epochs, data = 2, data.first(500, 100)

    with bar("", 8) as step:
        path = pathlib.Path(options.model or output / "found.keras")
        if options.model is None:
            step("making a model to be found")
            make_found_model(data, epochs, path)
        found = keras.saving.load_model(path)

        step("report")
        rows = [judged("found", found, data)]

        step("fine-tune as it is")
        longer = keras.models.clone_model(found)
        longer.set_weights(found.get_weights())
        train(longer, data, epochs)
        rows.append(judged("fine-tuned as it is", longer, data))

        step("normalize")
        model = normalize_model(found, lipschitz=LIPSCHITZ)
        rows.append(judged("normalized", model, data))

        step("fine-tune")
        train(model, data, epochs)
        rows.append(judged("normalized, fine-tuned", model, data))
        model.save(output / "tuned.keras")

        step("fold")
        plain = fold_model(model, certified=True)
        rows.append(judged("folded, certified", plain, data))

        step("export")
        served = export_model(plain, output / "served", "tf_saved_model")

        step("serve")
        answers = serve(served, data.x_test)
        accuracy = (answers.argmax(axis=1) == data.y_test).mean()
        difference = np.abs(
            answers - plain.predict(data.x_test, verbose=0)
        ).max()
        rows.append(("served by TensorFlow", f"{accuracy:.3f}", "", "", ""))

    console.print(f"Served and folded differ by {difference:.1e} at most.")
    if not options.quick:
        by_hand(path, output)
    finish(
        output,
        [Results("A model found, and what became of it", COLUMNS, rows)],
        draw(norm_report(found), norm_report(plain)),
    )


if __name__ == "__main__":
    main()
