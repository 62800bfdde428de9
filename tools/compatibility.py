"""Tests keras_sn with other versions of Keras, the backends and Python.

    python tools/compatibility.py                    # the matrix: an hour
    python tools/compatibility.py --only keras==3.12 # rows that match
    python tools/compatibility.py --page             # docs/compatibility.md

Each set of backend and Python gets a virtual environment below `--folder`, and
each Keras in turn is installed into it. The results are kept in
tools/compatibility.json, which the page is made of.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import xml.etree.ElementTree as ElementTree

from rich.progress import track

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "tools" / "compatibility.json"
PAGE = ROOT / "docs" / "compatibility.md"

KERAS = ("3.10.0", "3.11.3", "3.12.4", "3.13.2", "3.14.1", "3.15.1")
# The newest patch of the oldest minor version that is allowed, and the newest.
# PyTorch for the CPU alone is not on PyPI in every version; the other wheels
# take gigabytes.
BACKENDS = {
    "tensorflow": ("tensorflow-cpu==2.18.1", "tensorflow-cpu==2.21.0"),
    "jax": ("jax==0.4.34", "jax==0.10.2"),
    "torch": ("torch==2.13.0",),
}
PYTHON = "3.11"
OTHER_PYTHONS = ("3.12", "3.13")
# What a version can break: private names, the contract of the layer (which
# trains, saves and loads), maps, rules, folding.
TESTS = (
    "tests/test_keras_access.py",
    "tests/layers/test_contract.py",
    "tests/linear_maps/test_registry.py",
    "tests/lipschitz/test_rules.py",
    "tests/models/test_folding.py",
)
NEEDED_BY_TESTS = ("pytest", "hypothesis", "scipy", "matplotlib")


@dataclasses.dataclass(frozen=True)
class Row:
    """One combination of versions.

    Attributes:
        backend: Name of the backend.
        package: Requirement that installs it, such as `jax==0.4.34`.
        keras: Version of Keras.
        python: Minor version of Python.
    """

    backend: str
    package: str
    keras: str
    python: str = PYTHON

    @property
    def name(self):
        return f"python{self.python} keras=={self.keras} {self.package}"

    @property
    def environment(self):
        return f"python{self.python}-{self.package}"


def matrix():
    """All rows: every Keras on the newest backend, the ends on the oldest."""
    rows = []
    for backend, packages in BACKENDS.items():
        for package in packages:
            newest = package == packages[-1]
            versions = KERAS if newest else (KERAS[0], KERAS[-1])
            rows += [Row(backend, package, version) for version in versions]
    # PyTorch's small package is there for one Python only.
    for python in OTHER_PYTHONS:
        for backend in ("tensorflow", "jax"):
            rows.append(Row(backend, BACKENDS[backend][-1], KERAS[-1], python))
    return rows


def run(row, folder):
    """Installs and tests one row.

    Returns:
        Dict of what was installed and how the tests ended.
    """
    home = folder / row.environment
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([f"python{row.python}", "-m", "venv", home], check=True)
    keras = f"keras=={row.keras}"
    install(python, row.package, keras, *NEEDED_BY_TESTS)
    install(python, "--no-deps", "--editable", ROOT)
    report = home / "report.xml"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "KERAS_BACKEND": row.backend}
    environment.pop("PYTHONPATH", None)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    with (home / f"{keras}.log").open("w") as log:
        subprocess.run(
            [python, *arguments, f"--junitxml={report}", *TESTS],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return {**dataclasses.asdict(row), **counts(report)}


def install(python, *requirements):
    command = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*command, *requirements], check=True)


def counts(report):
    """Passed, skipped and failed tests of a JUnit report."""
    if not report.exists():
        return {"error": "the tests did not start"}
    suite = ElementTree.parse(report).getroot().find("testsuite")
    failed = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = int(suite.get("skipped"))
    total = int(suite.get("tests"))
    return {
        "passed": total - skipped - len(failed),
        "skipped": skipped,
        "failed": failed,
        "seconds": round(float(suite.get("time"))),
    }


def known():
    """Results by name of the row."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def write(results):
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def write_page(results):
    """docs/compatibility.md: what was tested, and how it ended."""
    lines = [_HEAD]
    for result in results:
        failed = result.get("failed", [result.get("error", "")])
        outcome = f"{result.get('passed', 0)} passed"
        if result.get("skipped"):
            outcome += f", {result['skipped']} skipped"
        if failed:
            outcome += f", **{len(failed)} failed**"
        lines.append(
            f"| {result['keras']} | {result['package'].replace('==', ' ')} "
            f"| {result['python']} | {outcome} |"
        )
    lines.append(_NOTES)
    PAGE.write_text("\n".join(lines), "utf-8")


_HEAD = f"""# Versions that work

Written by `python tools/compatibility.py`; do not edit. Each row is a virtual
environment of its own, on Linux, without a GPU. The tests are those that a
version can break: {", ".join(f"`{name}`" for name in TESTS)}. A skip says why
in its test: what that Keras does not have, or that backend.

| Keras | backend | Python | tests |
| --- | --- | --- | --- |"""

_NOTES = """
## What an older Keras lacks

- Before 3.15 Keras refuses strides and dilation at once in depthwise and
  separable convolutions. On PyTorch it shifts a transposed convolution with
  an uneven padding by one pixel against the same layer on TensorFlow and JAX,
  with a warning, or refuses it. Norms and bounds hold for both;
  `LinearMap.at_size` describes the unshifted one.
- Before 3.13 there are no adaptive pooling layers, before 3.12 no
  `ReversibleEmbedding`: their rules are there from then on.
- `torch.compile(fullgraph=True)` takes a wrapped layer as one graph where it
  takes Keras itself so; nothing else depends on it.

## What was not run

A row that is missing was not run; each minor version of Keras from 3.10 on was,
on PyTorch at least. Rows differ by a few tests that were added in between, and
in some all of tests/linear_maps was run. PyTorch is tested in the one version
that is published for the CPU alone where this was run; the wheels of the others
take gigabytes. The lower bounds of the extras are those of Keras itself, and of
the tests.

## Downstream

[bayesflow](https://pypi.org/project/bayesflow/) 2.0.10 (Keras 3.15.1, the three
backends),
with this wrapper in place of the stock one and spectral normalization switched
on in every MLP: its tests of these networks pass (39 on each), flow matching
and a coupling flow train and sample. Its
[issue 276](https://github.com/bayesflow-org/bayesflow/issues/276), an MLP that
is called with two axes and then with three, raises with the stock layer of
Keras 3.10 and works with this one on the same Keras; newer versions of the
stock layer take it too.
Version 2.0.11 of bayesflow dropped the option.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default="out/versions")
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--page", action="store_true", help="the page alone")
    parser.add_argument("--list", action="store_true", help="names of rows")
    parser.add_argument("--tests", action="store_true", help="what is run")
    arguments = parser.parse_args()
    rows = [row for row in matrix() if arguments.only in row.name]
    if arguments.tests:
        print("\n".join(TESTS))
        return
    if arguments.list:
        print("\n".join(row.name for row in rows))
        return
    if not arguments.page:
        for row in track(rows, "versions"):
            result = run(row, arguments.folder.absolute())
            print(row.name, result)
            # Read anew: rows may be run side by side.
            write(known() | {row.name: result})
    results = known()
    write_page([results[r.name] for r in matrix() if r.name in results])


if __name__ == "__main__":
    main()
