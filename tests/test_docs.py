"""The pages: every Python block runs, those of one page in one namespace."""

import re
from unittest import mock

import keras
import pytest

import keras_sn.models
from tests.source import ROOT

PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if "```python" in path.read_text("utf-8")
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

# What the blocks of a page take for granted: the layers and data that its
# reader has, anew before each block.
GIVEN = {
    "README.md": """
import keras, numpy as np
layer = keras_layer = keras.layers.Dense(3)
keras_layer.build((None, 4))
kernel_array = np.ones((4, 3))
""",
    "docs/models.md": """
import keras, numpy as np
model = keras.Sequential([
    keras.Input((8, 8, 1)),
    keras.layers.Conv2D(2, 3, name="block1_conv"),
    keras.layers.Flatten(),
    keras.layers.Dense(3, name="logits"),
])
x = np.ones((4, 8, 8, 1), "float32")
y = np.ones((4, 3), "float32")
""",
}


def blocks(page):
    """`(number of lines before it, source)` of each Python block."""
    text = (ROOT / page).read_text("utf-8")
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start(1)), found.group(1)


@pytest.fixture(autouse=True)
def _no_other_process(monkeypatch):
    """A SavedModel from another backend takes a process of TensorFlow's.

    tests/models/test_exporting.py starts it; here the arguments are checked.
    """
    if keras.backend.backend() != "tensorflow":
        export = mock.create_autospec(keras_sn.models.export_model)
        monkeypatch.setattr(keras_sn.models, "export_model", export)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page}
    for line, source in blocks(page):
        exec(GIVEN.get(page, ""), namespace)
        # Tracebacks point into the page.
        code = compile("\n" * line + source, str(ROOT / page), "exec")
        exec(code, namespace)
