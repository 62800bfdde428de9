"""The pages in docs: the table of rules is current, the examples run."""

import pathlib
import re

from keras_sn.lipschitz.documentation import table

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_table_of_rules_is_current():
    page = (DOCS / "lipschitz_rules.md").read_text(encoding="utf-8")
    assert page == table(), (
        "Run `python -m keras_sn.lipschitz.documentation > "
        "docs/lipschitz_rules.md`."
    )


def test_the_examples_of_the_page_run():
    page = (DOCS / "lipschitz.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    names = {}
    exec(compile(code, "docs/lipschitz.md", "exec"), names)
    assert names["radii"].shape == (64,)
