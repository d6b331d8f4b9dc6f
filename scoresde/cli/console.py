"""Output of the commands: progress bars on standard error, reports on standard output."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

__all__ = [
    "echo",
    "is_first_process",
    "print_json",
    "print_table",
    "printable",
    "progress_bar",
    "set_quiet",
    "shows_progress",
]

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Decide whether the command prints warnings, errors and JSON only.

    Args:
        quiet: Whether it does.
    """
    global _quiet
    _quiet = quiet


def shows_progress() -> bool:
    """Tell whether progress is shown: on a terminal, unless the command is quiet."""
    return sys.stderr.isatty() and not _quiet


def is_first_process() -> bool:
    """Tell whether this is the first of the processes that `accelerate launch` has started."""
    return os.environ.get("RANK", "0") == "0"


def printable(text: str) -> str:
    r"""Write what would change the terminal, such as a line end in the name of a file, as its code.

    Args:
        text: Any text.

    Returns:
        The text in one line.

    Example:
        >>> print(printable("photo\n1.png"))
        photo\n1.png
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def echo(line: str, *, err: bool = False) -> None:
    """Print a line for people, unless the command is quiet.

    Args:
        line: The line.
        err: Print it on standard error.
    """
    if not _quiet:
        typer.echo(line, err=err)


@contextmanager
def progress_bar(text: str, *, at_once: bool = True) -> Iterator[Callable[[float], None] | None]:
    """Show a progress bar with the time left, if standard error is a terminal.

    Args:
        text: Title of the bar.
        at_once: Show it from the start; else from the first fraction on.

    Yields:
        A function of the finished fraction; None if there is no bar.
    """
    if not shows_progress():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(text),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # lines of the report pass by the bar, unless they go to a file
    both = sys.stdout.isatty()
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=both)
    task = bar.add_task(text, total=1.0)

    def advance(fraction: float) -> None:
        bar.start()  # does nothing if it has started
        bar.update(task, completed=fraction)

    try:
        if at_once:
            bar.start()
        yield advance
    finally:
        bar.stop()


def print_json(content: Any) -> None:
    """Print JSON, NaN and infinities as null.

    Args:
        content: Plain values.
    """
    from scoresde.files import json_safe

    typer.echo(json.dumps(json_safe(content), indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output, at its full width.

    Args:
        columns: Headings; an empty one for words, which are aligned on the left.
        rows: Cells of each row.
    """
    if _quiet:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, emoji=False)
    wide = console.options.update(width=1000)
    console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)
