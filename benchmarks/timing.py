"""Times of several functions in interleaved rounds."""

import dataclasses
import gc
import time
from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Samples of each function.
        least_seconds: A sample is the mean over as many calls as take this.
    """

    rounds: int
    least_seconds: float = 0.1


def seconds_of(function: Callable[[], None], calls: int = 1) -> float:
    """Mean seconds of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def interleaved(
    functions: Mapping[str, Callable[[], None]], effort: Effort
) -> dict[str, list[float]]:
    """Seconds per call, `{name: [sample of each round]}`.

    All are called once a round, so that what slows the machine down meets
    all of them, and whoever comes first, and pays for cold caches, changes.
    The functions are warm already.
    """
    calls = {
        name: max(1, round(effort.least_seconds / seconds_of(function)))
        for name, function in functions.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    gc.collect()
    for i in range(effort.rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(seconds_of(functions[name], calls[name]))
    return samples


def ratio_quantiles(
    samples: list[float], base: list[float]
) -> tuple[float, float, float]:
    """The 10, 50 and 90 % quantiles of the ratios within a round."""
    ratios = np.divide(samples, base)
    low, median, high = np.quantile(ratios, (0.1, 0.5, 0.9))
    return float(low), float(median), float(high)
