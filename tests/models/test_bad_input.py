"""Bad input for the functions that read and write files."""

import os

import keras
import pytest
from keras import layers

from keras_sn.models import export_model
from keras_sn.models import fold_model
from keras_sn.models import normalize_model
from keras_sn.models import upgrade_model
from keras_sn.models.files import save_model
from tests.models.broken_files import UNFIT
from tests.models.broken_files import UNREADABLE
from tests.models.networks import sequential

_FUNCTIONS = {
    "normalize": normalize_model,
    "fold": fold_model,
    "upgrade": upgrade_model,
    "export": lambda model: export_model(model, "served"),
}


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    left = [p for p in tmp_path.iterdir() if p.suffix != ".keras"]
    assert not left


@pytest.mark.parametrize("spoil", UNREADABLE | UNFIT, ids=lambda f: f.__name__)
def test_upgrade_of_a_bad_file(spoil, tmp_path):
    path = tmp_path / "model.keras"
    sequential().save(path)
    spoil(path)
    with pytest.raises(ValueError, match=(UNREADABLE | UNFIT)[spoil]):
        upgrade_model(path)


@pytest.mark.parametrize("name", _FUNCTIONS)
@pytest.mark.parametrize(
    "model",
    [None, 7, keras.Sequential, [sequential]],
    ids=["none", "number", "class", "list"],
)
def test_no_model(name, model):
    with pytest.raises(ValueError, match="Expected a Keras model or layer"):
        _FUNCTIONS[name](model)


@pytest.mark.parametrize("name", _FUNCTIONS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.Sequential([layers.Dense(2)]),
        lambda: keras.Sequential(),
        lambda: layers.Dense(2),
    ],
    ids=["deferred", "empty", "layer"],
)
def test_unbuilt(name, make):
    with pytest.raises(ValueError, match="is not built"):
        _FUNCTIONS[name](make())


def test_fold_without_wrappers_is_a_copy():
    """Folding twice is folding once."""
    model = sequential()
    copy = fold_model(model)
    assert copy is not model
    assert [type(x) for x in copy.layers] == [type(x) for x in model.layers]


@pytest.mark.parametrize(
    ("write", "name"),
    [(export_model, "served"), (save_model, "out.keras")],
    ids=["export", "save"],
)
def test_read_only_folder(write, name, tmp_path):
    # Root may write anywhere but where there is nothing to write to.
    folder = "/proc" if os.getuid() == 0 else "/"
    with pytest.raises(ValueError, match="Cannot write to folder"):
        write(sequential(), f"{folder}/{name}")
    with pytest.raises(ValueError, match="There is no folder"):
        write(sequential(), tmp_path / "nowhere" / name)
