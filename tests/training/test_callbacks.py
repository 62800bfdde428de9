"""Callbacks: what the logs hold, what attention is left with."""

import csv

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.callbacks import LipschitzMonitor
from keras_sn.callbacks import QKClip
from keras_sn.callbacks import SpectralNormMonitor
from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from tests.training.models import batches
from tests.truth import to_numpy


def small_model():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="relu", name="first"),
            SpectralNormalization(layers.Dense(3), name="second"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def test_norms_in_logs_and_file(tmp_path):
    model = small_model()
    x, y = batches(1, (6,))[0]
    path = tmp_path / "log.csv"
    monitor = SpectralNormMonitor(plot=tmp_path / "norms.png")
    history = model.fit(
        x,
        y,
        epochs=3,
        verbose=0,
        callbacks=[monitor, keras.callbacks.CSVLogger(path)],
    ).history
    key = "spectral_norm/first/kernel"
    true = np.linalg.norm(to_numpy(model.layers[0].kernel), 2)
    assert history[key][-1] == pytest.approx(true, rel=1e-2)
    assert history[key] == monitor.history[key]
    (wrapped,) = [k for k in history if k.startswith("spectral_norm/second")]
    assert history[wrapped][-1] == pytest.approx(1, rel=1e-2)
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [float(row[key]) for row in rows] == history[key]
    assert (tmp_path / "norms.png").stat().st_size > 1000


def test_early_stopping_and_lipschitz(tmp_path):
    model = small_model()
    x, y = batches(1, (6,))[0]
    monitor = LipschitzMonitor(lower=True, time_limit=5.0)
    stop = keras.callbacks.EarlyStopping(
        "lipschitz_upper", min_delta=1e6, mode="min"
    )
    history = model.fit(
        x, y, epochs=5, verbose=0, callbacks=[monitor, stop]
    ).history
    assert len(history["lipschitz_upper"]) == 2
    report = lipschitz_bound(model, lower=False)
    assert history["lipschitz_upper"][-1] == pytest.approx(report.upper)
    assert 0 < history["lipschitz_lower"][-1] <= report.upper


def test_now_and_then():
    model = small_model()
    x, y = batches(1, (6,))[0]
    monitor = SpectralNormMonitor(norm="kernel", every=2)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[monitor]).history
    assert monitor.epochs == [0, 2]
    norms = history["spectral_norm/first/kernel"]
    assert norms[0] == norms[1]
    assert norms[2] == norms[3] != norms[0]
    model.fit(x, y, verbose=0, callbacks=[monitor])
    assert monitor.epochs == [0]


def logits(layer, x):
    """The logits of each head, written out in NumPy."""
    weights = {v.path.split("/", 1)[1]: to_numpy(v) for v in layer.weights}
    query = np.einsum("btd,dhk->bthk", x, weights["query/kernel"])
    query = query + weights["query/bias"]
    key = np.einsum("btd,dhk->bthk", x, weights["key/kernel"])
    key = key + weights["key/bias"]
    key = np.repeat(key, query.shape[2] // key.shape[2], axis=2)
    scores = np.einsum("bthk,bshk->hbts", query, key)
    return scores / np.sqrt(query.shape[-1])


def attention_model(kind):
    attention = {
        "multi": lambda: layers.MultiHeadAttention(3, 4, name="attention"),
        "grouped": lambda: layers.GroupQueryAttention(
            4, 6, 2, name="attention"
        ),
    }[kind]()
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, attention(inputs, inputs))
    rng = np.random.default_rng(0)
    for variable in attention.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model, attention


@pytest.mark.parametrize("kind", ["multi", "grouped"])
def test_heads_above_the_threshold_are_brought_to_it(kind):
    model, attention = attention_model(kind)
    x = np.random.default_rng(1).normal(size=(6, 5, 8)).astype("float32")
    before = logits(attention, x)
    largest = before.max(axis=(1, 2, 3))
    threshold = float(np.median(largest)) + 1e-3
    clip = QKClip(x, threshold)
    clip.set_model(model)
    np.testing.assert_allclose(
        clip.largest_logits()["attention"], largest, rtol=1e-4
    )
    clip.clip()
    after = logits(attention, x)
    factors = np.minimum(1, threshold / largest)
    assert (factors < 1).any()
    assert (factors == 1).any()
    # All logits of a head are scaled, and no other head's.
    expected = before * factors[:, None, None, None]
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-4)


def test_clip_in_training():
    """On every backend the weights that training goes on with are clipped."""
    model, attention = attention_model("multi")
    x = np.random.default_rng(1).normal(size=(32, 5, 8)).astype("float32")
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    clip = QKClip(x[:8], threshold=2.0)
    model.fit(x, x, batch_size=8, epochs=2, verbose=0, callbacks=[clip])
    assert 1.9 < logits(attention, x[:8]).max() < 2.002
    assert "call" not in vars(attention.query_dense)


def test_bad_arguments():
    with pytest.raises(ValueError, match="every"):
        SpectralNormMonitor(every=0)
    with pytest.raises(ValueError, match="norm"):
        SpectralNormMonitor(norm="nuclear")
    with pytest.raises(ValueError, match="method"):
        LipschitzMonitor(method="guess")
    with pytest.raises(ValueError, match="threshold"):
        QKClip(None, threshold=0)
    model = small_model()
    x, y = batches(1, (6,))[0]
    with pytest.raises(ValueError, match="MultiHeadAttention"):
        model.fit(x, y, verbose=0, callbacks=[QKClip(x)])
