"""Where a run takes place: machine, versions, threads, command."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any

import keras

import keras_sn

PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "jax": ("jax", "flax", "equinox"),
    "torch": ("torch",),
}
# What changes the number of threads or what is compiled.
VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "XLA_FLAGS"),
    *("JAX_COMPILATION_CACHE_DIR", "JAX_DISABLE_MOST_OPTIMIZATIONS"),
)


def environment(
    arguments: list[str],
    module: str = "benchmarks",
    packages: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What the reader of a result needs to know, as JSON."""
    backend = keras.backend.backend()
    cores = len(os.sched_getaffinity(0))
    return {
        "backend": backend,
        "command": " ".join(
            [f"KERAS_BACKEND={backend} python -m {module}", *arguments]
        ),
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            "keras_sn": keras_sn.__version__,
            **_versions(backend, packages),
        },
        "threads": {n: os.environ[n] for n in VARIABLES if n in os.environ},
        "load": os.getloadavg()[0],
        # Others at work make every number worthless but the ratios, and those
        # doubtful.
        "busy": _busy_cores() > cores / 4,
    }


def _busy_cores() -> float:
    """How many cores are at work while this process sleeps.

    The load average counts for minutes what has ended.
    """
    counts = pathlib.Path("/proc/stat")
    if not counts.exists():
        return os.getloadavg()[0]

    def ticks() -> float:
        _, user, nice, system, *_ = counts.read_text().split()
        return float(user) + float(nice) + float(system)

    before, seconds = ticks(), 1.0
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def _versions(backend: str, packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in ("keras", *PACKAGES[backend], "numpy", *packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parent,
    )
    return done.stdout.strip() or "unknown"


def print_environment(facts: dict[str, Any]) -> None:
    """Prints it above the tables."""
    for name, value in facts.items():
        print(f"{name:10} {value}")
    if facts["busy"]:
        print("The machine is busy: do not trust these times.", file=sys.stderr)
