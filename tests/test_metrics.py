"""CertifiedAccuracy: values, compile, serialization."""

import math

import keras
import numpy as np
import pytest

from keras_sn.metrics import CertifiedAccuracy


@pytest.mark.parametrize("form", ["flat", "column", "one_hot"])
def test_values(form):
    needed = math.sqrt(2) * 2.0 * 0.5
    logits = np.array(
        [
            [needed + 0.01, 0.0, -1.0],
            [needed - 0.01, 0.0, -1.0],
            [0.0, 5.0, 1.0],
            [0.0, 5.0, 1.0],
        ],
        "float32",
    )
    labels = np.array([0, 0, 1, 2])
    y_true = {
        "flat": labels,
        "column": labels[:, None],
        "one_hot": np.eye(3, dtype="float32")[labels],
    }[form]
    metric = CertifiedAccuracy(radius=0.5, lipschitz=2.0)
    metric.update_state(y_true, logits)
    assert float(metric.result()) == 0.5
    metric.reset_state()
    metric.update_state(y_true, logits, sample_weight=[1, 0, 0, 0])
    assert float(metric.result()) == 1.0


def test_round_trip_and_evaluate():
    metric = CertifiedAccuracy(0.1, lipschitz=3.0, name="mine")
    data = keras.saving.serialize_keras_object(metric)
    assert data["registered_name"] == "keras_sn>CertifiedAccuracy"
    copy = keras.saving.deserialize_keras_object(data)
    assert copy.get_config() == metric.get_config()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[CertifiedAccuracy(0.0), "accuracy"],
    )
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    y = x.argmax(axis=1)
    results = model.evaluate(x, y, return_dict=True, verbose=0)
    assert results["certified_accuracy"] == pytest.approx(results["accuracy"])


def test_bad_arguments():
    with pytest.raises(ValueError, match="negative"):
        CertifiedAccuracy(-1.0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(np.ones((4, 1)), 0.25), (np.zeros((4, 1)), 0.25), (np.zeros(4), 0.25)],
)
def test_one_logit(labels, expected):
    """Right is what has the sign of the class, by more than `L radius`."""
    logits = np.array([[-5.0], [-1.0], [2.0], [0.1]], "float32")
    metric = CertifiedAccuracy(radius=1.0, lipschitz=1.5)
    metric.update_state(labels, logits)
    assert float(metric.result()) == expected
    certified = CertifiedAccuracy(radius=10.0, lipschitz=1.0)
    certified.update_state(labels, logits)
    assert float(certified.result()) == 0


def test_one_logit_takes_one_label():
    metric = CertifiedAccuracy(radius=1.0)
    with pytest.raises(ValueError, match="one per sample"):
        metric.update_state(np.eye(2), np.ones((2, 1), "float32"))
