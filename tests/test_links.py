"""The pages: links lead somewhere, every page and public name is in the site.

`make docs` checks the site as it is built. This checks the files as a forge
shows them, and needs nothing to be installed.
"""

import re

import pytest

import keras_sn
from tests.source import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
# Written when the site is built, from a file beside it.
BUILT = {"docs/changelog.md"}
# What has no page of its own in the reference.
NAMES = {"NormBounds", "SpectralNormalization", "__version__", "spectral_norm"}


def anchors(path):
    """The anchors that a forge, and the site, give the headings of a page."""
    text = CODE.sub("", path.read_text("utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {slug.strip().replace(" ", "-") for slug in slugs}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    dead = []
    for target in LINK.findall(CODE.sub("", path.read_text("utf-8"))):
        if re.match(r"(https?|mailto):", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (
            anchor and file.suffix == ".md" and anchor not in anchors(file)
        ):
            dead.append(target)
    assert not dead


def test_every_page_is_in_the_site():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    pages = {p.removeprefix("docs/") for p in PAGES if p.startswith("docs/")}
    built = {p.removeprefix("docs/") for p in BUILT}
    assert listed == pages | built


def public_names(module):
    """What a module offers, and not what it imports for itself."""
    return getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


def test_every_public_name_is_in_the_reference():
    text = "".join(
        path.read_text("utf-8") for path in ROOT.glob("docs/reference/*.md")
    )
    shown = re.findall(r"^::: (keras_sn\.[\w.]+)$", text, re.MULTILINE)
    missing = [
        f"{module}.{name}"
        for module in set(keras_sn.__all__) - NAMES
        # Of a module that is shown as such, all of it is.
        if f"keras_sn.{module}" not in shown
        for name in public_names(getattr(keras_sn, module))
        if not any(
            path.startswith(f"keras_sn.{module}.") and path.endswith(f".{name}")
            for path in shown
        )
    ]
    assert not missing
