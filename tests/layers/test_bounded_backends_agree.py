"""Same weights, same data: bounded layers train alike on every backend."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.models.processes import OPTIMIZED
from tests.source import ROOT

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="compares all backends in one run, the one of PyTorch",
)


def trajectory(path, backend):
    subprocess.run(
        [sys.executable, "-m", "tests.layers.bounded_trajectory", str(path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, **OPTIMIZED},
        check=True,
        timeout=600,
    )
    return np.load(path)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return trajectory(tmp_path_factory.mktemp("runs") / "torch.npz", "torch")


@pytest.mark.xdist_group("trajectories")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_weights_and_losses_after_30_steps(backend, reference, tmp_path):
    other = trajectory(tmp_path / "other.npz", backend)
    assert set(other.files) == set(reference.files)
    for key in other.files:
        np.testing.assert_allclose(
            other[key], reference[key], rtol=1e-4, atol=1e-4, err_msg=key
        )
