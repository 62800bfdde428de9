"""The least that normalization can add to a plain step, in time.

In training each weight is read once for each product with `v` and `u` of a
power iteration, at inference once; each reading takes a multiplication and an
addition per entry. What is left out only makes the floor lower: the vectors,
the gradient through sigma, and that the norm of an operator takes a product
per frequency. Where the plain product has the weight in the cache, less than
the floor is possible.
"""

import dataclasses
from collections.abc import Callable

import keras

from benchmarks.results import Floor
from benchmarks.timing import seconds_of

BYTES_PER_ENTRY = 4
ROWS = 4096  # 64 MiB of float32: larger than the caches of most machines
SIDE = 1024


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the backend reaches on this machine, by its own products.

    Attributes:
        bytes_per_second: Of a large matrix times a vector.
        multiply_adds_per_second: Of a product of matrices.
    """

    bytes_per_second: float
    multiply_adds_per_second: float


def measured_rates(tries: int) -> Rates:
    """The best of some tries."""
    ops = keras.ops
    large, vector = ops.ones((ROWS, ROWS)), ops.ones((ROWS, 1))
    square = ops.ones((SIDE, SIDE))

    def least(function: Callable[[], object]) -> float:
        # The conversion waits for the product.
        def run() -> None:
            ops.convert_to_numpy(function())

        return min(seconds_of(run) for _ in range(tries + 1))

    reading = least(lambda: ops.matmul(large, vector))
    multiplying = least(lambda: ops.matmul(square, square))
    return Rates(BYTES_PER_ENTRY * ROWS**2 / reading, SIDE**3 / multiplying)


def floor_of(sizes: list[int], passes: int, rates: Rates) -> Floor:
    """The floor of reading weights of some sizes a number of times."""
    entries = passes * sum(sizes)
    size = BYTES_PER_ENTRY * entries
    seconds = max(
        size / rates.bytes_per_second, entries / rates.multiply_adds_per_second
    )
    return Floor(size, entries, seconds)
