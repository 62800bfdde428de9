"""Trains with each tool in one backend and writes the weights: a child.

KERAS_BACKEND=jax python -m tests.training.trajectory OUT.npz
"""

import sys

import keras
import numpy as np
from keras import layers

from keras_sn import losses
from keras_sn.constraints import SpectralNorm
from keras_sn.constraints import constrain
from keras_sn.optimizers import Muon
from keras_sn.regularizers import Orthogonality
from keras_sn.regularizers import SpectralNorm as SpectralPenalty
from keras_sn.regularizers import regularize
from tests.training.models import batches
from tests.training.models import set_weights

STEPS = 30


class Penalized(keras.Sequential):
    """Half of the squared gradient of its outputs is part of its loss."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.5 * losses.gradient_penalty(self, x)


def model(kind=keras.Sequential):
    network = kind(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="tanh"),
            layers.Conv2D(4, 3, strides=2, groups=2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    set_weights(network)
    return network


def kernels(network):
    return [layer for layer in network.layers if hasattr(layer, "kernel")]


def constrained(*ways):
    """A method and a norm for each kernel: compiling one network is enough."""
    network = model()
    for layer, (method, norm) in zip(kernels(network), ways, strict=True):
        constrain(layer, SpectralNorm(0.8, method, norm))
    network.compile(keras.optimizers.SGD(0.05), "mse")
    return network


def penalized_weights(*regularizers):
    """A penalty for each kernel."""
    network = model()
    for layer, penalty in zip(kernels(network), regularizers, strict=True):
        regularize(layer, penalty)
    network.compile(keras.optimizers.SGD(0.05), "mse")
    return network


def with_muon(**options):
    network = model()
    network.compile(Muon(0.01, model=network, **options), "mse")
    return network


def with_loss():
    network = model(Penalized)
    network.compile(
        keras.optimizers.SGD(0.02), losses.HingeKantorovichRubinstein()
    )
    return network


SETUPS = {
    "by_products": lambda: constrained(
        ("soft_cap", "kernel"), ("clip", "operator"), ("clip", "kernel")
    ),
    "otherwise": lambda: constrained(
        ("svd", "kernel"), ("scale", "operator"), ("hammer", "kernel")
    ),
    "penalties": lambda: penalized_weights(
        SpectralPenalty(0.1, "operator"),
        Orthogonality(0.01),
        SpectralPenalty(0.1),
    ),
    "muon": with_muon,
    "newton_schulz": lambda: with_muon(method="newton_schulz", momentum=0.95),
    "losses": with_loss,
}


def main(path):
    results = {}
    for name, setup in SETUPS.items():
        network = setup()
        trace = [
            float(network.train_on_batch(x, y))
            for x, y in batches(STEPS, (6, 6, 2))
        ]
        results[f"{name}/loss"] = np.array(trace)
        for i, value in enumerate(network.get_weights()):
            results[f"{name}/{i}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
