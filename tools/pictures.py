"""The pictures of the README and the site, from runs.

    python tools/pictures.py      # docs/assets: report.svg, served.svg

A minute on two cores. The three backends have to be installed.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
ASSETS = ROOT / "docs" / "assets"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
EPOCHS = 12
WIDTH = 32


def served_norms():
    """Norm of what a Dense layer computes at inference, after each epoch.

    The kernel starts at norm 10; what is learned is a rotation.

    Returns:
        `{"no wrapper" | "stock layer" | "keras_sn": list of norms}`.
    """
    import keras
    import numpy as np

    import keras_sn

    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, WIDTH)).astype("float32")
    y = x @ np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    kernel = rng.standard_normal((WIDTH, WIDTH)).astype("float32")
    kernel *= 10 / np.linalg.norm(kernel, 2)
    wrappers = {
        "no wrapper": lambda layer: layer,
        "stock layer": keras.layers.SpectralNormalization,
        "keras_sn": keras_sn.SpectralNormalization,
    }
    norms = {}
    for name, wrapper in wrappers.items():
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense(WIDTH, use_bias=False)
        model = keras.Sequential([keras.Input((WIDTH,)), wrapper(dense)])
        dense.kernel.assign(kernel)
        model.compile(keras.optimizers.Adam(3e-3), "mse")
        norms[name] = []
        for _ in range(EPOCHS):
            model.fit(x, y, verbose=0)
            matrix = model.predict(np.eye(WIDTH, dtype="float32"), verbose=0)
            norms[name].append(float(np.linalg.norm(matrix, 2)))
    return norms


def draw_served(norms):
    """Norms on each backend beside each other; `norms` by backend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, len(norms), sharey=True)
    styles = {"no wrapper": ":", "stock layer": "--", "keras_sn": "-"}
    for panel, (backend, lines) in zip(panels, norms.items(), strict=True):
        for name, values in lines.items():
            steps = range(1, EPOCHS + 1)
            panel.plot(steps, values, styles[name], label=name, linewidth=2)
        panel.set(title=BACKENDS[backend], yscale="log", xlabel="epoch")
        panel.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        panel.grid(alpha=0.3)
        panel.minorticks_off()
    panels[0].set_ylabel("norm of what is served")
    panels[-1].legend()
    figure.savefig(ASSETS / "served.svg", metadata={"Date": None})


def draw_report():
    """What `keras-sn report` prints, as a terminal shows it."""
    import keras
    from rich.console import Console

    from keras_sn.lipschitz import lipschitz_bound
    from keras_sn.models import normalize_model

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            keras.layers.Conv2D(16, 3, activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(2, name="pool"),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv2"),
            keras.layers.GlobalAveragePooling2D(name="average"),
            keras.layers.Dense(10, name="logits"),
        ],
        name="digits",
    )
    model = normalize_model(model, norm="operator")
    with open(os.devnull, "w") as nowhere:
        console = Console(
            record=True, width=76, file=nowhere, force_terminal=True
        )
        call = 'lipschitz_bound(model, "product")'
        console.print(f">>> console.print({call})", highlight=False)
        console.print(lipschitz_bound(model, "product"))
    picture = console.export_svg(title="keras_sn")
    # A picture in a page fetches nothing.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    (ASSETS / "report.svg").write_text(picture, "utf-8")


def main():
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(served_norms()))
        return
    norms = {}
    for backend in BACKENDS:
        done = subprocess.run(
            [sys.executable, __file__, "--measure"],
            env={**os.environ, "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        norms[backend] = json.loads(done.stdout.splitlines()[-1])
        print(backend, {k: round(v[-1], 3) for k, v in norms[backend].items()})
    draw_served(norms)
    draw_report()


if __name__ == "__main__":
    main()
