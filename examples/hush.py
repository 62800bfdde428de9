"""What TensorFlow and absl say of themselves, kept off the terminal.

Imported before Keras. Nothing here is of use to who runs an example: TensorFlow
announces its choice of instructions on every start, before it reads the level
of its log; its graph optimizer logs as errors what it then leaves as it was;
and it warns of being compiled again, which a program that trains many small
networks asks for. What stops a program is an exception, and is shown.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Holds back what is written to standard error, C++ included.

    It is shown after all if an exception is raised.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with silence():
    # Keras imports it on every backend, to seed it too.
    if importlib.util.find_spec("tensorflow") is not None:
        import tensorflow  # noqa: F401
for name in ("tensorflow", "absl"):
    # Not by the level: Keras sets that of absl anew where it exports.
    logging.getLogger(name).addFilter(
        lambda line: line.levelno >= logging.ERROR
    )
