"""The same training with each tool on every backend, 30 steps."""

import keras
import numpy as np
import pytest

from tests.models.processes import OPTIMIZED
from tests.models.processes import run_python

CHILD = "tests.training.trajectory"
TOLERANCE = 1e-4

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="compares all backends in one run, the one of PyTorch",
)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")

    def of(backend):
        path = folder / f"{backend}.npz"
        if not path.exists():
            result = run_python(["-m", CHILD, path], backend, **OPTIMIZED)
            assert result.returncode == 0, result.stderr
        return np.load(path)

    return of


@pytest.mark.xdist_group("training_trajectories")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_weights_and_losses_after_30_steps(backend, trajectory):
    reference, other = trajectory("torch"), trajectory(backend)
    assert set(other.files) == set(reference.files)
    for key in other.files:
        np.testing.assert_allclose(
            other[key],
            reference[key],
            rtol=TOLERANCE,
            atol=TOLERANCE,
            err_msg=key,
        )
