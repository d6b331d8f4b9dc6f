"""Which works a docstring cites."""

import re
import unicodedata
from functools import cache
from pathlib import Path

__all__ = ["cited", "keys"]

BIBLIOGRAPHY = Path(__file__).parents[2] / "references.bib"


@cache
def _entries() -> dict[str, re.Pattern[str]]:
    """A pattern that finds the citations of a work in author-year form, by key."""
    found = {}
    for entry in re.split(r"^@", BIBLIOGRAPHY.read_text(), flags=re.M)[1:]:
        key = re.match(r"\w+\{(\w+),", entry)
        fields = dict(re.findall(r"^\s+(\w+)\s*=\s*\{(.*)\},?$", entry, flags=re.M))
        assert key
        if "citedas" in fields:
            pattern = re.escape(fields["citedas"]).replace(r"\ 2", r"\ \(?2")
        else:
            surname = re.sub(r"\\.|[{}]", "", fields["author"].split(" and ")[0].split(",")[0])
            pattern = rf"{re.escape(_plain(surname))}\b[^.;()]{{0,60}}(?: et al\.)?[^.;()]{{0,40}}"
            pattern += rf" \(?{fields['year']}"
        found[key[1]] = re.compile(pattern)
    return found


def keys() -> list[str]:
    """Return the keys of references.bib."""
    return list(_entries())


def _plain(text: str) -> str:
    """Letters without their accents."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def cited(text: str) -> list[str]:
    """Find the works that a text cites.

    Returns:
        Their keys, in the order of references.bib.
    """
    line = _plain(" ".join(text.split()))
    return [key for key, pattern in _entries().items() if pattern.search(line)]
