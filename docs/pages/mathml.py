"""Mathematics as MathML: it is read without a network and without JavaScript."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

__all__ = ["mathml", "setup"]

_FUNCTIONS = "log|ln|exp|sin|cos|tan"
_REPLACED = (
    (r"\\([bB]ig+)[lrm]?(?![a-zA-Z])", ""),  # brackets grow by themselves in MathML
    (r"\\dots(?![a-zA-Z])", r"\\ldots"),
    (r"\\([td]?frac)\s*(\d)\s*([a-zA-Z\d])", r"\\\1{\2}{\3}"),  # 12 would be one number
    # functions stand a little apart from what they are applied to
    (rf"\\({_FUNCTIONS})(?![a-zA-Z])(?=\s*[\\a-zA-Z])(?!\s*\\(?:left|[,;: ]))", r"\\\1\\,"),
    (rf"(?<=[a-zA-Z\d}}])\s*\\({_FUNCTIONS})(?![a-zA-Z])", r"\\,\\\1"),
)
_COMBINING = {"ˉ": "\u0304", "˜": "\u0303", "ˆ": "\u0302", "^": "\u0302", "~": "\u0303"}
_ACCENTED = re.compile(
    rf"<mover[^>]*>\s*<mi>(\w)</mi>\s*<mo[^>]*>([{re.escape(''.join(_COMBINING))}])</mo>\s*</mover>"
)


def mathml(tex: str, block: bool) -> str:
    """Convert a formula.

    Args:
        tex: LaTeX without its delimiters.
        block: Whether it stands on a line of its own.

    Returns:
        An element <math>.

    Raises:
        docutils.utils.math.MathError: If the formula has an unknown command.
    """
    text = " ".join(tex.split())
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text)
    converted: str = tex2mathml(text, as_block=block)
    return _ACCENTED.sub(_accented, converted)


def _accented(found: re.Match[str]) -> str:
    """A letter with its accent as one sign: fonts place it better than an accent of its own."""
    letter = found[1]
    if letter == "h":
        letter = "ℎ"  # the italic h stands apart from the others
    elif letter.isascii() and letter.isalpha():
        first = 0x1D434 if letter.isupper() else 0x1D44E
        letter = chr(first + ord(letter.upper()) - ord("A"))
    return f"<mi>{letter}{_COMBINING[found[2]]}</mi>"


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append('<div class="math">')
    self.body.append(mathml(node.astext(), block=True))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer with Sphinx.

    Args:
        app: The application.

    Returns:
        What Sphinx wants to know of an extension.
    """
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
