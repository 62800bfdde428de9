"""The command line: its arguments, and one call for each command."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence

from keras_sn.backend_choice import choose_backend
from keras_sn.version import __version__

# Repeated here, so that `--help` and a mistyped argument do not wait for the
# modules that know them; a test compares.
FORMATS = ("tf_saved_model", "onnx", "litert", "openvino", "torch")
METHODS = (
    "auto",
    "product",
    "folded",
    "rescaled",
    "closed_form",
    "refined",
)

_EPILOG = """
The backend is that of KERAS_BACKEND or of Keras's config file, otherwise one
that is installed. Files are loaded in Keras's safe mode; classes of your own
are known after --import MODULE.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The arguments; `None` for those of the process.

    Returns:
        Exit code: 0 for success, 1 if the command failed (a line on stderr
        says why), 2 for wrong arguments.
    """
    arguments = _parser().parse_args(argv)
    try:
        run = _command_of(arguments)
        run(arguments)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"keras-sn: {_first_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("keras-sn: interrupted\n")
        return 130
    return 0


def _command_of(
    arguments: argparse.Namespace,
) -> Callable[[argparse.Namespace], None]:
    """The function that runs the command. Importing it imports Keras."""
    choose_backend()
    # What TensorFlow says of the processor is no part of the answer. Of oneDNN
    # it tells before it reads the level of its log, so it goes without.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # As for `python -m`: modules in the current folder can be imported.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    commands = importlib.import_module("keras_sn.commands")
    for module in arguments.imports:
        importlib.import_module(module)
    return getattr(commands, arguments.command)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-sn",
        description="Spectral norms and Lipschitz bounds of Keras models.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command"
    )
    _add_report(commands)
    _add_normalize(commands)
    _add_fold(commands)
    _add_upgrade(commands)
    _add_export(commands)
    return parser


def _add_report(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "report", "certified norms of all layers")
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
        choices=(*METHODS, "none"),
        default="auto",
        metavar="METHOD",
        help="method for the network's constant: "
        f"{', '.join(METHODS)}, none (default: auto)",
    )
    parser.add_argument(
        "--time-limit",
        type=_positive,
        default=60.0,
        metavar="SECONDS",
        help="for the network's constant (default: 60)",
    )
    parser.add_argument(
        "--radius",
        type=_positive,
        metavar="NUMBER",
        help="the network's constant on balls of that radius around --samples",
    )
    parser.add_argument(
        "--samples",
        metavar="FILE.npz",
        help="inputs for --radius, an array for each input of the model",
    )
    _add_input_size(parser)
    _add_force(parser, "the plot")


def _add_normalize(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "normalize", "wrap layers, keep the weights")
    _add_output(parser)
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="PATTERN",
        help="names of the layers to wrap, such as 'block1_*' (default: all)",
    )
    parser.add_argument(
        "--norm", choices=("operator", "kernel", "bidirectional")
    )
    parser.add_argument(
        "--norm-bound",
        type=_norm_bound,
        metavar="NUMBER",
        help="norm of each layer; rms: sqrt(outputs / inputs)",
    )
    parser.add_argument("--mode", choices=("normalize", "clip"))
    parser.add_argument(
        "--lipschitz",
        type=float,
        metavar="NUMBER",
        help="Lipschitz constant of the network, spread over its layers",
    )


def _add_fold(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "fold", "plain Keras layers, norms baked in")
    _add_output(parser)
    parser.add_argument(
        "--certified",
        action="store_true",
        help="divide by certified upper bounds of the norms",
    )


def _add_upgrade(commands: argparse._SubParsersAction) -> None:
    what = "keras_sn for keras.layers.SpectralNormalization"
    _add_output(_command(commands, "upgrade", what))


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "export", "an artifact for serving")
    parser.add_argument("output", metavar="OUTPUT", help="file or folder")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="default: by the suffix of OUTPUT; none is tf_saved_model",
    )
    parser.add_argument(
        "--not-folded",
        action="store_true",
        help="keep the wrappers, which normalize at each request",
    )
    parser.add_argument(
        "--samples",
        metavar="FILE.npz",
        help="inputs to compare with, one array an input (default: random)",
    )
    parser.add_argument(
        "--tolerance",
        type=_positive,
        metavar="SHARE",
        help="how far the artifact may be off, of the largest output "
        "(default: by the dtype of the model)",
    )
    _add_input_size(parser)
    _add_force(parser, "OUTPUT")


def _command(
    commands: argparse._SubParsersAction, name: str, what: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what + ".")
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers classes of your own",
    )
    return parser


def _add_input_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input-size",
        type=int,
        metavar="N",
        help="size of input axes that may have any (default: one that works)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT.keras")
    _add_force(parser, "OUTPUT.keras")


def _add_force(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--force", action="store_true", help=f"overwrite {what}"
    )


def _norm_bound(text: str) -> float | str:
    return text if text == "rms" else float(text)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number
