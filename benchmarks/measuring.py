"""The course of a measurement: who does what, in which state of the weights."""

from collections.abc import Callable
from collections.abc import Iterator

import keras

from benchmarks.cold import UNITS
from benchmarks.cold import ProcessFailedError
from benchmarks.cold import measure_process
from benchmarks.peers import peers_for
from benchmarks.results import Floor
from benchmarks.results import Result
from benchmarks.roofline import Rates
from benchmarks.roofline import floor_of
from benchmarks.subjects import FOLDED
from benchmarks.subjects import KERNEL
from benchmarks.subjects import OPERATOR
from benchmarks.subjects import PLAIN
from benchmarks.subjects import STOCK
from benchmarks.subjects import KerasSubject
from benchmarks.subjects import Subject
from benchmarks.subjects import folded_subject
from benchmarks.subjects import keras_model
from benchmarks.subjects import normalized_sizes
from benchmarks.subjects import variants
from benchmarks.timing import WARM_UP
from benchmarks.timing import Effort
from benchmarks.timing import interleaved
from benchmarks.workloads import Case

STEPS = 20
TRAIN = "train step"
BEFORE = "predict, before training"
TRAINED = f"predict, after {STEPS} steps"
EAGER = f"eager call, after {STEPS} steps"
RELOADED = "predict, after reload"


def measure(
    case: Case, measures: set[str], effort: Effort, rates: Rates
) -> Iterator[Result]:
    """The results of a case, as they come.

    Args:
        case: What to run.
        measures: Names of `workloads.MEASURES`.
        effort: How long.
        rates: What the machine reaches.
    """
    wanted = measures & set(case.measures)
    if wanted - {"cold"}:
        yield from _Group(case, effort, rates).results(wanted)
    if "cold" in wanted:
        yield from _cold_results(case, effort.rounds)
    keras.utils.clear_session()


def _result(case: Case, what: str, variant: str, base: str) -> Result:
    return Result(
        case.label, case.name, case.batch, case.x, what, variant, base
    )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


class _Group:
    """All variants of a case, in one process and on the same batch."""

    def __init__(self, case: Case, effort: Effort, rates: Rates) -> None:
        self.case = case
        self.effort = effort
        self.rates = rates
        self.subjects: dict[str, Subject] = {}
        self.sizes: list[int] = []

    def results(self, wanted: set[str]) -> Iterator[Result]:
        yield from self._create()
        # A curve has one state of the weights; a folded model is no news.
        table = self.case.x is None
        if "inference" in wanted and table:
            yield from self._compared(BEFORE, lambda s: s.predict)
        yield from self._every("training", _train)
        if wanted & {"inference", "eager"} and table:
            self._add_folded()
        if "inference" in wanted:
            yield from self._compared(TRAINED, lambda s: s.predict)
        if "eager" in wanted:
            yield from self._compared(EAGER, lambda s: s.call)
        if "train" in wanted:
            folded = self.subjects.pop(FOLDED, None)
            passes = 2 * self.case.options.get("power_iterations", 1)
            yield from self._compared(TRAIN, lambda s: s.train, passes)
            if folded:
                self.subjects[FOLDED] = folded
        if "inference" in wanted and table:
            yield from self._every("reload", lambda s: s.reload())
            yield from self._compared(RELOADED, lambda s: s.predict)

    def _create(self) -> Iterator[Result]:
        for variant in variants(self.case):
            try:
                model = keras_model(variant, self.case)
            except Exception as error:
                yield self._failed("build", variant, PLAIN, error)
            else:
                subject = KerasSubject(variant, model, self.case.batch)
                self.subjects[variant] = subject
        self.subjects.update({p.name: p for p in peers_for(self.case)})
        kernel = self.subjects[KERNEL]
        assert isinstance(kernel, KerasSubject)
        self.sizes = normalized_sizes(kernel.model)

    def _add_folded(self) -> None:
        kernel = self.subjects[KERNEL]
        assert isinstance(kernel, KerasSubject)
        self.subjects[FOLDED] = folded_subject(kernel)

    def _failed(
        self, what: str, variant: str, base: str, error: Exception
    ) -> Result:
        """What could not be measured; ours and the plain model must not fail.

        The stock wrapper does not take every layer, on every backend.
        """
        if variant != STOCK:
            raise error
        result = _result(self.case, what, variant, base)
        return result.without(_reason(error))

    def _every(
        self, what: str, action: Callable[[Subject], None]
    ) -> Iterator[Result]:
        """Lets all do it; who fails is out."""
        for subject in list(self.subjects.values()):
            try:
                action(subject)
            except Exception as error:
                del self.subjects[subject.name]
                yield self._failed(what, subject.name, subject.base, error)

    def _compared(
        self,
        what: str,
        method: Callable[[Subject], Callable[[], None]],
        passes: int = 1,
    ) -> Iterator[Result]:
        yield from self._every(what, lambda subject: _warm(method(subject)))
        subjects = self.subjects
        samples = interleaved(
            {name: method(subject) for name, subject in subjects.items()},
            self.effort,
        )
        for name, subject in subjects.items():
            yield _result(self.case, what, name, subject.base).of(
                samples[name], samples[subject.base], self._floor(name, passes)
            )

    def _floor(self, name: str, passes: int) -> Floor | None:
        if name not in (KERNEL, OPERATOR):
            return None
        return floor_of(self.sizes, passes, self.rates)


def _warm(function: Callable[[], None]) -> None:
    for _ in range(WARM_UP):
        function()


def _train(subject: Subject) -> None:
    for _ in range(STEPS):
        subject.train()


def _cold_results(case: Case, rounds: int) -> Iterator[Result]:
    """Building, first calls and memory, in a process for each sample."""
    # A process takes seconds, and a first time varies little.
    rounds = max(1, rounds // 5)
    samples: dict[str, list[dict[str, float]]] = {v: [] for v in variants(case)}
    for _ in range(rounds):
        for variant in list(samples):
            try:
                samples[variant].append(measure_process(case, variant))
            except ProcessFailedError as error:
                if variant != STOCK:
                    raise
                del samples[variant]
                result = _result(case, "cold", variant, PLAIN)
                yield result.without(str(error)[:200])
    for what, unit in UNITS.items():
        base = [sample[what] for sample in samples[PLAIN]]
        for variant, taken in samples.items():
            result = _result(case, what, variant, PLAIN).in_unit(unit)
            yield result.of([sample[what] for sample in taken], base, None)
