"""Fixtures for all tests: fixed seeds, one policy, memory given back."""

import ctypes
import gc
import os
import pathlib
import sys

import pytest

# Two processes stay below 5 GiB, with room for what one test takes. Forgetting
# after each file as well took JAX more time for no lower peak that matters.
_MUCH_MEMORY = 1.5 * 2**30
# What cannot be given back is not asked for again before there is more of it.
_MORE_MEMORY = 0.3 * 2**30
_limit = [_MUCH_MEMORY]


def pytest_collection_modifyitems(items):
    # Here as well: only the processes that run tests collect them.
    from tests.thoroughness import share

    share(items)


@pytest.fixture(autouse=True)
def _fresh_keras():
    # Here, so that the process that only hands out tests does without.
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session()
    # That collected garbage. What is left are the modules of the backend,
    # half a million objects that it need not look through after each test.
    gc.freeze()
    if _resident_memory() > _limit[0]:
        _give_memory_back()
        _limit[0] = max(_MUCH_MEMORY, _resident_memory() + _MORE_MEMORY)


def _give_memory_back():
    """Forgets what was compiled; most tests need little of it again."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    import keras

    # What was alive after some test and is frozen may be garbage by now.
    gc.unfreeze()
    keras.utils.clear_session()
    gc.freeze()
    # The C library keeps what is freed for later, gigabytes of it.
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _resident_memory():
    """Bytes of this process in memory; 0 where the system does not say."""
    statistics = pathlib.Path("/proc/self/statm")
    if not statistics.exists():
        return 0
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
