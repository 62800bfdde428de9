"""Progress of a long computation, for those with patience."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

from rich.progress import Progress as Bar

# `True`, or a function of `(done, total)` and perhaps the bound so far.
Progress = bool | Callable[..., object] | None


@contextlib.contextmanager
def shown(
    progress: Progress, task: str = "frequencies"
) -> Iterator[Callable[..., object] | None]:
    """Turns the argument `progress` into a function, or `None`.

    Args:
        progress: `None` or `False`, `True` for a bar, or a function.
        task: What the bar says is being done.

    Yields:
        What to call as `report(done, total)` or `report(done, total, bound)`.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield None
        return
    with Bar(transient=True) as bar:
        shown_task = bar.add_task(task, total=None)

        def report(done: float, total: float, bound: float | None = None):
            text = task if bound is None else f"{task}: L <= {bound:.5g}"
            bar.update(
                shown_task, completed=done, total=total, description=text
            )

        yield report
