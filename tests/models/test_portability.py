"""Files written by one backend and read by the others."""

import keras
import numpy as np
import pytest

from keras_sn.models import normalize_model
from tests.models.networks import NETWORKS
from tests.models.networks import assert_close
from tests.models.networks import fit_one_step
from tests.models.networks import randomized
from tests.models.processes import BACKENDS
from tests.models.processes import run_code
from tests.thoroughness import EVERYTHING
from tests.thoroughness import draws

# JAX and TensorFlow compile the loops of an LSTM for long.
_NAMES = ["mobile", "transformer", *(["lstm"] if EVERYTHING else [])]
_WRITTEN = [
    network
    for network in NETWORKS
    if network.name in draws(_NAMES, sample=["mobile"])
]


def predicted(model, inputs):
    """Outputs of the compiled model, which JAX computes sooner than eagerly."""
    outputs = model.predict(inputs, verbose=0)
    return [x.astype("float64") for x in keras.tree.flatten(outputs)]


def read_back(folder):
    """Compares what the files in `folder` compute with what was written."""
    written = [n for n in NETWORKS if (folder / f"{n.name}.npz").exists()]
    for network in written:
        inputs = network.inputs(seed=2)
        with np.load(f"{folder}/{network.name}.npz") as stored:
            expected = [stored[name] for name in stored.files]
        path = f"{folder}/{network.name}.keras"
        # A model compiled on JAX asks for jit_compile, which takes PyTorch a
        # minute per model.
        model = keras.saving.load_model(path, compile=False)
        assert_close(expected, predicted(model, inputs), 1e-5)
        for variable in model.weights:
            variable.assign(np.zeros(variable.shape))
        model.load_weights(f"{folder}/{network.name}.weights.h5")
        assert_close(expected, predicted(model, inputs), 1e-5)
    return len(written)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models trained and saved by the backend that runs the tests."""
    folder = tmp_path_factory.mktemp("portable")
    for network in _WRITTEN:
        keras.utils.set_random_seed(0)
        model = normalize_model(randomized(network.make()))
        fit_one_step(model, network)
        np.savez(
            folder / f"{network.name}.npz",
            *predicted(model, network.inputs(seed=2)),
        )
        model.save(folder / f"{network.name}.keras")
        model.save_weights(folder / f"{network.name}.weights.h5")
    return folder


@pytest.mark.parametrize("reader", BACKENDS)
def test_written_here_read_there(folder, reader):
    if reader == keras.backend.backend():
        assert read_back(folder)
        return
    code = (
        "import pathlib, sys, keras_sn.layers\n"
        "from tests.models.test_portability import read_back\n"
        "print('compared', read_back(pathlib.Path(sys.argv[1])))"
    )
    result = run_code(code, reader, folder)
    assert f"compared {len(_WRITTEN)}" in result.stdout, result.stderr
