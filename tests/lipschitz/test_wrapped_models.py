"""Bounds of models with our wrappers, and of the folded models."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model


def wrapped_dense(norm):
    return keras.Sequential(
        [
            keras.Input((5,)),
            SpectralNormalization(layers.Dense(8, "relu"), norm=norm),
            SpectralNormalization(layers.Dense(3), norm=norm, norm_bound=2.0),
        ]
    )


def wrapped_convolutions(norm):
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            SpectralNormalization(
                layers.Conv2D(4, 3, padding="same", activation="relu"),
                norm=norm,
            ),
            SpectralNormalization(
                layers.Conv2D(4, 3, strides=2, padding="same"),
                norm=norm,
                norm_bound=2.0,
            ),
        ]
    )


# A kernel of norm one amplifies by at most 3 at stride 1, 2 at stride 2.
LARGEST = {
    (wrapped_dense, "kernel"): 2.0,
    (wrapped_dense, "operator"): 2.0,
    (wrapped_convolutions, "kernel"): 12.0,
    (wrapped_convolutions, "operator"): 2.0,
}


@pytest.mark.parametrize(
    ("build", "norm"),
    LARGEST,
    ids=lambda value: getattr(value, "__name__", value),
)
def test_bounds_hold_and_are_near_what_was_asked_for(build, norm):
    model = build(norm)
    rng = np.random.default_rng(0)
    for wrapper in model.layers:
        kernel = wrapper.layer.kernel
        kernel.assign(10 * rng.normal(size=kernel.shape))
        wrapper.refresh()
    folded = fold_model(model)
    report = lipschitz_bound(folded)
    assert 0.1 <= report.lower <= report.upper
    product = lipschitz_bound(model, "product", lower=False).upper
    # Wrappers rest on an estimate from below, rules on one from above.
    assert product <= 1.1 * LARGEST[build, norm]
    if norm == "operator" or build is wrapped_dense:
        assert product >= 0.97 * LARGEST[build, norm]
    assert report.upper <= product
    plain = lipschitz_bound(folded, "product", lower=False).upper
    assert plain == pytest.approx(product, rel=1e-3)
    certified = fold_model(model, certified=True)
    certified = lipschitz_bound(certified, "product", lower=False).upper
    assert certified <= 1.02 * LARGEST[build, norm]


def test_the_wrapped_model_itself_never_beats_its_bound():
    model = wrapped_dense("kernel")
    networks.randomize(model, np.random.default_rng(1))
    for wrapper in model.layers:
        wrapper.refresh()
    points = np.random.default_rng(2).normal(size=(2, 64, 5))
    outputs = [
        np.asarray(keras.ops.convert_to_numpy(model(x.astype("float32"))))
        for x in points
    ]
    rise = np.linalg.norm(outputs[1] - outputs[0], axis=1)
    run = np.linalg.norm(points[1] - points[0], axis=1)
    upper = lipschitz_bound(model, lower=False).upper
    assert (rise / run).max() <= upper * (1 + 1e-5)
