"""How many random draws a run makes: all on PyTorch, a sample elsewhere."""

import os

import keras

# The mathematics under the random tests is NumPy on every backend, while
# TensorFlow and JAX compile for minutes what is drawn once. `make
# test-thorough` sets the variable and draws everything everywhere.
EVERYTHING = os.environ.get("KERAS_SN_THOROUGH") == "1"


def draws(everything, sample):
    """The number of draws for this run."""
    on_torch = keras.backend.backend() == "torch"
    return everything if EVERYTHING or on_torch else sample


def fuzzing(sample, everything=500):
    """The number of random draws of a fuzzer, on any backend."""
    return everything if EVERYTHING else sample
