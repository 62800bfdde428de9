"""How many random draws a run makes: all on PyTorch, a sample elsewhere."""

import os

import keras
import pytest

# The mathematics under the random tests is NumPy on every backend, while
# TensorFlow and JAX compile for minutes what is drawn once. `make
# test-thorough` sets the variable and draws everything everywhere.
EVERYTHING = os.environ.get("KERAS_SN_THOROUGH") == "1"


def draws(everything, sample):
    """The number of draws for this run."""
    on_torch = keras.backend.backend() == "torch"
    return everything if EVERYTHING or on_torch else sample


def left_out(*backends, reason):
    """A mark for a test that only `make test-thorough` runs on some backends.

    Args:
        *backends: Their names.
        reason: Why another backend is enough.
    """
    return pytest.mark.skipif(
        keras.backend.backend() in backends and not EVERYTHING,
        reason=f"{reason}; here in `make test-thorough`",
    )


def fuzzing(sample, everything=500):
    """The number of random draws of a fuzzer, on any backend."""
    return everything if EVERYTHING else sample
