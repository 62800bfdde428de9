"""Reading and writing models on disk: clear errors, whole files only."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import sys
import tempfile
import zipfile

import keras

# Linux swaps two paths in one step; elsewhere a folder is moved in two.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def load_model(path):
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
        kind = type(error).__name__
        raise ValueError(
            f"Cannot load '{path}': {kind}: {first_line(error)}"
        ) from error


def first_line(error):
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def save_model(model, path, overwrite=True):
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
def written_whole(path, overwrite=True):
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


def remove(path):
    """Removes a file or folder, if there is one."""
    path = pathlib.Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_target(path, overwrite):
    """Raises `ValueError` if `path` is no place to write to."""
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"'{path}' exists already; it is not overwritten.")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder '{path.parent}' to write to.")


def _temporary_folder(path):
    try:
        return tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ValueError(
            f"Cannot write to folder '{path.parent}': {error.strerror}."
        ) from error


def _move_into_place(partial, path):
    if not path.is_dir() or not partial.is_dir():
        if path.is_dir():
            raise ValueError(f"'{path}' is a folder; a file cannot replace it.")
        os.replace(partial, path)
        return
    if not _exchanged(partial, path):
        # Beside `partial`, so that it is removed with it.
        os.rename(path, partial.with_name(partial.name + ".old"))
        os.rename(partial, path)


def _exchanged(first, second):
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


def _check_archive(path):
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
