"""Running Python in a process of its own, on any backend."""

import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
BACKENDS = [
    backend
    for backend in ("tensorflow", "jax", "torch")
    if importlib.util.find_spec(backend)
]

# Undoes what `make test` sets so that XLA compiles in less time.
OPTIMIZED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


def run_python(arguments, backend, **environment):
    """Runs Python; returns the finished process, output as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def run_code(code, backend, *arguments, **environment):
    """Like `run_python` for code given as a string."""
    return run_python(["-c", code, *arguments], backend, **environment)
