"""Markdown tables and kept JSON results, shared by the benchmarks."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scoresde.files import write_atomically, write_json

__all__ = ["RESULTS", "line", "read_json", "table", "write_json", "write_page"]

RESULTS = Path(__file__).parent / "results"


def line(cells: Iterable[object]) -> str:
    """One row of a Markdown table."""
    return "|" + "|".join(f" {cell} " if str(cell) else " " for cell in cells) + "|"


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a Markdown table."""
    return [line(head), "|" + "---|" * len(head), *map(line, rows)]


def read_json(path: Path, default: Any) -> Any:
    """The results of earlier runs, or the default if there are none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def write_page(path: Path, lines: Iterable[str]) -> None:
    """Write the lines, ending in a single newline, under a temporary name and rename the file."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
