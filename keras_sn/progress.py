"""Progress of a long certificate, for those with patience."""

import contextlib
import sys


@contextlib.contextmanager
def shown(progress):
    """Turns the argument `progress` into a function, or `None`.

    Args:
        progress: `None` or `False`, `True`, or a function of `(done, total)`.

    Yields:
        What to call as `report(done, total)`.
    """
    if progress is not True:
        yield progress or None
        return
    try:
        from rich.progress import Progress
    except ImportError:
        yield _print_percent
        return
    with Progress(transient=True) as bar:
        task = bar.add_task("frequencies", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_percent(done, total):
    sys.stderr.write(f"\rfrequencies: {100 * done / max(total, 1):5.1f} %")
    if done >= total:
        sys.stderr.write("\n")
