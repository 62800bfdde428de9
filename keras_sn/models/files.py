"""Reading and writing models on disk: clear errors, whole files only."""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator

import keras

# So that their classes are known in files.
from keras_sn import layers  # noqa: F401
from keras_sn import losses  # noqa: F401
from keras_sn import metrics  # noqa: F401

_OLD_SUFFIXES = (".h5", ".hdf5")
# Keras says so in words alone.
_UNKNOWN_CLASS = re.compile(r"Could not locate (?P<kind>\w+) '(?P<name>[^']+)'")

# Linux swaps two paths in one step; elsewhere a folder is moved in two.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a `.keras` file in Keras's safe mode.

    Args:
        path: Path of the file.

    Returns:
        The model.

    Raises:
        ValueError: If the file is missing, broken or of another kind, or
            holds a class that is not known here.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"There is no file '{path}'.")
    if path.suffix in _OLD_SUFFIXES and path.is_file():
        raise ValueError(
            f"'{path}' is an HDF5 file, not a `.keras` file. If it holds a "
            "whole model, convert it from Python: "
            f"keras.saving.load_model('{path}').save("
            f"'{path.with_suffix('.keras')}'). If it holds weights alone, "
            "`load_weights` them into the model and save that."
        )
    if path.is_dir() or path.suffix != ".keras":
        raise ValueError(
            f"'{path}' is no `.keras` file. Save the model with "
            "`model.save('name.keras')`."
        )
    _check_archive(path)
    # What Keras raises on a config that makes no sense is whatever that leads
    # to, and so for the `from_config` of anybody's layers.
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:
        raise ValueError(_why_not_loaded(path, error)) from error


def _why_not_loaded(path: pathlib.Path, error: Exception) -> str:
    unknown = _UNKNOWN_CLASS.search(str(error))
    if unknown:
        return (
            f"Cannot load '{path}': its {unknown['kind']} {unknown['name']} is "
            "not known here. Import the module that registers it "
            "(`@keras.saving.register_keras_serializable()`): on the command "
            f"line `keras-sn COMMAND --import my_module {path}`, from Python "
            "before the file is loaded."
        )
    if "safe_mode" in str(error):
        return (
            f"Cannot load '{path}': it holds code, of a Lambda layer, which "
            "is not run from a file here. If you trust it, load the model "
            f"from Python, keras.saving.load_model('{path}', "
            "safe_mode=False), and pass it to the functions of "
            "`keras_sn.models`."
        )
    return f"Cannot load '{path}': {type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def save_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    overwrite: bool = True,
) -> None:
    """Saves a model as a `.keras` file, whole or not at all.

    Args:
        model: The model.
        path: Where to save it.
        overwrite: Whether a file there may be replaced.

    Raises:
        ValueError: If the path is no place to save to.
    """
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ValueError(
            f"A model is saved to a path that ends in '.keras'. "
            f"Received: '{path}'"
        )
    with written_whole(path, overwrite) as partial:
        model.save(partial)


@contextlib.contextmanager
def written_whole(
    path: str | os.PathLike[str], overwrite: bool = True
) -> Iterator[pathlib.Path]:
    """Context in which to write a file or folder that appears at once.

    What is written goes to a path beside it, in the same file system, and
    takes the place of `path` in one step when the context ends well. On an
    error nothing is left; killed at any moment, the old file is whole.

    Args:
        path: Where the file or folder shall be.
        overwrite: Whether it may replace another.

    Yields:
        The path to write to, with the same suffix.

    Raises:
        ValueError: If `path` exists and may not be replaced, or its folder
            cannot be written to.
    """
    path = pathlib.Path(path)
    check_target(path, overwrite)
    folder = _temporary_folder(path)
    partial = pathlib.Path(folder) / path.name
    try:
        yield partial
        _move_into_place(partial, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: str | os.PathLike[str]) -> None:
    """Removes a file or folder, if there is one."""
    path = pathlib.Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_target(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises `ValueError` if `path` is no place to write to."""
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"'{path}' exists already; it is not overwritten.")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder '{path.parent}' to write to.")


def _temporary_folder(path: pathlib.Path) -> str:
    try:
        return tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ValueError(
            f"Cannot write to folder '{path.parent}': {error.strerror}."
        ) from error


def _move_into_place(partial: pathlib.Path, path: pathlib.Path) -> None:
    if not path.is_dir() or not partial.is_dir():
        if path.is_dir():
            raise ValueError(f"'{path}' is a folder; a file cannot replace it.")
        os.replace(partial, path)
        return
    if not _exchanged(partial, path):
        # Beside `partial`, so that it is removed with it.
        os.rename(path, partial.with_name(partial.name + ".old"))
        os.rename(partial, path)


def _exchanged(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Swaps two paths in one step, where the system can."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    status = rename(
        _AT_FDCWD,
        os.fsencode(first),
        _AT_FDCWD,
        os.fsencode(second),
        _RENAME_EXCHANGE,
    )
    return status == 0


def _check_archive(path: pathlib.Path) -> None:
    """A truncated file has no directory at its end, or a bad member."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(
            f"'{path}' is broken or no `.keras` file: {first_line(error)}"
        ) from error
    if broken is not None or "config.json" not in names:
        raise ValueError(
            f"'{path}' is broken or no `.keras` file: "
            f"{broken or 'config.json'} is missing or damaged."
        )
