"""The house as DESIGN.md draws it: checked by reading the source.

What a file may import, how long it is, and who asks for what is private or
differs between backends. docs/architecture.md says why.
"""

import ast
import functools
import graphlib
import sys

import keras
import pytest

from tests.source import defined_names
from tests.source import foreign_imports
from tests.source import is_private
from tests.source import modules
from tests.source import private_attributes

LONGEST = 300

# A room imports rooms of a lower floor alone. On one floor nobody knows of
# the other, except at the bottom, where the tools are.
FLOORS = {
    "version": 0,
    "keras_access": 0,
    "fast_ops": 0,
    "input_gradients": 0,
    "circumstances": 0,
    "progress": 0,
    "tables": 0,
    "backend_choice": 0,
    "linear_maps": 1,
    "norms": 2,
    "layers": 3,
    # It has rules for our layers.
    "lipschitz": 4,
    "constraints": 3,
    "optimizers": 3,
    "regularizers": 3,
    "losses": 3,
    # They share what a label is with the losses.
    "metrics": 4,
    "models": 5,
    "callbacks": 6,
    "commands": 6,
    "cli": 7,
    "__main__": 8,
    # keras_sn/__init__.py, the table of contents.
    "": 9,
}

# Who may ask which backend runs, or import one: what exports to a format of
# one, and what differentiates with the backend's own means.
KNOW_THE_BACKEND = (
    "keras_sn/fast_ops.py",
    "keras_sn/input_gradients.py",
    "keras_sn/circumstances.py",
    "keras_sn/models/export/",
    "keras_sn/lipschitz/lower/pullback.py",
)
BACKENDS = {"tensorflow", "jax", "torch", "openvino"}
PRIVATE_KERAS = "keras_sn/keras_access.py"
# The classes that ours inherit from or handle, with private names of their
# own that none of ours may take, on purpose or by accident.
KERAS_CLASSES = (
    keras.layers.Layer,
    keras.layers.Wrapper,
    keras.Model,
    keras.Variable,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.callbacks.Callback,
    keras.constraints.Constraint,
    keras.regularizers.Regularizer,
)

each_module = pytest.mark.parametrize("module", modules(), ids=lambda m: m.path)


def places(module, nodes):
    """`file:line: source` of each node, for messages."""
    return [f"{module.path}:{n.lineno}: {ast.unparse(n)}" for n in nodes]


@each_module
def test_a_file_says_what_it_holds(module):
    docstring = ast.get_docstring(module.tree)
    assert docstring, f"{module.path} starts without a docstring"
    assert docstring.splitlines()[0].rstrip().endswith((".", ":")), docstring


@each_module
def test_a_file_is_short(module):
    lines = len(module.text.splitlines())
    assert lines <= LONGEST, f"{module.path} has {lines} lines"


@each_module
def test_a_name_says_more_than_utils(module):
    words = set(module.name.replace("_", ".").split("."))
    assert not words & {"utils", "util", "helpers", "helper", "misc", "common"}


def test_no_import_circle():
    graph = {
        module.name: {
            statement.target
            for statement in module.imports
            if not statement.for_types
        }
        for module in modules()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@each_module
def test_imports_go_down(module):
    assert module.room in FLOORS, f"{module.path}: which floor is it on?"
    floor = FLOORS[module.room]
    against = []
    for statement in module.imports:
        _, *parts = statement.target.split(".")
        room = parts[0] if parts else ""
        below = FLOORS.get(room, floor) < floor or floor == FLOORS[room] == 0
        if room != module.room and not below:
            against.append(f"{module.path}:{statement.line}: {room}")
    assert not against


def of_the_standard_library(node):
    """Whether it is an attribute of such a module, imported by its name."""
    owner = getattr(node.value, "id", None)
    return owner in sys.stdlib_module_names


@functools.cache
def own_names():
    """Every name that some file of the package defines."""
    return set().union(*(defined_names(module.tree) for module in modules()))


@functools.cache
def private_names_of_keras():
    """What its classes hold, and its instances: set in `__init__` alone."""
    names = set(vars(keras.layers.Dense(1))).union(*map(dir, KERAS_CLASSES))
    return {name for name in names if is_private(name)}


@pytest.mark.on_every_backend
@each_module
def test_what_is_private_in_keras_is_in_one_place(module):
    if module.path == PRIVATE_KERAS:
        return
    foreign = [
        node
        for node in private_attributes(module.tree)
        if node.attr not in own_names() and not of_the_standard_library(node)
    ]
    assert not places(module, foreign)
    modules_inside = [
        f"{module.path}:{line}: {target}"
        for line, target in foreign_imports(module)
        if target.startswith("keras.src")
        or any(is_private(part) for part in target.split("."))
    ]
    assert not modules_inside


@pytest.mark.on_every_backend
@each_module
def test_no_name_of_ours_is_a_private_name_of_keras(module):
    inside_classes = {
        name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for name in defined_names(node)
    }
    assert not inside_classes & private_names_of_keras()


def asks_for_the_backend(node):
    """`keras.backend.backend()`, `keras.config.backend()`, `backend()`."""
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = getattr(function, "attr", getattr(function, "id", None))
    return name == "backend"


@each_module
def test_few_know_the_backend(module):
    if module.path.startswith(KNOW_THE_BACKEND):
        return
    asked = filter(asks_for_the_backend, ast.walk(module.tree))
    assert not places(module, asked)
    imported = [
        f"{module.path}:{line}: {target}"
        for line, target in foreign_imports(module)
        if target.split(".")[0] in BACKENDS
    ]
    assert not imported
