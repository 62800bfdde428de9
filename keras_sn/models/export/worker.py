"""The process that exports a `.keras` file on another backend.

Called by `export_model` as `python -m keras_sn.models.export.worker FOLDER
PATH FORMAT`, where FOLDER holds `model.keras` and `samples.npz`.
"""

import pathlib
import sys

import keras_sn.layers  # noqa: F401  so that wrappers can be loaded
from keras_sn.models.export.exporting import export_here
from keras_sn.models.export.exporting import read_samples
from keras_sn.models.files import first_line
from keras_sn.models.files import load_model


def main(folder, path, format):
    """Exports; the last line on stderr says why where it fails."""
    folder = pathlib.Path(folder)
    try:
        model = load_model(folder / "model.keras")
        samples = read_samples(folder / "samples.npz")
        export_here(model, pathlib.Path(path), format, samples)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"\n{first_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
