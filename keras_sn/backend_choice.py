"""Which backend the command line runs on: one that is installed."""

import importlib.util
import json
import os
import pathlib
import sys

_BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend() -> None:
    """Sets `KERAS_BACKEND` where Keras would pick what is not installed.

    Keras takes TensorFlow unless told otherwise, and writes that choice into
    its config file. What was chosen by `KERAS_BACKEND` is left alone.

    Raises:
        ValueError: If the backend chosen, or every one, is not installed.
    """
    if "keras" in sys.modules:
        return
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen:
        if chosen in _BACKENDS and not _is_installed(chosen):
            raise ValueError(_how_to_choose(f"{chosen} is not installed"))
        return
    if _is_installed(_configured()):
        return
    for backend in _BACKENDS:
        if _is_installed(backend):
            os.environ["KERAS_BACKEND"] = backend
            return
    raise ValueError(_how_to_choose("none is installed"))


def _is_installed(backend: str) -> bool:
    return importlib.util.find_spec(backend) is not None


def _configured() -> str:
    """The backend that Keras's config file names."""
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    try:
        config = json.loads((pathlib.Path(home) / "keras.json").read_text())
        return str(config["backend"])
    except (KeyError, OSError, TypeError, ValueError):
        return _BACKENDS[0]


def _how_to_choose(problem: str) -> str:
    return (
        f"Keras needs a backend, and {problem}: `pip install tensorflow`, "
        "`jax` or `torch`, and choose it by KERAS_BACKEND=tensorflow, jax or "
        "torch."
    )
