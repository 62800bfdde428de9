"""Hooks of mkdocs: files of the repository that the pages link to.

The pages read well on a forge as they are, where `../examples/certified.py` is
a file beside them. On the site it is a link to the repository, and the build
fails where there is no such file. CHANGELOG.md becomes a page.
"""

import logging
import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
_LINK = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
# A forge wants a bar in the code of a table escaped, the site shows the escape.
_PIPE = re.compile(r"`[^`\n]*\\\|[^`\n]*`")
# Warnings of these loggers make a strict build fail.
_log = logging.getLogger("mkdocs.hooks.site_hooks")


def on_files(files, config):
    """Adds the changelog, which stands at the top of the repository."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links out of the documentation into links to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link):
        target, anchor = link.group(1), link.group(2) or ""
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return link.group(0)
        if not (ROOT / path).exists():
            _log.warning(f"{page.file.src_uri}: there is no file {path}")
        return f"]({config['repo_url'].rstrip('/')}/blob/main/{path}{anchor})"

    return _PIPE.sub(_unescaped, _LINK.sub(replaced, markdown))


def _unescaped(code):
    return code.group(0).replace(r"\|", "|")
