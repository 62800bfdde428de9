"""Tests of the backend that the command line picks."""

import json
import os
import sys

import pytest

from keras_sn import backend_choice
from keras_sn.backend_choice import choose_backend


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Set of the backends that can be found; Keras is not imported yet."""
    names = set()
    monkeypatch.setattr(
        backend_choice, "_is_installed", lambda name: name in names
    )
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")
    return names


def chosen():
    choose_backend()
    return os.environ["KERAS_BACKEND"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # TensorFlow is what Keras takes by itself.
        ({"tensorflow", "torch"}, ""),
        ({"torch"}, "torch"),
        ({"jax"}, "jax"),
        ({"jax", "torch"}, "jax"),
    ],
)
def test_found_among_those_installed(installed, found, expected):
    installed |= found
    assert chosen() == expected


def test_configured(installed, tmp_path):
    installed |= {"jax", "torch"}
    config = tmp_path / "keras.json"
    config.write_text(json.dumps({"backend": "torch"}))
    assert chosen() == ""
    # Keras writes this file by itself.
    config.write_text(json.dumps({"backend": "tensorflow"}))
    assert chosen() == "jax"


def test_configured_by_a_broken_file(installed, tmp_path):
    installed.add("jax")
    (tmp_path / "keras.json").write_text("[")
    assert chosen() == "jax"


def test_none_installed(installed):
    with pytest.raises(ValueError, match=r"none is installed.*pip install"):
        choose_backend()


def test_asked_for_and_not_installed(installed, monkeypatch):
    installed.add("jax")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    message = r"torch is not installed.*=tensorflow"
    with pytest.raises(ValueError, match=message):
        choose_backend()


def test_keras_is_imported_already(installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    choose_backend()
