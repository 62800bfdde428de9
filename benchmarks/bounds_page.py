"""The tables of docs/lipschitz.md, made from the results of benchmarks.

`python -m benchmarks.bounds_page` writes them anew; `benchmarks.lipschitz`,
`.local`, `.convolutional` and `.conformal` do so when they have measured.
"""

import json
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from benchmarks.environment import environment
from benchmarks.tables import BACKENDS
from benchmarks.tables import markdown

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "lipschitz_results"
PAGE = ROOT / "docs" / "lipschitz.md"


def save(name: str, results: Any) -> None:
    """Writes the results of `benchmarks.<name>`, and the page."""
    facts = environment([], f"benchmarks.{name}", ("eclipse-nn",))
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": facts, "results": results}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", "utf-8")
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")


def with_tables(page: str) -> str:
    """The page with the tables of the committed results in their places."""
    for mark, (name, table) in TABLES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists() or f"<!-- {mark} -->" not in page:
            continue
        data = json.loads(path.read_text("utf-8"))
        start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
        before, rest = page.split(start)
        _, after = rest.split(end)
        text = table(data["results"]) + "\n\n" + _where(data["environment"])
        page = before + start + text + "\n" + end + after
    return page


def _where(facts: dict[str, Any]) -> str:
    """How, on what and with what the numbers above were found."""
    versions = facts["versions"]
    backend = facts["backend"]
    found = versions.get(backend, versions.get(f"{backend}-cpu", ""))
    parts = [
        f"`{facts['command']}`, {facts['date']}",
        f"{facts['cores']} cores of {facts['processor']}"
        + ", busy" * facts["busy"],
        f"NumPy {versions['numpy']}, {BACKENDS[backend]} {found}".strip(),
    ]
    if "eclipse-nn" in versions:
        parts.append(f"eclipse-nn {versions['eclipse-nn']}")
    return "Seen with " + "; ".join(parts) + "."


def seconds(value: float) -> str:
    """Such as `0.012 s`, to two digits."""
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def number(value: float) -> str:
    """To four digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def dense_table(results: dict) -> str:
    """A row for each network: bounds as shares of the product of norms."""
    methods = list(results["networks"][0]["found"])
    rows = []
    for row in results["networks"]:
        product = row["product"]
        cells = [
            f"{found['bound'] / product:.4f}, {seconds(found['seconds'])}"
            for found in row["found"].values()
        ]
        rows.append([row["name"], *cells])
    return markdown(["network", *methods], rows)


def balls_table(results: dict) -> str:
    """A row for each network and activation, a column for each radius."""
    radii = results["radii"]
    rows = []
    for row in results["balls"]:
        cells = [number(bound) for bound in row["bounds"]]
        times = ""
        if row.get("peer"):
            shares = zip(row["bounds"], row["peer"], strict=True)
            cells = [f"{ours / theirs:.2g}" for ours, theirs in shares]
            times = f"{row['peer_seconds'] / row['seconds']:.1f}"
        name = f"{row['layers']} x {row['width']}"
        rows.append([name, row["activation"], *cells, times])
    heads = ["layers x width", "activation"]
    heads += [f"radius {radius:g}" for radius in radii]
    return markdown([*heads, "times faster"], rows)


def radii_table(results: dict) -> str:
    """A row for each way to certify the predictions of a classifier."""
    rows = []
    for row in results["certified"]:
        rate = row["inputs"] / row["seconds"]
        rows.append(
            [
                row["name"],
                f"{row['median']:.4f}",
                f"{row['inputs']:,}",
                seconds(row["seconds"]),
                f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}",
            ]
        )
    heads = ["method", "median radius", "inputs", "time", "inputs a second"]
    return markdown(heads, rows)


def convolutional_table(results: dict) -> str:
    """A row for each network: bounds, how near the lower one is, seconds."""
    return markdown(
        [
            *("network", '`"product"`', '`"rescaled"`', '`"closed_form"`'),
            *('`"auto"`', '`"refined"`', "attained", "least upper / attained"),
        ],
        _convolutional_rows(results),
    )


def _convolutional_rows(results: dict) -> Iterator[list[str]]:
    methods = ("product", "rescaled", "closed_form", "auto", "refined")
    for name, row in results.items():
        cells = [
            f"{number(row[method]['bound'])}, {seconds(row[method]['seconds'])}"
            for method in methods
        ]
        lower = row["lower"]["bound"]
        least = min(row[method]["bound"] for method in methods)
        ratio = f"{least / lower:.2f}" if lower else ""
        yield [name, *cells, number(lower), ratio]


def conformal_table(results: list) -> str:
    """A row for each radius and kind of bounds."""
    rows = [
        [
            f"{row['radius']:g}",
            row["bounds"],
            f"{row['splits']}",
            f"{row['covered']:.3f}",
            f"{row['size']:.2f}",
        ]
        for row in results
    ]
    heads = ["radius", "bounds", "splits", "covered", "classes per set"]
    return markdown(heads, rows)


# By the marks around them: the file of results, and what makes the table.
TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "dense stacks": ("lipschitz", dense_table),
    "chains of convolutions": ("convolutional", convolutional_table),
    "balls": ("local", balls_table),
    "radii": ("local", radii_table),
    "conformal sets": ("conformal", conformal_table),
}


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
