"""Building, first calls and peak memory, each in a process of its own.

A process that has built or compiled anything before is no measure of the
first time. `python -m benchmarks.cold CASE VARIANT` is such a process; the
last line it prints is JSON.
"""

import json
import resource
import subprocess
import sys

import keras

from benchmarks.subjects import KerasSubject
from benchmarks.subjects import keras_model
from benchmarks.timing import seconds_of
from benchmarks.workloads import Case
from benchmarks.workloads import find_case

# What is measured, and its unit.
UNITS = {
    "build": "s",
    "first predict": "s",
    "first train step": "s",
    "peak memory": "MB",
}
STEPS = 3


class ProcessFailedError(RuntimeError):
    """The process ended with an error, of which this is the last line."""


def measure_process(case: Case, variant: str) -> dict[str, float]:
    """Measures in a new process."""
    command = [sys.executable, "-m", "benchmarks.cold", case.label, variant]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ProcessFailedError(lines[-1] if lines else str(done.returncode))
    return json.loads(done.stdout.splitlines()[-1])


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB elsewhere.
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def measure_here(case: Case, variant: str) -> dict[str, float]:
    """Measures in this process, which has only imported so far."""
    # Keras imports TensorFlow to seed it, and starts the backend when asked.
    keras.utils.set_random_seed(0)
    keras.ops.convert_to_numpy(keras.ops.ones(()))
    imported = _peak_megabytes()
    models = []
    build = seconds_of(lambda: models.append(keras_model(variant, case)))
    subject = KerasSubject(variant, models[0], case.batch)
    predict = seconds_of(subject.predict)
    train = seconds_of(subject.train)
    seconds_of(subject.train, STEPS)
    values = (build, predict, train, _peak_megabytes() - imported)
    return dict(zip(UNITS, values, strict=True))


if __name__ == "__main__":
    label, variant = sys.argv[1:]
    print(json.dumps(measure_here(find_case(label), variant)))
