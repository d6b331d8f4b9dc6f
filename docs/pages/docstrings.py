"""Docstrings as Sphinx reads them: shapes such as (B, *shape) and norms |x| are no markup."""

import re
from typing import Any

from sphinx.application import Sphinx

__all__ = ["escape", "setup"]

_LITERAL = re.compile(r"``.+?``|:\w+:`[^`]*`|`[^`]+`")
_STAR = re.compile(r"(?<=[(,\s])\*(?=[A-Za-z_]+[),.\s])")


def escape(lines: list[str]) -> list[str]:
    """Escape stars and bars of running text.

    Args:
        lines: Lines of a docstring.

    Returns:
        The lines; formulas, examples and literals are as they were.
    """
    found: list[str] = []
    block: int | None = None  # indentation of the directive or literal block that we are in
    example = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        text = line.strip()
        example = bool(text) and (example or text.startswith(">>>"))
        if block is not None and text and indent <= block:
            block = None
        if block is None and not example:
            if text.startswith(".. math::") or text.endswith("::"):
                block = indent
            else:
                line = _escaped(line)
        found.append(line)
    return found


def _escaped(line: str) -> str:
    pieces, start = [], 0
    for literal in _LITERAL.finditer(line):
        pieces += [_plain(line[start : literal.start()]), literal[0]]
        start = literal.end()
    return "".join([*pieces, _plain(line[start:])])


def _plain(text: str) -> str:
    return _STAR.sub(r"\\*", text).replace("|", r"\|")


def _process(_app: Sphinx, _what: str, _name: str, _thing: Any, _: Any, lines: list[str]) -> None:
    lines[:] = escape(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, before the sections of Google style are read.

    Args:
        app: The application.

    Returns:
        What Sphinx wants to know of an extension.
    """
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
