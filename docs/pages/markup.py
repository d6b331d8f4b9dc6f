"""Small pieces of Markdown, and what a Google-style docstring says."""

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "arguments",
    "as_markdown",
    "first_sentence",
    "module_text",
    "retarget",
    "sentence",
    "table",
]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table; columns of numbers are aligned to the right."""
    rows = [list(row) for row in rows]
    if not rows:
        return ""
    numeric = [
        all(re.fullmatch(r"(?:[−+\d.,e–\s-]|diverges)*", row[i]) for row in rows)
        for i in range(len(header))
    ]
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join("---:" if right else "---" for right in numeric) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_markdown(text: str) -> str:
    """Turn the inline markup of a docstring into Markdown."""
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":\w+:`~?(?:[^`<]*\.)?([^`.<]+)`", r"`\1`", text)
    return text.replace("``", "`")


def first_sentence(thing: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    text = inspect.getdoc(thing) or ""
    return as_markdown(" ".join(text.split("\n\n")[0].split()))


def sentence(text: str) -> str:
    """Begin with a capital letter and end with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def arguments(cls: type) -> dict[str, str]:
    """Read the section "Args" of a class and of its bases.

    Returns:
        Description of each argument, on one line, by name.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", text, flags=re.M)
        for entry in re.split(r"^[ ]{4}(?=\S)", section[1] if section else "", flags=re.M)[1:]:
            name, _, rest = entry.partition(":")
            found[name.strip("* ")] = as_markdown(" ".join(rest.split()))
    return found


def module_text(module: str) -> str:
    """Show the docstring of a module, with its mathematics."""
    return f"```{{eval-rst}}\n.. automodule:: {module}\n   :no-members:\n   :no-index:\n```\n"


def retarget(text: str, pages: dict[str, str], depth: int) -> str:
    """Point the links of a file of the repository to the pages of the site.

    Args:
        text: Markdown with links that start at the root of the repository.
        pages: Page of the site by file of the repository.
        depth: Folders between the page and the start of the site.

    Returns:
        The text. What the site does not have is named, not linked.
    """

    def change(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        if target.startswith(("http://", "https://", "#")):
            return found[0]
        page = pages.get(target.split("#")[0])
        plain = label if label.startswith("`") else f"`{label}`"
        return plain if page is None else f"[{label}]({'../' * depth}{page})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", change, text)
