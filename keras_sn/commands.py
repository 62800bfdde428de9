"""What the commands of `keras-sn` do, each with its parsed arguments."""

import argparse
import contextlib
import json
import math
import pathlib
import sys
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
from rich.console import Console

from keras_sn.lipschitz import LipschitzReport
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import NormReport
from keras_sn.models import export_model
from keras_sn.models import fold_model
from keras_sn.models import norm_report
from keras_sn.models import normalize_model
from keras_sn.models import upgrade_model
from keras_sn.models.export.exporting import format_of
from keras_sn.models.export.samples import load_samples
from keras_sn.models.export.samples import random_inputs
from keras_sn.models.files import load_model
from keras_sn.models.files import save_model
from keras_sn.models.files import written_whole
from keras_sn.models.folding import is_foldable
from keras_sn.models.graph_copy import check_built

# Points that the search for a lower bound starts from.
_STARTS = 8


def report(arguments: argparse.Namespace) -> None:
    """Prints the norms and the network's constant, as a table or as JSON."""
    if arguments.plot:
        _check_free(arguments.plot, arguments.force)
    with _progress("loading the model") as say:
        model = fold_model(load_model(arguments.model))
        norms = norm_report(
            model,
            arguments.norm,
            progress=lambda done, total: say(f"norms: {done} of {total}"),
        )
        network, failure = None, None
        if arguments.lipschitz != "none":
            say("Lipschitz constant of the network")
            # The norms found by now are not lost with it.
            try:
                network = _network_report(model, arguments)
            except Exception as error:
                failure = error
    if arguments.plot:
        _draw(norms, arguments.plot, arguments.force)
    _print(norms, network, arguments.json)
    if failure is not None:
        raise RuntimeError(
            "The network's constant could not be computed: "
            f"{type(failure).__name__}: {failure}"
        ) from failure


def normalize(arguments: argparse.Namespace) -> None:
    """Saves a copy with its layers wrapped."""
    options = {
        name: value
        for name in ("norm", "norm_bound", "mode", "lipschitz")
        if (value := getattr(arguments, name)) is not None
    }
    _rewrite(
        arguments,
        lambda model: normalize_model(model, arguments.layers, **options),
        "normalizing",
    )


def fold(arguments: argparse.Namespace) -> None:
    """Saves a copy without wrappers."""

    def change(model: keras.Model) -> keras.Model:
        check_built(model)
        if not is_foldable(model):
            raise ValueError(
                f"There is no SpectralNormalization in '{arguments.model}', so "
                "there is nothing to fold."
            )
        return fold_model(model, certified=arguments.certified)

    _rewrite(arguments, change, "folding")


def upgrade(arguments: argparse.Namespace) -> None:
    """Saves a copy with our wrapper in place of Keras's."""
    _rewrite(arguments, upgrade_model, "upgrading")


def export(arguments: argparse.Namespace) -> None:
    """Writes an artifact for serving."""
    output = pathlib.Path(arguments.output)
    _check_free(output, arguments.force)
    format = arguments.format or format_of(output)
    with _progress("loading the model") as say:
        model = load_model(arguments.model)
        say(f"exporting as {format} and comparing")
        samples = arguments.samples
        export_model(
            model,
            output,
            format,
            folded=not arguments.not_folded,
            overwrite=arguments.force,
            samples=samples and load_samples(samples),
            input_size=arguments.input_size,
            tolerance=arguments.tolerance,
        )
    print(f"Exported '{output}' ({format}).")


def _network_report(
    model: keras.Model, arguments: argparse.Namespace
) -> LipschitzReport:
    data = None
    if arguments.input_size is not None:
        data = random_inputs(model, _STARTS, arguments.input_size)
    return lipschitz_bound(
        model,
        method=arguments.lipschitz,
        data=data,
        time_limit=arguments.time_limit,
    )


def _print(
    norms: NormReport, network: LipschitzReport | None, as_json: bool
) -> None:
    if as_json:
        print(json.dumps(_as_json(norms, network), indent=2))
        return
    console = Console()
    if not console.is_terminal:
        # Piped into a file, nothing is cut off.
        console = Console(width=200)
    console.print(norms)
    if network is not None:
        console.print(network)


def _as_json(
    norms: NormReport, network: LipschitzReport | None
) -> dict[str, Any]:
    as_dict = None
    if network is not None:
        as_dict = network.to_dict()
        as_dict["unbounded"] = [row.reason for row in network.unbounded]
    return _finite({"norms": norms.to_dict()["rows"], "network": as_dict})


def _finite(value: Any) -> Any:
    """The same without infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return "inf" if value == math.inf else value


def _draw(norms: NormReport, path: str, force: bool) -> None:
    # Optional: `pip install keras-sn[plot]`.
    import matplotlib

    matplotlib.use("agg")
    figure = norms.plot().figure
    with written_whole(path, force) as partial:
        figure.savefig(partial)


def _rewrite(
    arguments: argparse.Namespace,
    change: Callable[[keras.Model], keras.Model],
    what: str,
) -> None:
    """Loads a model, changes it and saves the result."""
    output = pathlib.Path(arguments.output)
    if output.suffix != ".keras":
        raise ValueError(
            f"OUTPUT must end in '.keras'. Received: '{arguments.output}'"
        )
    _check_free(output, arguments.force)
    with _progress("loading the model") as say:
        model = load_model(arguments.model)
        say(what)
        changed = change(model)
        say("saving")
        save_model(changed, output, arguments.force)
    print(f"Saved '{output}'.")


def _check_free(path: str | pathlib.Path, force: bool) -> None:
    """Before the work, not after it."""
    path = pathlib.Path(path)
    if path.exists() and not force:
        raise ValueError(f"'{path}' exists already; --force overwrites it.")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"There is no folder '{path.parent}' to write to.")


@contextlib.contextmanager
def _progress(message: str) -> Iterator[Callable[[str], Any]]:
    """Shows on a terminal what is going on; yields the function to say it."""
    if not sys.stderr.isatty():
        yield lambda message: None
        return
    with Console(stderr=True).status(message) as status:
        yield status.update
