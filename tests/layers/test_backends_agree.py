"""Same weights, same u, same data: the same training on every backend."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.models.processes import OPTIMIZED
from tests.thoroughness import EVERYTHING

CHILD = "tests.layers.trajectory"
ROOT = pathlib.Path(__file__).parents[2]
REFERENCE = ("torch", "eager")
# jit on PyTorch is torch.compile. On JAX jit_compile=False is eager once more.
# JAX compiles every eager operation, torch.compile the whole step; TensorFlow
# takes minutes for the loops of an LSTM where it does not compile.
THOROUGH = pytest.mark.skipif(
    not EVERYTHING, reason="takes minutes: run `make test-thorough`"
)
OTHERS = [
    pytest.param("tensorflow", "eager", marks=THOROUGH),
    pytest.param("tensorflow", "compiled", marks=THOROUGH),
    ("tensorflow", "jit"),
    ("jax", "jit"),
    pytest.param("jax", "eager", marks=THOROUGH),
    pytest.param("torch", "jit", marks=THOROUGH),
]

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="compares all backends in one run, the one of PyTorch",
)


def trajectory(folder, backend, mode):
    # JAX compiles the loop of an LSTM anew in each eager step, for seconds.
    slow = (backend, mode) == ("jax", "eager")
    runs = ["kernel/sgd", "kernel/adam"]
    if not slow:
        runs += ["operator/sgd", "operator/adam"]
    if not EVERYTHING:
        runs = ["kernel/adam", "operator/sgd"]
    path = folder / f"{backend}-{mode}.npz"
    if not path.exists():
        subprocess.run(
            [sys.executable, "-m", CHILD, str(path), mode, *runs],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": backend, **OPTIMIZED},
            check=True,
            timeout=600,
        )
    return np.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trajectories")


@pytest.mark.xdist_group("trajectories")
@pytest.mark.parametrize(("backend", "mode"), OTHERS)
def test_weights_and_losses_after_50_steps(backend, mode, folder):
    reference = trajectory(folder, *REFERENCE)
    other = trajectory(folder, backend, mode)
    assert set(other.files) <= set(reference.files)
    for key in other.files:
        np.testing.assert_allclose(
            other[key], reference[key], rtol=1e-4, atol=1e-4, err_msg=key
        )
