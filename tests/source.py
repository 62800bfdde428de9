"""The package's source as data: its modules, what they import and touch."""

import ast
import dataclasses
import functools
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "keras_sn"


@dataclasses.dataclass(frozen=True)
class Import:
    """One import of a module of the package.

    Attributes:
        target: The module imported, such as `keras_sn.norms.bounds`.
        line: Line number.
        for_types: Whether it stands under `if TYPE_CHECKING`.
    """

    target: str
    line: int
    for_types: bool


@dataclasses.dataclass(frozen=True)
class Module:
    """A file of the package.

    Attributes:
        name: Such as `keras_sn.norms.bounds`; of a package its own name.
        path: Path below the root of the repository, with slashes.
        text: The source.
    """

    name: str
    path: str
    text: str

    @functools.cached_property
    def tree(self):
        return ast.parse(self.text, self.path)

    @property
    def room(self):
        """The part of the package it belongs to, such as `norms`."""
        return self.name.split(".")[1] if "." in self.name else ""

    @functools.cached_property
    def imports(self):
        """The modules of the package it imports, functions included."""
        known = {module.name for module in modules()}
        found = []
        type_only = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in _text(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(self.tree):
            for target in _imported(node, known):
                if target.split(".")[0] == PACKAGE:
                    found.append(
                        Import(target, node.lineno, id(node) in type_only)
                    )
        return found


@functools.cache
def modules():
    """All modules of the package."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        relative = path.relative_to(ROOT)
        parts = relative.with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        text = path.read_text("utf-8")
        found.append(Module(".".join(parts), relative.as_posix(), text))
    return tuple(found)


def _text(node):
    return ast.unparse(node)


def _imported(node, known):
    """Names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        # `from package import name` imports a module of that name, if any.
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in known else node.module for name in names]
    return []


def foreign_imports(module):
    """`(line, module)` of all imports from outside of the package."""
    for node in ast.walk(module.tree):
        for target in _imported(node, set()):
            if target.split(".")[0] != PACKAGE:
                yield node.lineno, target


def private_attributes(tree):
    """Attributes with a leading underscore, whoever they belong to.

    Yields:
        `ast.Attribute` nodes; for a name as a string in `getattr` and the
        like, an equivalent one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "setattr", "hasattr", "delattr")
            and isinstance(node.args[1], ast.Constant)
            and is_private(node.args[1].value)
        ):
            yield ast.Attribute(
                node.args[0], node.args[1].value, lineno=node.lineno
            )


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def defined_names(tree):
    """Names that a file defines: functions, classes, variables, attributes.

    An attribute counts if it is assigned on `self` or `cls`, in a class that
    thus owns it.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            names.add(node.attr)
    return names
