"""Markdown tables and kept JSON results, shared by the benchmarks."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scoresde.files import write_atomically, write_json
from scoresde.priors.checkpoint import benchmark_priors, embedded_priors

__all__ = [
    "RESULTS",
    "Cells",
    "line",
    "read_json",
    "short_command",
    "table",
    "weights_id",
    "write_json",
    "write_page",
]

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


class Cells:
    """Finished cells by key, written after each, so that an interrupted run resumes.

    Args:
        path: File of the cells; None to keep none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.values: dict[str, Any] = {} if path is None else read_json(path, {})

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str) -> Any:
        """The cell, or None."""
        return self.values.get(key)

    def put(self, key: str, cell: Any) -> None:
        self.values[key] = cell
        if self.path is not None:
            write_json(self.values, self.path)

    def drop(self, prefix: str) -> None:
        """Forget the cells whose key begins so, to measure them again."""
        self.values = {k: v for k, v in self.values.items() if not k.startswith(prefix)}

    def under(self, prefix: str) -> list[Any]:
        """The cells whose key begins so, in the order of their making."""
        return [v for k, v in self.values.items() if k.startswith(prefix)]


def short_command(script: str, arguments: Sequence[str]) -> str:
    """A command line for a page: files by their names alone, folders by their last two parts.

    Example:
        >>> short_command("speed.py", ["--images", "/data/bsds500/val", "--prior", "/a/b.pt"])
        'python benchmarks/speed.py --images bsds500/val --prior b.pt'
    """
    words = []
    for previous, word in zip(["", *arguments], arguments, strict=False):
        if previous == "--out" or word == "--out":
            continue
        label, equals, rest = word.rpartition("=")
        path = Path(rest)
        if len(path.parts) > 1:
            rest = path.name if path.suffix else "/".join(path.parts[-2:])
        words.append(label + equals + rest)
    return " ".join(["python", f"benchmarks/{script}", *words])


def write_page(path: Path, lines: Iterable[str]) -> None:
    """Write the lines, ending in a single newline, under a temporary name and rename the file."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def weights_id(prior: str | Path) -> str:
    """The first digits of the SHA-256 of a prior's file, so that kept cells name their weights."""
    path = (embedded_priors() | benchmark_priors()).get(str(prior), Path(prior))
    if not path.is_file():
        raise SystemExit(f"there is no prior {prior}; give an embedded name or a file")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
