"""Installs dist/ into an empty environment and goes from nothing to served.

    python -m build && python tools/check_wheel.py --extra jax

With `--sdist` from the source distribution. Prints how long `import keras` and
`import keras_sn` on top of it take.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")

# As a user would: train, save, load, fold, bound.
PROGRAM = """
import time
start = time.perf_counter()
import keras
after_keras = time.perf_counter()
import keras_sn
print(f"import keras {after_keras - start:.2f} s, keras_sn on top "
      f"{time.perf_counter() - after_keras:.2f} s")
import pathlib
import numpy as np
assert (pathlib.Path(keras_sn.__file__).parent / "py.typed").exists()
model = keras.Sequential([
    keras.Input((4,)),
    keras_sn.SpectralNormalization(keras.layers.Dense(3)),
])
model.compile("sgd", "mse")
x = np.ones((8, 4), "float32")
model.fit(x, x[:, :3], verbose=0)
model.save("model.keras")
model = keras.saving.load_model("model.keras")
folded = keras_sn.models.fold_model(model, certified=True)
assert keras_sn.lipschitz.lipschitz_bound(folded).upper <= 1
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extra", required=True)
    parser.add_argument("--sdist", action="store_true")
    parser.add_argument(
        "--backend", help="of an extra that brings none", choices=BACKENDS
    )
    arguments = parser.parse_args()
    ending = "*.tar.gz" if arguments.sdist else "*.whl"
    (package,) = (ROOT / "dist").glob(ending)
    extras = ",".join(filter(None, [arguments.extra, arguments.backend]))
    backend = arguments.backend or arguments.extra
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = pathlib.Path(folder, "bin", "python")
        run = {"check": True, "cwd": folder, "env": environment(backend)}
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"{package}[{extras}]"], **run)
        subprocess.run([python, "-c", PROGRAM], **run)
        command = pathlib.Path(folder, "bin", "keras-sn")
        subprocess.run([command, "report", "model.keras"], **run)
    print(f"{package.name}[{extras}]: works", file=sys.stderr)


def environment(backend):
    """That of this process, without this checkout."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return {**kept, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}


if __name__ == "__main__":
    main()
