"""Output of the commands: progress bars on standard error, reports on standard output."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

__all__ = ["print_json", "print_table", "progress_bar"]


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[float], None] | None]:
    """Show a progress bar if standard error is a terminal.

    Args:
        text: Title of the bar.

    Yields:
        A function of the finished fraction; None if there is no bar.
    """
    if not sys.stderr.isatty():
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
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


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
