"""The command line: report, normalize, fold, upgrade and export a model."""

import argparse
import contextlib
import json
import pathlib
import sys

from keras_sn.version import __version__

# Keras and the rest are imported by the commands, so that `--help` and a
# mistyped argument cost nothing.

_FORMATS = ("tf_saved_model", "onnx", "litert", "openvino", "torch")
_SUFFIXES = {".onnx": "onnx", ".tflite": "litert", ".pt2": "torch"}
_METHODS = (
    "auto",
    "product",
    "folded",
    "rescaled",
    "closed_form",
    "refined",
    "none",
)


def main(argv=None):
    """Runs a command.

    Args:
        argv: List of arguments; `None` for those of the process.

    Returns:
        Exit code: 0 for success, 1 if the command failed (a line on stderr
        says why), 2 for wrong arguments.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        from keras_sn.models.files import first_line

        sys.stderr.write(f"keras-sn: {first_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("keras-sn: interrupted\n")
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-sn",
        description="Spectral norms and Lipschitz bounds of Keras models.",
        epilog="The backend is the one Keras is configured for: "
        "KERAS_BACKEND=jax keras-sn ... Files are loaded in Keras's safe mode.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_report(commands)
    _add_normalize(commands)
    _add_fold(commands)
    _add_upgrade(commands)
    _add_export(commands)
    return parser


def _add_report(commands):
    parser = _command(
        commands, "report", _report, "certified norms of all layers"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the norms")
    parser.add_argument(
        "--norm",
        choices=("operator", "kernel"),
        default="operator",
        help="of the map a layer applies, or of the kernel as a matrix",
    )
    parser.add_argument(
        "--lipschitz",
        choices=_METHODS,
        default="auto",
        metavar="METHOD",
        help=f"method for the network's constant: {', '.join(_METHODS)}",
    )
    _add_force(parser, "the plot")


def _add_normalize(commands):
    parser = _command(
        commands, "normalize", _normalize, "wrap layers, keep the weights"
    )
    _add_output(parser)
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="PATTERN",
        help="names of the layers to wrap, such as 'block1_*' (default: all)",
    )
    parser.add_argument("--norm", choices=("operator", "kernel"))
    parser.add_argument("--norm-bound", type=float, metavar="NUMBER")
    parser.add_argument("--mode", choices=("normalize", "clip"))
    parser.add_argument(
        "--lipschitz",
        type=float,
        metavar="NUMBER",
        help="Lipschitz constant of the network, spread over its layers",
    )


def _add_fold(commands):
    parser = _command(
        commands, "fold", _fold, "plain Keras layers, norms baked in"
    )
    _add_output(parser)
    parser.add_argument(
        "--certified",
        action="store_true",
        help="divide by certified upper bounds of the norms",
    )


def _add_upgrade(commands):
    parser = _command(
        commands,
        "upgrade",
        _upgrade,
        "keras_sn for keras.layers.SpectralNormalization",
    )
    _add_output(parser)


def _add_export(commands):
    parser = _command(commands, "export", _export, "an artifact for serving")
    parser.add_argument("output", metavar="OUTPUT", help="file or folder")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        help="default: by the suffix of OUTPUT, else tf_saved_model",
    )
    parser.add_argument(
        "--not-folded",
        action="store_true",
        help="keep the wrappers, which normalize at each request",
    )
    _add_force(parser, "OUTPUT")


def _command(commands, name, run, what):
    parser = commands.add_parser(name, help=what, description=what + ".")
    parser.add_argument("model", metavar="MODEL.keras")
    parser.set_defaults(run=run)
    return parser


def _add_output(parser):
    parser.add_argument("output", metavar="OUTPUT.keras")
    _add_force(parser, "OUTPUT.keras")


def _add_force(parser, what):
    parser.add_argument(
        "--force", action="store_true", help=f"overwrite {what}"
    )


def _report(arguments):
    plot = arguments.plot
    if plot:
        _check_free(plot, arguments.force)
    rows, report = _measured(arguments)
    if plot:
        _draw(rows, plot, arguments.force)
    if arguments.json:
        print(json.dumps(_as_json(rows, report), indent=2))
    else:
        _print_table(rows, report)


def _measured(arguments):
    """The rows of the table, and the report on the network or `None`."""
    with _progress("loading the model") as say:
        from keras_sn.linear_maps import linear_maps
        from keras_sn.models.folding import fold_model

        # Folded, so that a weight is what the layer applies.
        model = fold_model(_load(arguments.model))
        maps = linear_maps(model, norm=arguments.norm)
        if not maps:
            raise ValueError(
                f"There is no layer in '{arguments.model}' that has a norm."
            )
        rows = [
            _measure(linear_map, say, f"{i + 1}/{len(maps)}")
            for i, linear_map in enumerate(maps.values())
        ]
        if arguments.lipschitz == "none":
            return rows, None
        from keras_sn.lipschitz import lipschitz_bound

        say("Lipschitz constant of the network")
        return rows, lipschitz_bound(model, method=arguments.lipschitz)


def _measure(linear_map, say, position):
    from keras_sn.norms import spectral_norm

    say(f"norm {position}: {linear_map.path}")
    bounds = spectral_norm(linear_map)
    layer = linear_map.weights[0].layer
    return {
        "weight": linear_map.path,
        "layer": layer.name,
        "class": type(layer).__name__,
        "shape": list(linear_map.weights[0].shape),
        "lower": bounds.lower,
        "upper": bounds.upper,
    }


def _as_json(rows, report):
    network = None
    if report is not None:
        network = report.to_dict()
        network["unbounded"] = [row.reason for row in report.unbounded]
    # JSON knows no infinity.
    return _finite({"norms": rows, "network": network})


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return "inf" if value == float("inf") else value


def _print_table(rows, report):
    cells = [
        (
            row["weight"],
            row["class"],
            "x".join(map(str, row["shape"])),
            f"{row['lower']:.6g}",
            f"{row['upper']:.6g}",
        )
        for row in rows
    ]
    heads = ("weight", "layer", "shape", "norm from", "to")
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plain([heads, *cells])
        if report is not None:
            print(report)
        return
    table = Table()
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i > 2 else "left")
    for row in cells:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        # Piped into a file, nothing is cut off.
        console = Console(width=200)
    console.print(table)
    if report is not None:
        console.print(report)


def _print_plain(table):
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _draw(rows, path, force):
    import matplotlib

    from keras_sn.models.files import written_whole

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    height = 1.0 + 0.3 * max(len(rows), 3)
    figure, ax = plt.subplots(figsize=(8, height), layout="constrained")
    positions = list(range(len(rows)))
    ax.barh(positions, [row["upper"] for row in rows], color="tab:blue")
    ax.set_yticks(positions, [row["weight"] for row in rows])
    ax.invert_yaxis()
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xlabel("certified spectral norm")
    with written_whole(path, force) as partial:
        figure.savefig(partial)
    plt.close(figure)


def _normalize(arguments):
    def change(model):
        from keras_sn.models import normalize_model

        options = {
            name: value
            for name in ("norm", "norm_bound", "mode", "lipschitz")
            if (value := getattr(arguments, name)) is not None
        }
        return normalize_model(model, arguments.layers, **options)

    _rewrite(arguments, change, "normalizing")


def _fold(arguments):
    def change(model):
        from keras_sn.models import fold_model
        from keras_sn.models.folding import wrappers_in
        from keras_sn.models.graph_copy import check_built

        check_built(model)
        if not wrappers_in(model):
            raise ValueError(
                f"There is no SpectralNormalization in '{arguments.model}', so "
                "there is nothing to fold."
            )
        return fold_model(model, certified=arguments.certified)

    _rewrite(arguments, change, "folding")


def _upgrade(arguments):
    def change(model):
        from keras_sn.models import upgrade_model

        return upgrade_model(model)

    _rewrite(arguments, change, "upgrading")


def _rewrite(arguments, change, what):
    """Loads a model, changes it and saves the result."""
    output = pathlib.Path(arguments.output)
    if output.suffix != ".keras":
        raise ValueError(
            f"OUTPUT must end in '.keras'. Received: '{arguments.output}'"
        )
    _check_free(output, arguments.force)
    with _progress("loading the model") as say:
        from keras_sn.models.files import save_model

        model = _load(arguments.model)
        say(what)
        changed = change(model)
        say("saving")
        save_model(changed, output, arguments.force)
    print(f"Saved '{output}'.")


def _export(arguments):
    output = pathlib.Path(arguments.output)
    format = arguments.format or _SUFFIXES.get(output.suffix, "tf_saved_model")
    _check_free(output, arguments.force)
    with _progress("loading the model") as say:
        from keras_sn.models import export_model

        model = _load(arguments.model)
        say(f"exporting as {format} and comparing")
        export_model(
            model,
            output,
            format,
            folded=not arguments.not_folded,
            overwrite=arguments.force,
        )
    print(f"Exported '{output}' ({format}).")


def _check_free(path, force):
    """Before the work, not after it."""
    path = pathlib.Path(path)
    if path.exists() and not force:
        raise ValueError(f"'{path}' exists already; --force overwrites it.")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"There is no folder '{path.parent}' to write to.")


def _load(path):
    import keras_sn.layers  # noqa: F401  so that wrappers can be loaded
    from keras_sn.models.files import load_model

    return load_model(path)


@contextlib.contextmanager
def _progress(message):
    """Shows on a terminal what is going on; yields the function to say it."""
    if not sys.stderr.isatty():
        yield lambda message: None
        return
    try:
        from rich.console import Console
    except ImportError:
        yield lambda message: None
        return
    with Console(stderr=True).status(message) as status:
        yield status.update
