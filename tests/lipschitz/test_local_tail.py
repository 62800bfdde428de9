"""Local radii where a dense stack is the beginning of a model only."""

import keras
import numpy as np
import pytest
from keras.layers import Dense

from keras_sn.layers import GroupSort
from keras_sn.lipschitz import certified_radius


@pytest.mark.parametrize("hidden", [3, 8])
@pytest.mark.parametrize("outputs", [1, 4])
def test_the_tail_has_another_width(hidden, outputs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            Dense(6, "relu"),
            Dense(hidden),
            # In a group of its own size: not known to a dense stack.
            GroupSort(hidden),
            Dense(outputs),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5)).astype("float32")
    local = certified_radius(model, x, local=True)
    assert (local >= certified_radius(model, x)).all()
    assert (local > 0).any()
    # Just inside, nobody changes class.
    steps = rng.normal(size=(200, 1, 5))
    steps /= np.linalg.norm(steps, axis=-1, keepdims=True)
    moved = x + 0.999 * local[:, None] * steps
    # At once: TensorFlow takes long to begin a prediction.
    points = moved.reshape(-1, 5).astype("float32")
    classes = classes_of(model, points).reshape(200, -1)
    assert (classes == classes_of(model, x)).all()


def classes_of(model, x):
    scores = model.predict(x, verbose=0)
    return scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)
