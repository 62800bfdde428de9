"""Fixtures for all tests: fixed seeds, the float32 policy restored."""

import gc

import keras
import pytest


@pytest.fixture(autouse=True)
def _fresh_keras():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session()
    # That collected garbage. What is left are the modules of the backend,
    # half a million objects that it need not look through after each test.
    gc.freeze()
