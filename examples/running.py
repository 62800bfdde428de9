"""What the examples do alike: arguments, a bar, a table, a figure, a record."""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

matplotlib.use("agg")

console = Console(width=88)


def parser(what: str, name: str) -> argparse.ArgumentParser:
    """The arguments that every example takes.

    Args:
        what: The docstring of the example; its first line is the description.
        name: Name of the example, and of the folder of its output.
    """
    arguments = argparse.ArgumentParser(description=what.splitlines()[0])
    arguments.add_argument(
        "--quick", action="store_true", help="seconds; the numbers mean nothing"
    )
    arguments.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("out", name)
    )
    return arguments


@contextlib.contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal.

    Args:
        what: What is being done, at first.
        total: Number of steps.

    Yields:
        What to call before each step, with what it does.
    """
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        done = -1

        def step(now: str) -> None:
            nonlocal done
            done += 1
            progress.update(task, description=now, completed=done)

        yield step


@dataclasses.dataclass(frozen=True)
class Results:
    """A table: the first column is aligned left, the others right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich__(self) -> Table:
        table = Table(title=self.title)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def finish(
    output: pathlib.Path,
    tables: Sequence[Results],
    figure: Figure,
) -> None:
    """Prints the tables; writes them, the figure and what was run.

    Args:
        output: Folder, made if it is not there: `result.json`, `figure.png`.
        tables: What came out.
        figure: The same as a picture.
    """
    output.mkdir(parents=True, exist_ok=True)
    for table in tables:
        console.print(table)
    result = {
        "tables": [dataclasses.asdict(table) for table in tables],
        **environment(),
    }
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    figure.savefig(output / "figure.png", dpi=110)
    console.print(f"{output}: result.json, figure.png")


def rates_on_axis(
    axes: Axes, rates: Sequence[float], spread: float = 1.0
) -> None:
    """A logarithmic axis of learning rates that names these, no others.

    Args:
        axes: Where the rates are along x.
        rates: Learning rates, in order.
        spread: Factor between the first and the last marker of a rate.
    """
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_xticks([], minor=True)
    # Else a single rate fills the axis.
    axes.set_xlim(rates[0] / 1.6, rates[-1] * spread * 1.6)


def environment() -> dict[str, object]:
    """What a reader of the numbers needs to know."""
    backend = keras.backend.backend()
    packages = ("keras", backend, "numpy")
    name = pathlib.Path(sys.argv[0]).stem
    return {
        "name": name,
        "backend": backend,
        "command": " ".join(
            [
                f"KERAS_BACKEND={backend} python examples/{name}.py",
                *sys.argv[1:],
            ]
        ),
        "versions": {name: sys.modules[name].__version__ for name in packages},
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
    }


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
