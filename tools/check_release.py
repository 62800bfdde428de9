"""What has to be true before a version goes to PyPI.

    python tools/check_release.py v0.1.0

The tag is the version, the changelog has a section for it, and the addresses of
the project are real ones. Needs nothing to be installed.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]


def faults(tag):
    """What stands against releasing this tag, as sentences."""
    version = _find(r'__version__ = "(.+)"', "keras_sn/version.py")
    if tag != f"v{version}":
        yield f"The tag is {tag}, the version in keras_sn/version.py {version}."
    if f"## [{version}]" not in _read("CHANGELOG.md"):
        yield f"CHANGELOG.md has no section [{version}]."
    if _find(r'^version: "?([^"\n]+)', "CITATION.cff") != version:
        yield f"CITATION.cff is not of version {version}."
    for path in ("pyproject.toml", "mkdocs.yml", "CITATION.cff"):
        if ".example/" in _read(path):
            yield f"{path} has addresses that lead nowhere (*.example)."


def _read(path):
    return (ROOT / path).read_text("utf-8")


def _find(pattern, path):
    return re.search(pattern, _read(path), re.MULTILINE).group(1)


if __name__ == "__main__":
    found = list(faults(sys.argv[1]))
    print("\n".join(found) or "ready")
    sys.exit(bool(found))
