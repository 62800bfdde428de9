"""Each example runs with `--quick`, by the command that it gives."""

import ast
import json
import runpy
import sys

import keras
import matplotlib.image
import pytest

from tests.source import ROOT
from tests.thoroughness import EVERYTHING
from tests.thoroughness import draws

FOLDER = ROOT / "examples"
# Not examples, but what they are made of.
PARTS = {"attack", "data", "hush", "page", "running"}
# Several processes: tests/models/test_distributed.py.
ELSEWHERE = {"distributed"}
EXAMPLES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in PARTS | ELSEWHERE
)


@pytest.mark.skipif(
    keras.backend.backend() == "jax" and not EVERYTHING,
    reason="compiles for a minute what runs once: make test-thorough",
)
@pytest.mark.parametrize("name", draws(EXAMPLES, ["quickstart"]))
def test_an_example_runs_quickly(name, tmp_path, monkeypatch, capsys):
    path = FOLDER / f"{name}.py"
    output = tmp_path / "output"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", [str(path), "--quick", "--output", str(output)]
    )
    runpy.run_path(str(path), run_name="__main__")

    printed = capsys.readouterr().out
    result = json.loads((output / "result.json").read_text())
    assert result["name"] == name
    for table in result["tables"]:
        assert table["rows"]
        for row in table["rows"]:
            assert len(row) == len(table["columns"])
        assert all(word in printed for word in table["title"].split())
    picture = matplotlib.image.imread(output / "figure.png")
    assert picture[..., :3].std() > 0.01, "an empty figure"


@pytest.mark.parametrize("name", [*EXAMPLES, *ELSEWHERE])
def test_the_first_lines_give_the_command(name):
    docstring = ast.get_docstring(
        ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    )
    what, empty, *rest = docstring.splitlines()
    assert what.endswith((".", "?"))
    assert not empty
    commands = [line for line in rest[:4] if f"examples/{name}.py" in line]
    assert commands, docstring
