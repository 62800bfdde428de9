"""The data sets: as many as their publishers say, in the ranges promised."""

import pathlib

import numpy as np
import pytest
from data import FASHION_MNIST
from data import Data
from data import load_images
from data import load_vowels

SIZES = {
    "digits": (1347, 450, (8, 8, 1)),
    "mnist_5k": (3750, 1250, (28, 28, 1)),
    "fashion_mnist": (60000, 10000, (28, 28, 1)),
}


@pytest.mark.parametrize("name", SIZES)
def test_images(name):
    if name == "fashion_mnist" and not pathlib.Path(FASHION_MNIST).is_dir():
        pytest.skip("the Debian package dataset-fashion-mnist is not here")
    train, test, shape = SIZES[name]
    data = load_images(name)
    assert data.x_train.shape == (train, *shape)
    assert data.x_test.shape == (test, *shape)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert data.classes == 10
    counts = np.bincount(np.concatenate([data.y_train, data.y_test]))
    # Digits were written by people, the others are balanced.
    assert counts.min() == counts.max() or name == "digits"


def test_recordings():
    data = load_vowels()
    # As published: 30 a speaker for training, 24 to 88 for the test.
    assert np.bincount(data.y_train).tolist() == [30] * 9
    assert np.bincount(data.y_test).tolist() == [
        *(31, 35, 88, 44, 29, 24, 40, 50, 29)
    ]
    assert data.x_train.shape == (270, 29, 12)
    steps = np.abs(data.x_test).max(axis=2) > 0
    lengths = steps.sum(axis=1)
    assert (lengths.min(), lengths.max()) == (7, 29)
    # What is missing is at the end.
    assert np.array_equal(steps, np.arange(29) < lengths[:, None])
    # The first line of the file.
    assert data.x_train[0, :2, 0] == pytest.approx([1.860936, 1.891651])


def test_the_first_of_both_parts():
    numbers = np.arange(4)
    data = Data(*(numbers,) * 4).first(3, 1)
    assert [len(part) for part in vars(data).values()] == [3, 3, 1, 1]


def test_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        load_images("fashion_mnist", "nowhere")
