"""RandomFeatureGaussianProcess against numpy, and on data it was not shown."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_sn.callbacks import ResetCovariance
from keras_sn.layers import OrthogonalDense
from keras_sn.layers import RandomFeatureGaussianProcess
from keras_sn.layers import mean_field_logits
from tests.layers.harness import Harness
from tests.truth import to_numpy

FACTOR = math.pi / 8


def data(count=40, inputs=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, inputs)).astype("float32")


def built(likelihood, **options):
    head = RandomFeatureGaussianProcess(
        3, features=24, likelihood=likelihood, ridge=0.5, **options
    )
    head.build((None, 3))
    rng = np.random.default_rng(1)
    head.kernel.assign(rng.standard_normal((24, 3)).astype("float32"))
    head.bias.assign(rng.standard_normal(3).astype("float32"))
    return head


def features_by_numpy(head, inputs):
    frequencies = to_numpy(head.frequencies)
    angles = inputs / head.length_scale @ frequencies + to_numpy(head.phases)
    return np.sqrt(2 / head.features) * np.cos(angles)


def weights_by_numpy(likelihood, logits):
    if likelihood == "gaussian":
        return np.ones((len(logits), 1))
    if likelihood == "binary":
        p = 1 / (1 + np.exp(-logits))
    else:
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        p = p.max(axis=1, keepdims=True)
    return p * (1 - p)


@pytest.mark.parametrize("likelihood", ["categorical", "binary", "gaussian"])
def test_covariance_and_logits_by_numpy(likelihood):
    head = built(likelihood, length_scale=1.5)
    batches = [data(seed=1), data(seed=2)]
    outputs = [to_numpy(head(x, training=True)) for x in batches]
    seen = np.concatenate([features_by_numpy(head, x) for x in batches])
    logits = seen @ to_numpy(head.kernel) + to_numpy(head.bias)
    np.testing.assert_allclose(np.concatenate(outputs), logits, atol=1e-4)
    weights = weights_by_numpy(likelihood, logits)
    new = data(count=7, seed=3)
    features = features_by_numpy(head, new)
    covariances = [
        features
        @ np.linalg.inv(0.5 * np.eye(24) + seen.T @ (w[:, None] * seen))
        @ features.T
        for w in weights.T
    ]
    found = to_numpy(head.covariance(new))
    expected = np.stack(covariances)
    if likelihood != "binary":
        expected = expected[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    variance = np.stack([np.diag(c) for c in covariances], axis=1)
    np.testing.assert_allclose(
        to_numpy(head.variance(new)), variance, rtol=1e-3, atol=1e-4
    )
    raw = features @ to_numpy(head.kernel) + to_numpy(head.bias)
    np.testing.assert_allclose(
        to_numpy(head(new)),
        raw / np.sqrt(1 + FACTOR * variance),
        rtol=1e-3,
        atol=1e-3,
    )


def test_features_approximate_the_rbf_kernel():
    head = RandomFeatureGaussianProcess(1, features=20_000, length_scale=2.0)
    head.frequencies = None
    rng = np.random.default_rng(0)
    head.frequencies = rng.standard_normal((3, 20_000)).astype("float32")
    head.phases = rng.uniform(0, 2 * math.pi, 20_000).astype("float32")
    x = data(count=6)
    features = to_numpy(head.random_features(ops.convert_to_tensor(x)))
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    expected = np.exp(-squares / (2 * 2.0**2))
    np.testing.assert_allclose(features @ features.T, expected, atol=0.03)


def test_mean_field_logits_match_the_mean_probability():
    rng = np.random.default_rng(0)
    mean, variance = 1.3, 4.0
    samples = mean + math.sqrt(variance) * rng.standard_normal(200_000)
    expected = np.mean(1 / (1 + np.exp(-samples)))
    logits = mean_field_logits(
        np.full((1, 1), mean, "float32"), np.full((1, 1), variance, "float32")
    )
    found = 1 / (1 + np.exp(-to_numpy(logits)[0, 0]))
    assert found == pytest.approx(expected, abs=0.02)


def test_same_features_on_every_backend():
    head = RandomFeatureGaussianProcess(1, features=4, seed=3)
    head.build((None, 2))
    rng = np.random.default_rng(3)
    expected = rng.standard_normal((2, 4))
    np.testing.assert_allclose(to_numpy(head.frequencies), expected, rtol=1e-6)


def blobs(seed=0):
    """Two classes in the plane."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    centers = np.array([[-1.5, 0.0], [1.5, 0.0]])[labels]
    x = centers + 0.4 * rng.standard_normal((200, 2))
    return x.astype("float32"), labels


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((2,)),
            OrthogonalDense(8),
            RandomFeatureGaussianProcess(2, features=128, name="head"),
        ]
    )


def test_trained_it_is_uncertain_away_from_the_data(tmp_path):
    model = network()
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    x, labels = blobs()
    history = model.fit(
        x, labels, epochs=5, verbose=0, callbacks=[ResetCovariance()]
    )
    assert history.history["accuracy"][-1] > 0.95
    head = model.get_layer("head")
    # One epoch's worth, whatever the number of epochs.
    total = np.trace(to_numpy(head.precision)[0])
    assert 0 < total <= 0.25 * len(x) * 1.1

    outputs = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), outputs, rtol=1e-4, atol=1e-5
    )

    def confidence(inputs):
        logits = model.predict(inputs, verbose=0)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return p.max(axis=1).mean()

    far = x + np.array([0.0, 12.0], "float32")
    assert confidence(x) > confidence(far) + 0.1
    hidden = model.layers[0]
    near_variance = to_numpy(head.variance(hidden(x))).mean()
    far_variance = to_numpy(head.variance(hidden(far))).mean()
    assert far_variance > 1.3 * near_variance


def test_frozen_it_gathers_nothing():
    head = built("gaussian")
    head.trainable = False
    head(data(), training=True)
    assert not to_numpy(head.precision).any()


def test_reset():
    head = built("gaussian")
    head(data(), training=True)
    assert to_numpy(head.precision).any()
    head.reset_covariance()
    assert not to_numpy(head.precision).any()


def test_callback_needs_a_head():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has none"):
        model.fit(
            np.ones((2, 2)),
            np.ones((2, 1)),
            verbose=0,
            callbacks=[ResetCovariance()],
        )


def test_keras_layer_harness():
    Harness("run_layer_test").run_layer_test(
        RandomFeatureGaussianProcess,
        init_kwargs={"units": 2, "features": 8},
        input_data=data(),
        expected_output_shape=(40, 2),
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=3,
        run_training_check=True,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "`units`"),
        ({"features": -1}, "`features`"),
        ({"length_scale": 0.0}, "must be positive"),
        ({"likelihood": "poisson"}, "`likelihood`"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        RandomFeatureGaussianProcess(**{"units": 2, **options})
