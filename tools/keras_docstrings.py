"""Reads docstrings in the style of Keras for the site, a griffe extension.

Sections that Google's style does not know (`Example:`, `Reference:`,
`Call arguments:`) get a heading, and sessions of Python a code block.
"""

import inspect
import re

import griffe

_HEADING = re.compile(r"^(Example|Reference|Call arguments):$")


class KerasDocstrings(griffe.Extension):
    """Rewrites each docstring as it is loaded."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            text = inspect.cleandoc(obj.docstring.value)
            obj.docstring.value = rewritten(text)


def rewritten(text):
    """The docstring with headings in bold and sessions in fences."""
    lines = []
    in_session = dedenting = False
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if in_session and not line.strip():
            lines.append("```")
            in_session = False
        if line.startswith(">>> ") and not in_session:
            lines.append("```pycon")
            in_session = True
        if heading:
            line = f"**{heading.group(1)}**\n"
            dedenting = True
        elif dedenting and line.startswith("    "):
            line = _as_item(line.removeprefix("    "))
        elif line.strip():
            dedenting = False
        lines.append(line)
    return "\n".join([*lines, "```"] if in_session else lines)


def _as_item(line):
    """`name: what it is` as an item of a list; what goes on stays as it is."""
    name, colon, what = line.partition(": ")
    if not colon or line.startswith(" "):
        return line
    return f"- `{name}`: {what}"
