"""The benchmarks: their arithmetic, a run of a tiny case, and their page."""

import functools
import json

import numpy as np
import pytest

from benchmarks import bounds_page
from benchmarks import page
from benchmarks.measuring import TRAIN
from benchmarks.measuring import measure
from benchmarks.results import Result
from benchmarks.results import Run
from benchmarks.results import read_run
from benchmarks.roofline import Rates
from benchmarks.roofline import floor_of
from benchmarks.timing import Effort
from benchmarks.timing import interleaved
from benchmarks.timing import ratio_quantiles
from benchmarks.workloads import Case
from benchmarks.workloads import cases
from benchmarks.workloads import find_case
from benchmarks.workloads import mlp

# A byte and a multiply-add a second: the floor in seconds is their number.
UNIT_RATES = Rates(1.0, 1.0)


def test_a_ratio_is_that_of_one_round():
    # The machine is three times as slow in the second round, for both.
    assert ratio_quantiles([2.0, 6.0], [1.0, 3.0]) == (2.0, 2.0, 2.0)
    low, middle, high = ratio_quantiles(list(np.arange(1.0, 12)), [1.0] * 11)
    assert (low, middle, high) == pytest.approx((2.0, 6.0, 10.0))


def test_every_round_begins_with_another():
    order = []
    functions = {name: functools.partial(order.append, name) for name in "abc"}
    samples = interleaved(functions, Effort(rounds=3, least_seconds=0.0))
    # The first three say how many calls make a sample.
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(taken) for name, taken in samples.items()} == {
        "a": 3,
        "b": 3,
        "c": 3,
    }


def test_the_floor_reads_each_weight_once_a_pass():
    floor = floor_of([6, 4], passes=2, rates=UNIT_RATES)
    assert (floor.bytes, floor.multiply_adds) == (80, 20)
    assert floor.seconds == 80.0
    # Where multiplying is the slower of the two.
    assert floor_of([6, 4], 2, Rates(1e9, 1.0)).seconds == 20.0


def test_the_least_ratio_adds_the_floor_to_the_plain_time():
    floor = floor_of([5], 1, UNIT_RATES)
    result = Result("c", "c", 1, None, TRAIN, "kernel", "plain")
    # 20 bytes in 20 seconds, on top of 40.
    assert result.of([70.0], [40.0], floor).least_ratio == 1.5


def test_labels_tell_the_cases_apart():
    labels = [case.label for case in cases()]
    assert len(set(labels)) == len(labels)
    assert [find_case(label).label for label in labels] == labels


@pytest.fixture(scope="module")
def run():
    """A run of a tiny case."""
    case = Case("tiny", 2, functools.partial(mlp, widths=(4, 3, 2)))
    warm = {"train", "inference", "eager"}
    results = list(measure(case, warm, Effort(1, 0.0), UNIT_RATES))
    facts = {
        "backend": "torch",
        "command": "none",
        "rounds": 1,
        "date": "2000-01-01",
        "commit": "none",
        "processor": "none",
        "cores": 1,
        "system": "none",
        "python": "3",
        "versions": {},
        "threads": {},
        "rates": {"bytes_per_second": 1.0, "multiply_adds_per_second": 1.0},
        "load": 2.0,
        "busy": True,
    }
    return Run(facts, results)


def test_a_case_gives_every_measure_of_every_variant(run):
    found = {(r.measure, r.variant) for r in run.results if not r.failed}
    predictions = ("before training", "after 20 steps", "after reload")
    for variant in ("plain", "stock", "kernel", "folded"):
        expected = {(f"predict, {state}", variant) for state in predictions}
        expected |= {("eager call, after 20 steps", variant), (TRAIN, variant)}
        if variant == "folded":
            # It is the model after training, and no longer trained.
            expected -= {(f"predict, {predictions[0]}", variant)}
            expected -= {(TRAIN, variant)}
        assert expected <= found
    trained = next(
        r for r in run.results if (r.measure, r.variant) == (TRAIN, "kernel")
    )
    # 4 x 3 and 3 x 2 weights of 4 bytes, there and back.
    assert trained.floor.bytes == 2 * 4 * (12 + 6)


def test_what_is_written_is_read(run, tmp_path):
    path = tmp_path / "run.json"
    run.write(path)
    assert read_run(path) == run
    assert json.loads(path.read_text())["environment"]["busy"] is True


def test_the_page_warns_of_a_busy_machine(run):
    assert "others may have been at work" in page.page([run])


def test_the_page_is_that_of_the_committed_runs():
    runs = [read_run(path) for path in sorted(page.RESULTS.glob("*.json"))]
    assert page.PAGE.read_text("utf-8") == page.page(runs)
    if runs:
        assert page.costs(runs) in page.README.read_text("utf-8")


def test_the_tables_of_bounds_are_those_of_the_committed_results():
    text = bounds_page.PAGE.read_text("utf-8")
    assert bounds_page.with_tables(text) == text
    for mark, (name, _) in bounds_page.TABLES.items():
        if (bounds_page.RESULTS / f"{name}.json").exists():
            assert f"<!-- {mark} -->" in text


def test_the_costs_stand_between_their_marks():
    readme = page.README.read_text("utf-8")
    once = page.with_costs(readme, "some numbers")
    assert once.count("some numbers") == 1
    assert page.with_costs(once, "some numbers") == once
    assert (
        once.partition(page.MARKS[0])[0] == readme.partition(page.MARKS[0])[0]
    )
    end = page.MARKS[1]
    assert once.partition(end)[2] == readme.partition(end)[2]
