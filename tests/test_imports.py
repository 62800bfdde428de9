"""Tests of what `import keras_sn` and the command line load, and when."""

import sys
import time

import keras
import pytest
from keras import layers

import keras_sn
from tests.models.processes import run_code
from tests.models.processes import run_python
from tests.thoroughness import left_out

_LOADED = """
import sys
{first}
print("keras" in sys.modules, "keras_sn.lipschitz" in sys.modules)
"""
# As the console script that pip writes.
_SCRIPT = """
import sys
sys.argv = ["/usr/bin/keras-sn", *sys.argv[1:]]
from keras_sn.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print("keras" in sys.modules)
sys.exit(code)
"""


once = left_out(
    "jax", "tensorflow", reason="what is imported is the same everywhere"
)


def backend():
    return keras.backend.backend()


@once
def test_file_loads_after_the_import_alone(tmp_path):
    inner = keras_sn.SpectralNormalization(layers.Dense(2))
    model = keras.Sequential([keras.Input((3,)), inner])
    model.compile("sgd", "mse", metrics=[keras_sn.metrics.CertifiedAccuracy(1)])
    model.save(tmp_path / "model.keras")
    code = (
        "import keras_sn, keras, sys\n"
        "print(keras.saving.load_model(sys.argv[1]).layers[0].norm)"
    )
    result = run_code(code, backend(), tmp_path / "model.keras")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["kernel"]


@once
def test_the_rest_is_loaded_on_first_use():
    code = _LOADED.format(first="import keras_sn")
    code += 'keras_sn.lipschitz; print("keras_sn.lipschitz" in sys.modules)'
    result = run_code(code, backend())
    assert result.stdout.split() == ["True", "False", "True"], result.stderr


@pytest.mark.parametrize("name", keras_sn.__all__)
def test_public_names(name):
    assert getattr(keras_sn, name) is not None
    assert name in dir(keras_sn)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'spectral'"):
        keras_sn.spectral  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["report", "--help"], 0), (["fold", "x"], 2)],
)
def test_arguments_are_answered_without_keras(arguments, code):
    result = run_code(_SCRIPT, backend(), *arguments)
    assert result.returncode == code
    assert result.stdout.split()[-1] == "False"


def test_help_is_quick():
    """The target is 0.3 s, the fastest of a few on a busy machine."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        result = run_python(["-m", "keras_sn", "--help"], backend())
        times.append(time.perf_counter() - start)
        assert result.returncode == 0
        assert "usage: keras-sn" in result.stdout
    assert min(times) < 0.3


@once
def test_other_program_of_the_kind():
    """A module run by `python -m` that imports keras_sn is no command line."""
    code = "import sys\n{}\nprint('keras_sn.layers' in sys.modules)"
    patch = "sys.argv, sys.orig_argv = ['-m'], ['python', '-m', 'other']"
    code = code.format(f"{patch}\nimport keras_sn")
    result = run_code(code, backend())
    assert result.stdout.split() == ["True"], result.stderr


def test_repeated_names_of_the_command_line():
    """What `--help` lists without importing what knows it."""
    from keras_sn import cli
    from keras_sn.lipschitz.bound import check_method
    from keras_sn.models.export.artifacts import FORMATS

    assert set(cli.FORMATS) == set(FORMATS)
    for method in cli.METHODS:
        check_method(method)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        check_method("?")
    assert all(repr(method) in str(error.value) for method in cli.METHODS)
    assert str(error.value).count("'") == 2 * (len(cli.METHODS) + 1)
    assert sys.modules["keras_sn.cli"] is cli
