"""Trains networks of bounded layers and writes their weights: a test's child.

KERAS_BACKEND=jax python -m tests.layers.bounded_trajectory OUT.npz
"""

import sys

import keras
import numpy as np

from keras_sn import layers

STEPS, BATCH = 30, 16


def orthogonal():
    """Layers that keep distances."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.OrthogonalConv2D(6, 3),
            layers.GroupSort(),
            layers.OrthogonalConv2D(8, 3, strides=2, padding="circular"),
            layers.Householder(),
            layers.SLLConv2D(4, 3),
            layers.NormPooling2D(),
            layers.InvertibleDownsampling2D(),
            keras.layers.Flatten(),
            layers.OrthogonalDense(12),
            layers.GroupSort(3),
            layers.SLLDense(8),
            keras.layers.Dense(3),
        ]
    )


def normalized():
    """Pairs with a BatchNormalization, and a Gaussian process."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.JointBatchNormalization(keras.layers.Conv2D(6, 3)),
            keras.layers.Activation("tanh"),
            keras.layers.Flatten(),
            layers.JointBatchNormalization(keras.layers.Dense(8)),
            layers.RandomFeatureGaussianProcess(
                3, features=32, likelihood="gaussian"
            ),
        ]
    )


def variants():
    """Each variant of the wrapper, one weight normalized, one centred."""
    wrap = layers.SpectralNormalization
    schedule = keras.optimizers.schedules.ExponentialDecay(2.0, 10, 0.8)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            wrap(keras.layers.Conv2D(4, 3), norm="bidirectional", gain=True),
            layers.BatchCentering(),
            keras.layers.Activation("tanh"),
            wrap(
                keras.layers.Conv2D(4, 3, strides=2),
                norm="operator",
                norm_bound="rms",
            ),
            keras.layers.Flatten(),
            wrap(keras.layers.Dense(8), norm_bound=schedule, update_every=3),
            layers.WeightNormalization(keras.layers.Dense(8)),
            wrap(layers.WeightNormalization(keras.layers.Dense(3))),
        ]
    )


NETWORKS = {
    "orthogonal": orthogonal,
    "normalized": normalized,
    "variants": variants,
}
# What follows from the others, or is fixed, or counts.
_KEPT = ("moving_", "frequencies", "phases", "precision", "age", "training_")


def set_initial_state(model, rng):
    """Values of the trainable weights, the same on every backend."""
    for variable in model.variables:
        if variable.name.startswith(_KEPT):
            continue
        value = rng.standard_normal(tuple(variable.shape))
        if variable.name.startswith(("vector_", "previous_u")):
            value /= np.linalg.norm(value, axis=-1, keepdims=True)
        variable.assign((0.5 * value).astype("float32"))
    for layer in model.layers:
        if isinstance(layer, layers.SpectralNormalization):
            # Its subspace must be orthonormal.
            layer.refresh()


def train(make):
    """Weights after training on fixed batches, and the losses."""
    rng = np.random.default_rng(0)
    model = make()
    set_initial_state(model, rng)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.5), "mse")
    inputs = rng.standard_normal((STEPS * BATCH, 8, 8, 2)).astype("float32")
    targets = rng.standard_normal((STEPS * BATCH, 3)).astype("float32")
    history = model.fit(
        inputs, targets, batch_size=BATCH, shuffle=False, verbose=0
    )
    return [*model.get_weights(), np.array(history.history["loss"])]


def main(path):
    results = {}
    for name, make in NETWORKS.items():
        for i, value in enumerate(train(make)):
            results[f"{name}/{i:02}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
