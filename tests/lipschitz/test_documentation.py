"""docs/lipschitz_rules.md is what the registry says."""

import pathlib

from keras_sn.lipschitz.documentation import table

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "lipschitz_rules.md"


def test_the_table_of_rules_is_current():
    assert PAGE.read_text(encoding="utf-8") == table(), (
        "Run `python -m keras_sn.lipschitz.documentation > "
        "docs/lipschitz_rules.md`."
    )
