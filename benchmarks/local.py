"""Bounds on balls: ECLipsE-Gen-Local's networks, pairs, local radii.

`python -m benchmarks.local` writes benchmarks/lipschitz_results/local.json and
tables of docs/lipschitz.md: the constants around the centre of their
demonstration, ours and those of eclipse-nn's closed form (`pip install
eclipse-nn scipy cvxpy` brings it; without, it is left out), then the seconds
that radii of 10,000 inputs take, and how many local ones a second gives.
"""

import contextlib
import io
import time

import keras
import numpy as np

from benchmarks.bounds_page import save
from benchmarks.lipschitz import HAS_ECLIPSE
from benchmarks.lipschitz import timed
from keras_sn.lipschitz import certified_radius
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.rules.activations import relu_slopes
from keras_sn.lipschitz.rules.activations import slope_of
from keras_sn.lipschitz.upper.covariance import largest
from keras_sn.lipschitz.upper.local_stack import LocalStack

CENTRE = np.array([0.4, 1.8, -0.5, -1.3, 0.9])
RADII = (0.01, 0.1, 1.0)
# Number of layers and width, of their demonstration first.
NETWORKS = [(5, 10), (5, 60), (10, 40), (20, 60), (30, 120)]


def network(layers, width):
    """Their random networks, as their generator draws them."""
    np.random.seed(width * 77 + layers * 9)  # noqa: NPY002
    dims = [5, *[width] * (layers - 1), 2]
    weights, biases = [], []
    for columns, rows in zip(dims, dims[1:], strict=False):  # noqa: RUF007
        weights.append(np.random.randn(rows, columns))  # noqa: NPY002
        biases.append(np.random.randn(rows))  # noqa: NPY002
    return weights, biases


def ours(weights, biases, activation):
    """The constants on all balls, one call."""
    pieces = []
    for weight, bias in zip(weights, biases, strict=True):
        pieces.append(Matrix(weight))
        pieces[-1].offset = (bias, 0.0)
        leaky = activation == "leakyrelu"
        pieces.append(relu_slopes(0.01) if leaky else slope_of(activation))
    stack = LocalStack(pieces[:-1])
    centres = stack.centres(np.repeat(CENTRE[None], len(RADII), axis=0))
    squares = largest(stack.spread(centres, np.array(RADII)))
    return np.sqrt(squares).min(axis=0) * stack.scale


def theirs(weights, biases, activation):
    """The same by the closed form of eclipse-nn."""
    from eclipse_nn.local_lipschitz import get_lip_estimates

    found = []
    for radius in RADII:
        with contextlib.redirect_stdout(io.StringIO()):
            value, *_ = get_lip_estimates(
                weights, CENTRE, radius, activation, biases, "CF"
            )
        found.append(value)
    return np.array(found)


def balls():
    """A row for each network: our constants, theirs, seconds of all radii."""
    rows = []
    for activation in ("leakyrelu", "tanh"):
        for layers, width in NETWORKS:
            weights, biases = network(layers, width)
            bounds, seconds = timed(ours, weights, biases, activation)
            row = {
                "layers": layers,
                "width": width,
                "activation": activation,
                "bounds": bounds.tolist(),
                "seconds": seconds,
            }
            if HAS_ECLIPSE:
                peers, longer = timed(theirs, weights, biases, activation)
                row |= {"peer": peers.tolist(), "peer_seconds": longer}
            rows.append(row)
            print(row, flush=True)
    return rows


def classifier():
    """784-256-256-10 with weights that have seen some training."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(size=(10, 784)), rng.integers(0, 10, 10000)
    images = centres[labels] * 0.3 + rng.normal(size=(10000, 784))
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(256, "relu"),
            layers.Dense(256, "relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images, labels, epochs=2, verbose=0, batch_size=128)
    return model, images


def certified():
    """Seconds of all pairs of classes, everywhere and on balls."""
    model, images = classifier()
    rows = []
    for name, inputs, settings in (
        ('`"product"`', images, {"method": "product"}),
        ('`"closed_form"`', images, {"method": "closed_form"}),
        ('`"auto"`', images, {"method": "auto"}),
        ('`"auto"`', images[:64], {"method": "auto"}),
        ("`local=True`", images[:64], {"local": True}),
    ):
        start = time.perf_counter()
        radii = certified_radius(model, inputs, **settings)
        seconds = time.perf_counter() - start
        rows.append(
            {
                "name": name,
                "inputs": len(inputs),
                "median": float(np.median(radii)),
                "seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
    return rows


def main():
    """Measures, and writes the page."""
    found = {"radii": list(RADII), "balls": balls()}
    save("local", found | {"certified": certified()})


if __name__ == "__main__":
    main()
