"""Exporting on another backend, by a process of its own."""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_sn.models.export.samples import Arrays
from keras_sn.models.export.samples import Sample

_WORKER = "keras_sn.models.export.worker"


def export_elsewhere(
    model: keras.Model,
    path: pathlib.Path,
    format: str,
    samples: Sequence[Sample],
    tolerance: float,
    backend: str,
) -> None:
    """Exports by a process on another backend.

    Raises:
        RuntimeError: If it fails there.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save(os.path.join(folder, "model.keras"))
        arrays = {
            f"{i}_{kind}_{j}": array
            for i, pair in enumerate(samples)
            for kind, group in zip(("in", "out"), pair, strict=True)
            for j, array in enumerate(group)
        }
        np.savez(
            os.path.join(folder, "samples.npz"), allow_pickle=False, **arrays
        )
        result = subprocess.run(
            [
                *(sys.executable, "-m", _WORKER),
                *(folder, str(path.absolute()), format, str(tolerance)),
            ],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise RuntimeError(
            lines[-1]
            if lines
            else f"The process that exports on {backend} died with exit code "
            f"{result.returncode}."
        )


def read_samples(path: pathlib.Path) -> list[Sample]:
    """The samples that `export_elsewhere` stored."""
    samples: list[Sample] = []
    with np.load(path) as arrays:
        while f"{len(samples)}_in_0" in arrays:
            start = str(len(samples))
            inputs = _numbered(arrays, f"{start}_in_")
            samples.append((inputs, _numbered(arrays, f"{start}_out_")))
    return samples


def _numbered(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{j}"] for j in range(count)]
