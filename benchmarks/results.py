"""A run as data: its results, where it ran, and the JSON of both."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from benchmarks.timing import ratio_quantiles


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least that normalization adds to a call, see `roofline`.

    Attributes:
        bytes: Bytes read.
        multiply_adds: Multiplications with an addition each.
        seconds: What these take on the machine.
    """

    bytes: int
    multiply_adds: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Result:
    """One measure of one variant of one case.

    Attributes:
        case: Label of the case.
        workload: Its name.
        batch: Its batch size.
        x: Its place on a curve, or `None`.
        measure: Such as `train` or `inference, after reload`.
        variant: Who was measured.
        base: The variant to compare with.
        unit: `s` or `MB`.
        samples: One number a round.
        median: Their median.
        ratio: The 10, 50 and 90 % quantiles of the ratio to the base in the
            same round.
        added: Median of the difference to the base in the same round.
        floor: The least that the difference can be, where it is known.
        failed: Why there is nothing; then the numbers are empty.
    """

    case: str
    workload: str
    batch: int
    x: int | None
    measure: str
    variant: str
    base: str
    unit: str = "s"
    samples: list[float] = dataclasses.field(default_factory=list)
    median: float | None = None
    ratio: tuple[float, float, float] | None = None
    added: float | None = None
    floor: Floor | None = None
    failed: str | None = None

    @property
    def least_ratio(self) -> float | None:
        """The ratio that the floor allows."""
        if self.floor is None or self.median is None or self.added is None:
            return None
        base = self.median - self.added
        return 1 + self.floor.seconds / base if base > 0 else None

    def in_unit(self, unit: str) -> "Result":
        """The same, measured in another unit than seconds."""
        return dataclasses.replace(self, unit=unit)

    def without(self, reason: str) -> "Result":
        """The same with a reason in place of numbers."""
        return dataclasses.replace(self, failed=reason)

    def of(
        self, samples: list[float], base: list[float], floor: Floor | None
    ) -> "Result":
        """The same with its numbers."""
        return dataclasses.replace(
            self,
            # Four digits are more than any sample has.
            samples=[float(f"{sample:.4g}") for sample in samples],
            median=float(np.median(samples)),
            ratio=ratio_quantiles(samples, base),
            added=float(np.median(np.subtract(samples, base))),
            floor=floor,
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of one backend, and where they come from."""

    environment: dict[str, Any]
    results: list[Result]

    @property
    def backend(self) -> str:
        return self.environment["backend"]

    def write(self, path: pathlib.Path) -> None:
        """Writes the JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=1)
        path.write_text(text + "\n", "utf-8")


def read_run(path: pathlib.Path) -> Run:
    """Reads what `Run.write` wrote."""
    data = json.loads(path.read_text("utf-8"))
    results = []
    for entry in data["results"]:
        floor = entry["floor"] and Floor(**entry["floor"])
        ratio = entry["ratio"] and tuple(entry["ratio"])
        results.append(Result(**{**entry, "floor": floor, "ratio": ratio}))
    return Run(data["environment"], results)
