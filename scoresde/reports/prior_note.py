"""What a reader should know about a prior: its size, its data and their licence."""

import re
from dataclasses import dataclass
from typing import Any

from scoresde.files import WEIGHTS

__all__ = ["PriorNote", "prior_note"]

_UNKNOWN = (
    "The file of the prior does not state its training data. Find out their licence before the "
    "pictures are used."
)


@dataclass(frozen=True)
class PriorNote:
    """A prior in words.

    Args:
        name: Name, or path of the file.
        summary: What it was made for; None if it is not stated.
        parameters: Number of weights.
        data: Its training data and their licence.
    """

    name: str
    summary: str | None
    parameters: int
    data: str


def prior_note(name: str, card: dict[str, Any], parameters: int) -> PriorNote:
    """Describe a prior by its file and, if it ships with the package, by its card.

    Args:
        name: Name of an embedded prior, or path of a file.
        card: The card in the header of the file.
        parameters: Number of weights.

    Returns:
        The description.

    Example:
        >>> prior_note("mnist", {}, 3).data.endswith("Licence: CC BY-SA 3.0")
        True
    """
    stated = card.get("data")
    summary = card.get("summary")
    return PriorNote(
        name,
        str(summary) if summary else None,
        parameters,
        _of_card(name) or (str(stated) if stated else _UNKNOWN),
    )


def _of_card(name: str) -> str | None:
    """The row on the data in the card of an embedded prior."""
    if not re.fullmatch(r"[\w-]+", name):
        return None
    try:
        text = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    except OSError:
        return None
    row = re.search(r"^\| data \| (.*) \|$", text, re.MULTILINE)
    return re.sub(r"[`*]|\]\([^)]*\)|\[", "", row[1]) if row else None
