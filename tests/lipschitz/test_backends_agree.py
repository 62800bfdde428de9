"""Chains, bounds on balls and pairs are the same on every backend."""

import json
import os
import pathlib
import subprocess
import sys

import figures
import keras
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="compares all backends in one run, the one of PyTorch",
)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_bounds_and_radii(backend):
    child = subprocess.run(
        [sys.executable, figures.__file__],
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
        timeout=600,
        stdout=subprocess.PIPE,
    )
    found = json.loads(child.stdout)
    for build in figures.MODELS:
        np.testing.assert_allclose(
            found[build.__name__],
            figures.figures(build),
            rtol=1e-5,
            err_msg=build.__name__,
        )
