"""docs/examples.md: the tables and figures of the committed runs.

python examples/page.py                     # from examples/results
python examples/page.py out/gan out/control # keep these runs first

A result is kept as examples/results/NAME.BACKEND.json, single runs beside it as
NAME.BACKEND.runs.jsonl, its figure as docs/images/NAME.png. Where an example
was run on several backends, the tables stand side by side and the figure is
that of the run kept last.
"""

import json
import pathlib
import re
import shutil
import sys

EXAMPLES = pathlib.Path(__file__).parent
RESULTS = EXAMPLES / "results"
PAGE = EXAMPLES.parent / "docs" / "examples.md"
IMAGES = PAGE.parent / "images"
# What is between them is written here, all else by hand.
PLACE = re.compile(
    r"(?<=<!-- results: )(?P<name>\w+)( -->\n).*?(?=<!-- end of results -->)",
    re.DOTALL,
)
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def keep(output: pathlib.Path) -> None:
    """Copies what an example wrote to where it is committed."""
    result = json.loads((output / "result.json").read_text())
    name, backend = result["name"], result["backend"]
    for folder in (RESULTS, IMAGES):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(output / "result.json", RESULTS / f"{name}.{backend}.json")
    shutil.copy(output / "figure.png", IMAGES / f"{name}.png")
    if (output / "runs.jsonl").exists():
        shutil.copy(
            output / "runs.jsonl", RESULTS / f"{name}.{backend}.runs.jsonl"
        )


def page(text: str) -> str:
    """The page with the results of all examples in their places."""
    return PLACE.sub(
        lambda place: place[1] + place[2] + section(place[1]), text
    )


def section(name: str) -> str:
    """Figure, tables and circumstances of an example, as Markdown."""
    files = [RESULTS / f"{name}.{backend}.json" for backend in BACKENDS]
    results = [json.loads(file.read_text()) for file in files if file.exists()]
    if not results:
        return "\nNot run yet.\n\n"
    parts = [f"![The figure of examples/{name}.py](images/{name}.png)"]
    for tables in zip(*(result["tables"] for result in results), strict=True):
        parts += [f"**{tables[0]['title']}**", side_by_side(results, tables)]
    parts += [circumstances(result) for result in results]
    return "\n" + "\n\n".join(parts) + "\n\n"


def side_by_side(results: list[dict], tables: tuple[dict, ...]) -> str:
    """Tables of the same rows as one, each under the name of its backend."""
    columns = [tables[0]["columns"][0]]
    rows = [row[:1] for row in tables[0]["rows"]]
    for result, table in zip(results, tables, strict=True):
        backend = f"{BACKENDS[result['backend']]}: " if len(tables) > 1 else ""
        columns += [backend + column for column in table["columns"][1:]]
        for row, more in zip(rows, table["rows"], strict=True):
            assert row[0] == more[0], "the tables have other rows"
            row += more[1:]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def circumstances(result: dict) -> str:
    versions = ", ".join(f"{n} {v}" for n, v in result["versions"].items())
    return (
        f"`{result['command']}`: {versions}, Python {result['python']}, "
        f"{result['cores']} cores of {result['processor']}, {result['date']}, "
        f"commit {result['commit']}."
    )


if __name__ == "__main__":
    for output in sys.argv[1:]:
        keep(pathlib.Path(output))
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
