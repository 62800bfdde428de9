"""What each training tool adds to a step of SGD.

`python -m benchmarks.training_tools` measures the backend of Keras, and writes
benchmarks/training_results/training_tools.json and the tables of
docs/training.md, of that file and of optimizers.json. With arguments it
measures those networks alone and leaves the others as they were.
"""

import json
import pathlib
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from benchmarks.environment import environment
from benchmarks.timing import Effort
from benchmarks.timing import interleaved
from benchmarks.workloads import batch_for
from keras_sn import losses
from keras_sn.callbacks import QKClip
from keras_sn.constraints import SpectralNorm
from keras_sn.constraints import constrain
from keras_sn.layers import BatchCentering
from keras_sn.layers import GroupSort
from keras_sn.layers import Householder
from keras_sn.layers import JointBatchNormalization
from keras_sn.layers import OrthogonalConv2D
from keras_sn.layers import OrthogonalDense
from keras_sn.layers import RandomFeatureGaussianProcess
from keras_sn.layers import SLLConv2D
from keras_sn.layers import SLLDense
from keras_sn.layers import SpectralNormalization
from keras_sn.layers import WeightNormalization
from keras_sn.optimizers import Muon
from keras_sn.regularizers import Orthogonality
from keras_sn.regularizers import SpectralNorm as SpectralPenalty
from keras_sn.regularizers import regularize

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "training_results"
PAGE = ROOT / "docs" / "training.md"
BACKENDS = ("tensorflow", "jax", "torch")
EFFORT = Effort(rounds=5, least_seconds=0.05)


def mlp(kind=keras.Sequential) -> keras.Model:
    """512-512-512-10, for batches of 64."""
    hidden = [layers.Dense(512, activation="relu") for _ in range(2)]
    return kind([keras.Input((512,)), *hidden, layers.Dense(10)])


def convolutions(kind=keras.Sequential) -> keras.Model:
    """Three convolutions 3 x 3 of 64 channels on 16 x 16, batches of 64."""
    model = kind([keras.Input((16, 16, 64))])
    for _ in range(3):
        model.add(layers.Conv2D(64, 3, padding="same", activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10))
    return model


def attention(kind=keras.Model) -> keras.Model:
    """Multi-head attention 128 wide, 4 heads, over 32 tokens."""
    tokens = keras.Input((32, 128))
    return kind(tokens, layers.MultiHeadAttention(4, 32)(tokens, tokens))


class Penalized(keras.Sequential):
    """With a gradient penalty on its batch."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + losses.gradient_penalty(self, x)


def _step(model: keras.Model, optimizer=None) -> Callable[[], None]:
    """A training step on a batch of 64."""
    model.compile(optimizer or keras.optimizers.SGD(1e-4), "mse")
    x, y = batch_for(model, 64)
    return lambda: model.train_on_batch(x, y)


def _wrapped(build, wrap) -> Callable[[], None]:
    """A step of the network with its Dense and Conv2D layers wrapped."""

    def replace(layer):
        copy = type(layer).from_config(layer.get_config())
        linear = isinstance(layer, (layers.Dense, layers.Conv2D))
        return wrap(copy) if linear else copy

    return _step(keras.models.clone_model(build(), clone_function=replace))


def _before_batch_normalization(build, pair) -> Callable[[], None]:
    """The same with pairs: the layer without activation, what is behind."""
    model = keras.Sequential()
    for layer in build().layers:
        if isinstance(layer, (layers.Dense, layers.Conv2D)):
            config = {**layer.get_config(), "activation": None}
            for part in pair(type(layer).from_config(config)):
                model.add(part)
            model.add(layers.Activation(layer.activation))
        else:
            model.add(type(layer).from_config(layer.get_config()))
    model.build(build().input_shape)
    return _step(model)


def _constrained(build, **options) -> Callable[[], None]:
    model = build()
    constrain(model, SpectralNorm(0.5, **options))
    return _step(model)


def _regularized(build, regularizer) -> Callable[[], None]:
    model = build()
    regularize(model, regularizer)
    return _step(model)


def _with_muon(build) -> Callable[[], None]:
    model = build()
    return _step(model, Muon(1e-4, model=model))


def _with_clip() -> Callable[[], None]:
    model = attention()
    step = _step(model)
    clip = QKClip(batch_for(model, 8)[0])
    clip.set_model(model)

    def clipped() -> None:
        step()
        clip.clip()

    return clipped


VARIANTS: dict[str, dict] = {
    "SpectralNormalization": {},
    "clip": {"mode": "clip"},
    "bidirectional": {"norm": "bidirectional"},
    "gain": {"gain": True},
    "norm_bound rms": {"norm_bound": "rms"},
    "norm_bound a schedule": {
        "norm_bound": keras.optimizers.schedules.ExponentialDecay(2.0, 100, 0.9)
    },
    "update_every 2": {"update_every": 2},
    "update_every 10": {"update_every": 10},
}


def _variants(build, norm: str) -> dict[str, Callable[[], None]]:
    steps = {"plain": _step(build())}
    for name, options in VARIANTS.items():
        steps[name] = _wrapped(
            build,
            lambda layer, options=options: SpectralNormalization(
                layer, **{"norm": norm, **options}
            ),
        )
    return steps


def _like(layer) -> dict:
    """Arguments of an orthogonal layer in the place of another."""
    names = ("activation", "use_bias", "filters", "kernel_size", "units")
    config = layer.get_config()
    return {name: config[name] for name in names if name in config}


def _replaced(build, kind, replacement, last=None) -> Callable[[], None]:
    """A step of the network with layers of a kind replaced, but for the last.

    Args:
        build: Makes the network.
        kind: Class of the layers.
        replacement: Function from a layer to the one in its place.
        last: The same for the last layer of the network, if that changes.
    """
    *hidden, logits = build().layers
    model = keras.Sequential()
    for layer in hidden:
        copy = type(layer).from_config(layer.get_config())
        model.add(replacement(layer) if isinstance(layer, kind) else copy)
    copy = layers.Dense.from_config(logits.get_config())
    model.add(copy if last is None else last(logits))
    model.build(build().input_shape)
    return _step(model)


def _with_activation(build, kind, activation) -> Callable[[], None]:
    def replacement(layer):
        config = {**layer.get_config(), "activation": activation()}
        return type(layer).from_config(config)

    return _replaced(build, kind, replacement)


def _dense_layers() -> dict[str, Callable[[], None]]:
    kind = layers.Dense
    return {
        "plain": _step(mlp()),
        "OrthogonalDense": _replaced(
            mlp, kind, lambda layer: OrthogonalDense(**_like(layer))
        ),
        "SLLDense": _replaced(mlp, kind, lambda layer: SLLDense(layer.units)),
        "GroupSort": _with_activation(mlp, kind, GroupSort),
        "Householder": _with_activation(mlp, kind, Householder),
        "BatchCentering": _with_activation(mlp, kind, BatchCentering),
        "RandomFeatureGaussianProcess": _replaced(
            mlp,
            (),
            lambda layer: layer,
            lambda layer: RandomFeatureGaussianProcess(layer.units),
        ),
    }


def _convolutional_layers() -> dict[str, Callable[[], None]]:
    kind = layers.Conv2D
    return {
        "plain": _step(convolutions()),
        "OrthogonalConv2D": _replaced(
            convolutions, kind, lambda layer: OrthogonalConv2D(**_like(layer))
        ),
        "SLLConv2D": _replaced(
            convolutions,
            kind,
            lambda layer: SLLConv2D(layer.filters, layer.kernel_size),
        ),
        "GroupSort": _with_activation(convolutions, kind, GroupSort),
        "Householder": _with_activation(convolutions, kind, Householder),
        "BatchCentering": _with_activation(convolutions, kind, BatchCentering),
    }


LAYERS = {"dense": _dense_layers, "convolution": _convolutional_layers}
NETWORKS = {"dense": (mlp, "kernel"), "convolution": (convolutions, "operator")}


def groups(
    wanted: Sequence[str] = (),
) -> Iterator[tuple[str, dict[str, Callable[[], None]]]]:
    """`(network, {tool: step})`; the first of each is the plain step.

    Args:
        wanted: Names of the networks; none: all of them.
    """
    for name, (build, norm) in NETWORKS.items():
        if not wanted or f"{name}, variants" in wanted:
            yield f"{name}, variants", _variants(build, norm)
    for name, steps_of in LAYERS.items():
        if not wanted or f"{name}, layers" in wanted:
            yield f"{name}, layers", steps_of()
    for name, (build, norm) in NETWORKS.items():
        if wanted and name not in wanted:
            continue
        steps = {
            "plain": _step(build()),
            "WeightNormalization": _wrapped(build, WeightNormalization),
            "the same, SpectralNormalization": _wrapped(
                build,
                lambda layer, norm=norm: SpectralNormalization(
                    WeightNormalization(layer), norm=norm
                ),
            ),
            "BatchNormalization": _before_batch_normalization(
                build, lambda layer: [layer, layers.BatchNormalization()]
            ),
            "JointBatchNormalization": _before_batch_normalization(
                build, lambda layer: [JointBatchNormalization(layer)]
            ),
            "constraint, clip": _constrained(build, method="clip"),
            "constraint, svd": _constrained(build, method="svd"),
            "constraint, soft cap": _constrained(build, method="soft_cap"),
            "constraint, hammer": _constrained(build, method="hammer"),
            "constraint, scale": _constrained(build, method="scale", norm=norm),
            "penalty, spectral norm": _regularized(
                build, SpectralPenalty(0.01, norm)
            ),
            "penalty, orthogonality": _regularized(build, Orthogonality(0.01)),
            "gradient penalty": _step(build(Penalized)),
            "keras AdamW": _step(build(), keras.optimizers.AdamW(1e-4)),
            "keras Muon": _step(build(), keras.optimizers.Muon(1e-4)),
            "Muon": _with_muon(build),
        }
        yield name, steps
    if not wanted or "attention" in wanted:
        yield "attention", {"plain": _step(attention()), "QKClip": _with_clip()}


def measured(wanted: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Time by that of the plain step, `{network: {tool: ratio}}`."""
    found = {}
    for name, steps in groups(wanted):
        for step in steps.values():
            for _ in range(3):
                step()
        samples = interleaved(steps, EFFORT)
        plain = np.array(samples["plain"])
        found[name] = {
            tool: float(np.median(np.array(taken) / plain))
            for tool, taken in samples.items()
        }
        found[name]["plain, ms"] = float(1e3 * np.median(plain))
        print(name, found[name], flush=True)
    return found


def overhead_table(results: dict) -> str:
    """A row for each network and tool."""
    backends = [backend for backend in BACKENDS if backend in results]
    facts = [results[backend]["run"] for backend in backends]
    versions = "; ".join(
        ", ".join(f"{name} {v}" for name, v in run["versions"].items())
        for run in facts
    )
    later = results[backends[0]].get("later", {})
    dates = "".join(f" ({name}: {run['date']})" for name, run in later.items())
    lines = [
        f"{facts[0]['processor']}, {facts[0]['cores']} cores, "
        f"{facts[0]['date']}{dates}. Versions: {versions}.",
        "",
        "| network | tool | " + " | ".join(backends) + " |",
        "| --- " * (2 + len(backends)) + "|",
    ]
    ratios = {backend: results[backend]["ratios"] for backend in backends}
    first = ratios[backends[0]]
    for network, tools in first.items():
        for tool in tools:
            cells = [
                f"{ratios[backend].get(network, {}).get(tool, np.nan):.2f}"
                for backend in backends
            ]
            lines.append(f"| {network} | {tool} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison_table(results: dict) -> str:
    """A row for each data set and optimizer, and the times of a step."""
    lines = [
        "| data, target | optimizer | learning rate | steps of the seeds "
        "| median |",
        "| --- | --- | --- | --- | --- |",
    ]
    for data, found in results["steps"].items():
        for name, row in found["rows"].items():
            steps = ", ".join(map(str, row["steps"]))
            lines.append(
                f"| {data}, {found['target']} | {name} | "
                f"{row['learning_rate']:g} | {steps} | {row['median']:g} |"
            )
    times = results.get("milliseconds", {})
    if times:
        names = next(iter(times.values()))
        lines += [
            "",
            "| step, ms | " + " | ".join(times) + " |",
            "| --- " * (1 + len(times)) + "|",
        ]
        for name in names:
            cells = [f"{found[name]:.2f}" for found in times.values()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page() -> None:
    """Puts the tables between their marks."""
    tables = {
        "overheads": ("training_tools.json", overhead_table),
        "muon comparison": ("optimizers.json", comparison_table),
    }
    page = PAGE.read_text("utf-8")
    for mark, (file, table) in tables.items():
        path = RESULTS / file
        if not path.exists():
            continue
        start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
        before, rest = page.split(start)
        _, after = rest.split(end)
        text = table(json.loads(path.read_text("utf-8")))
        page = before + start + text + "\n" + end + after
    PAGE.write_text(page, "utf-8")


def main() -> None:
    """Measures, and writes the page."""
    path = RESULTS / "training_tools.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    # The load before this one makes its own.
    run = environment([])
    run["command"] += ".training_tools"
    backend, wanted = keras.backend.backend(), sys.argv[1:]
    kept = results.get(backend) if wanted else None
    found = measured(wanted)
    if kept is None:
        results[backend] = {"run": run, "ratios": found}
    else:
        kept["ratios"].update(found)
        kept.setdefault("later", {}).update(dict.fromkeys(found, run))
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    write_page()


if __name__ == "__main__":
    main()
