"""Training on several devices equals training on one, see the example."""

import keras

from tests.models.processes import ROOT
from tests.models.processes import run_python


def test_example_agrees_with_one_device():
    example = ROOT / "examples" / "distributed.py"
    result = run_python([example], keras.backend.backend(), MASTER_PORT="29533")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "identical" in result.stdout
    assert "False" not in result.stdout
