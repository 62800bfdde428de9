"""docs/examples.md: the tables are those of the committed runs."""

import json

import page

from tests.examples.test_quick import EXAMPLES


def test_the_page_is_that_of_the_committed_runs():
    text = page.PAGE.read_text("utf-8")
    assert page.page(text) == text


def test_every_example_has_its_place():
    text = page.PAGE.read_text("utf-8")
    for name in EXAMPLES:
        assert f"examples/{name}.py" in text
    for name in (place["name"] for place in page.PLACE.finditer(text)):
        assert name in EXAMPLES


def test_committed_runs_are_not_quick_ones():
    for path in page.RESULTS.glob("*.json"):
        assert "--quick" not in json.loads(path.read_text())["command"]


def test_tables_of_two_backends_stand_side_by_side():
    tables = [
        {"columns": ["", "norm"], "rows": [["a", "1"], ["b", "2"]]},
        {"columns": ["", "norm"], "rows": [["a", "3"], ["b", "4"]]},
    ]
    results = [{"backend": "jax"}, {"backend": "torch"}]
    assert page.side_by_side(results, tuple(tables)).splitlines() == [
        "|  | JAX: norm | PyTorch: norm |",
        "| --- | ---: | ---: |",
        "| a | 1 | 3 |",
        "| b | 2 | 4 |",
    ]
