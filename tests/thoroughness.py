"""How much a run makes: everything on PyTorch, a sample elsewhere."""

import collections
import os
import zlib

import keras
import pytest

# The mathematics under the random tests is NumPy on every backend, while
# TensorFlow and JAX compile for minutes what is drawn once. `make
# test-thorough` sets the variable and draws everything everywhere.
EVERYTHING = os.environ.get("KERAS_SN_THOROUGH") == "1"

# Of a table of that many cases or more TensorFlow and JAX take a third each,
# by their names; PyTorch takes them all. Not of one marked `on_every_backend`.
_LONG_TABLE = 6
_THIRDS = ("tensorflow", "jax", "torch")


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


def share(items):
    """Marks the cases of long tables that are left to other backends.

    Args:
        items: The collected tests.
    """
    backend = keras.backend.backend()
    if EVERYTHING or backend == "torch":
        return
    tables = collections.defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and not item.get_closest_marker(
            "on_every_backend"
        ):
            tables[item.nodeid.partition("[")[0]].append(item)
    for cases in tables.values():
        if len(cases) >= _LONG_TABLE:
            for case in cases:
                # Of the name alone, so that each process draws the same.
                third = zlib.crc32(case.nodeid.encode()) % len(_THIRDS)
                if _THIRDS[third] != backend:
                    case.add_marker(_NOT_IN_THIS_THIRD)


_NOT_IN_THIS_THIRD = pytest.mark.skip(
    reason="the cases of a long table are shared out, all run on torch and in "
    "`make test-thorough`"
)
