"""Effort: which methods to use, and how much time is left for them."""

import time
from collections.abc import Callable

METHODS = ("product", "folded", "rescaled", "closed_form", "refined")


class Effort:
    """How much work a method may put into a chain.

    Args:
        method: One of `METHODS` or `"auto"`.
        time_limit: Seconds for all chains together.
        progress: Called with `(step, steps, bound)` while refining.
        quick: Whether to leave out what takes descent.
    """

    def __init__(
        self,
        method: str,
        time_limit: float,
        progress: Callable[..., object] | None = None,
        quick: bool = False,
    ):
        self.quick = quick
        self.method = method
        self.deadline = time.monotonic() + time_limit
        self.progress = progress

    @property
    def remaining(self) -> float:
        """Seconds left."""
        return max(self.deadline - time.monotonic(), 0.0)

    def part(self, share: float) -> "Effort":
        """The same effort, with a share of the time that is left."""
        time_limit = share * self.remaining
        return Effort(self.method, time_limit, self.progress, self.quick)

    def allows(self, method: str, work: float = 0) -> bool:
        """Whether a method is asked for, or affordable under `"auto"`."""
        if self.method != "auto":
            return METHODS.index(method) <= METHODS.index(self.method)
        # Refinement takes hundreds of recursions.
        return method != "refined" or work <= 3e7
