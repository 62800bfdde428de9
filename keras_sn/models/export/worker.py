"""The process that exports a `.keras` file on another backend.

Called by `export_model` as `python -m keras_sn.models.export.worker FOLDER
PATH FORMAT TOLERANCE`, where FOLDER holds `model.keras` and `samples.npz`.
"""

import pathlib
import sys

from keras_sn.models.export.exporting import export_here
from keras_sn.models.export.processes import read_samples
from keras_sn.models.files import first_line
from keras_sn.models.files import load_model


def main(folder: str, path: str, format: str, tolerance: str) -> int:
    """Exports; the last line on stderr says why where it fails."""
    source = pathlib.Path(folder)
    try:
        model = load_model(source / "model.keras")
        samples = read_samples(source / "samples.npz")
        target = pathlib.Path(path)
        export_here(model, target, format, samples, float(tolerance))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"\n{first_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
