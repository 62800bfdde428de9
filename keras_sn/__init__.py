"""Spectral normalization and Lipschitz constants for Keras 3.

Importing this registers with Keras what `.keras` files can hold (layers,
losses, metrics, constraints, regularizers, optimizers), so that they can be
loaded; the rest is loaded on first use.
"""

import importlib
import pathlib
import sys
from typing import TYPE_CHECKING
from typing import Any

from keras_sn.version import __version__

if TYPE_CHECKING:
    from keras_sn import callbacks
    from keras_sn import constraints
    from keras_sn import layers
    from keras_sn import linear_maps
    from keras_sn import lipschitz
    from keras_sn import losses
    from keras_sn import metrics
    from keras_sn import models
    from keras_sn import norms
    from keras_sn import regularizers
    from keras_sn.layers import SpectralNormalization
    from keras_sn.norms import NormBounds
    from keras_sn.norms import spectral_norm

__all__ = [
    "NormBounds",
    "SpectralNormalization",
    "__version__",
    "callbacks",
    "constraints",
    "layers",
    "linear_maps",
    "lipschitz",
    "losses",
    "metrics",
    "models",
    "norms",
    "regularizers",
    "spectral_norm",
]

# Where the names are that are no modules.
_HOMES = {
    "NormBounds": "norms",
    "SpectralNormalization": "layers",
    "spectral_norm": "norms",
}
_REGISTERING = ("constraints", "layers", "losses", "metrics", "regularizers")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'keras_sn' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(_module(_HOMES[name]), name)
    return _module(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _module(name: str) -> Any:
    return importlib.import_module(f"keras_sn.{name}")


def _is_command_line() -> bool:
    """Whether this is imported to run `keras-sn` or `python -m keras_sn`.

    The command line reads its arguments before it imports Keras, which takes
    seconds. But to import any module of a package is to import the package
    first, and only here can that be left out.
    """
    if sys.argv[:1] == ["-m"]:
        # While Python looks for the module; its name is before the arguments.
        return sys.orig_argv[-len(sys.argv)] == "keras_sn"
    return pathlib.Path(*sys.argv[:1]).stem == "keras-sn"


if not _is_command_line():
    for _name in _REGISTERING:
        _module(_name)
