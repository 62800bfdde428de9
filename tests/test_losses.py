"""LipschitzMarginCrossentropy: values, training, serialization."""

import math

import keras
import numpy as np
import pytest

from keras_sn.losses import LipschitzMarginCrossentropy


def crossentropy(logits, label):
    return math.log(np.exp(logits).sum()) - logits[label]


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("one_hot", [True, False])
def test_values(one_hot, temperature):
    logits = np.array([[2.0, -1.0, 0.5], [0.1, 0.3, 0.0]], "float32")
    labels = np.array([0, 2])
    loss = LipschitzMarginCrossentropy(
        radius=0.5, lipschitz=2.0, temperature=temperature
    )
    shift = math.sqrt(2) * 2.0 * 0.5
    expected = []
    for row, label in zip(logits.astype("float64"), labels, strict=True):
        row = row + shift
        row[label] -= shift
        expected.append(temperature * crossentropy(row / temperature, label))
    y_true = np.eye(3, dtype="float32")[labels] if one_hot else labels
    value = float(keras.ops.convert_to_numpy(loss(y_true, logits)))
    assert value == pytest.approx(np.mean(expected), rel=1e-5)


def test_no_radius_is_plain_crossentropy():
    logits = np.array([[2.0, -1.0, 0.5]], "float32")
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    margin = LipschitzMarginCrossentropy(radius=0.0)
    labels = np.array([[1]])
    values = [
        float(keras.ops.convert_to_numpy(loss(labels, logits)))
        for loss in (plain, margin)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_round_trip_and_fit():
    loss = LipschitzMarginCrossentropy(
        radius=0.25, lipschitz=3.0, temperature=0.5, name="mine"
    )
    data = keras.saving.serialize_keras_object(loss)
    assert data["registered_name"] == "keras_sn>LipschitzMarginCrossentropy"
    copy = keras.saving.deserialize_keras_object(data)
    assert copy.get_config() == loss.get_config()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", loss)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = x[:, :3].argmax(axis=1)
    history = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_bad_arguments():
    for bad in ({"radius": -1}, {"lipschitz": -1}, {"temperature": 0}):
        with pytest.raises(ValueError, match="must"):
            LipschitzMarginCrossentropy(**bad)


@pytest.mark.parametrize("form", ["flat", "column"])
def test_one_logit(form):
    """The binary crossentropy of the logit moved by `L radius`."""
    logits = np.array([[2.0], [-1.0], [0.3]], "float32")
    labels = np.array([1, 1, 0])
    loss = LipschitzMarginCrossentropy(0.5, lipschitz=2.0, temperature=0.5)
    expected = []
    for (logit,), label in zip(logits, labels, strict=True):
        worst = logit - 1.0 if label else -(logit + 1.0)
        expected.append(0.5 * math.log(1 + math.exp(-worst / 0.5)))
    y_true = labels if form == "flat" else labels[:, None]
    value = float(keras.ops.convert_to_numpy(loss(y_true, logits)))
    assert value == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(ValueError, match="one per sample"):
        loss(np.eye(3), logits)
