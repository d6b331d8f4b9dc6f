"""The option --report of commands that write no folder."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.console import echo
from scoresde.errors import InputError

__all__ = ["Report", "check_report", "typed_command", "write_report"]

Report = Annotated[
    Path | None, typer.Option("--report", help="HTML file to write: the numbers with plots.")
]


def typed_command() -> str:
    """Write the command of this process as a shell takes it.

    Returns:
        The command.
    """
    return shlex.join(["scoresde", *sys.argv[1:]])


def check_report(path: Path | None) -> None:
    """Check that an HTML file can be written, before the work that fills it.

    Args:
        path: Path of the file; None for no file.

    Raises:
        InputError: If it has another suffix, or its folder cannot be written into.
    """
    from scoresde.files import check_writable

    if path is None:
        return
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--report writes HTML, got {path}; give a name that ends with .html")
    check_writable(path.parent)


def write_report(html: str, path: Path, *, silent: bool) -> None:
    """Write an HTML file and say so.

    Args:
        html: The page.
        path: Path of the file.
        silent: Say nothing, because standard output is JSON.

    Raises:
        InputError: If the file cannot be written.
    """
    from scoresde.reports import write_page

    write_page(html, path)
    if not silent:
        echo(f"wrote {path}")
