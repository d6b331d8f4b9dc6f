"""The entry point of the `scoresde` command."""

import sys
import warnings
from typing import NoReturn

import typer

from scoresde.cli import (
    audit,
    average,
    calibrate,
    check_prior,
    compare,
    completion,
    demo,
    doctor,
    export,
    likelihood,
    restore,
    sample,
    train,
    ui,
    verify,
)
from scoresde.cli import list as list_command
from scoresde.cli.app import app
from scoresde.cli.console import is_first_process, printable
from scoresde.cli.interruption import interruption_status, remembered_interruption
from scoresde.errors import InputError, OtherProcessError

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    restore,
    calibrate,
    sample,
    train,
    average,
    likelihood,
    check_prior,
    export,
    audit,
    verify,
    compare,
    demo,
    ui,
    doctor,
    list_command,
    completion,
)
"""The modules of the commands, which register themselves when they are imported."""

# some versions of Typer carry their own click and others import it: the name is the same
_ClickError: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


_INTERRUPTED = (130, 143)
"""Statuses of a shell for a command that Ctrl-C or SIGTERM ended."""


def main() -> None:
    """Run the command; bad input ends in one line on standard error and exit status 2.

    Ctrl-C ends in one line, too, and in status 130; SIGTERM likewise, in status 143.
    """
    completion.prepare_answers()
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    with remembered_interruption() as interrupted:
        try:
            status = app(standalone_mode=False)
        except KeyboardInterrupt as error:
            _interrupted(interruption_status(interrupted, error))
        except Exception as error:
            # Typer makes an Abort of KeyboardInterrupt, and of the end of any file, too
            cause = error.__cause__ if isinstance(error, typer.Abort) else None
            if interrupted or isinstance(cause, KeyboardInterrupt):
                _interrupted(interruption_status(interrupted, cause))
            if isinstance(error, OtherProcessError):
                raise SystemExit(2) from None
            if isinstance(error, InputError):
                _leave(f"error: {error}", 2)
            if isinstance(error, _ClickError):
                _leave(f"error: {error.format_message()}", 2)  # type: ignore[attr-defined]
            if isinstance(error, OSError) and error.filename is not None:
                _leave(f"error: cannot use {error.filename}: {error.strerror}", 2)
            if _is_lack_of_memory(error):
                _leave("error: out of memory; ask for less at once, or for smaller pictures", 2)
            if isinstance(cause, EOFError):
                _leave(f"error: a file ends before its content does ({cause}); write it again", 2)
            raise
    if status in _INTERRUPTED:  # some versions of Typer return it in the place of an exception
        _interrupted(interruption_status([status - 128, *interrupted]))
    sys.exit(status if isinstance(status, int) else 0)


def _show_warning(message: Warning | str, *_: object) -> None:
    """A warning as one line, without the place in the code."""
    typer.echo(printable(f"scoresde: warning: {' '.join(str(message).split())}"), err=True)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether numpy, torch on a processor, or torch on a GPU did not get its memory."""
    words = ("can't allocate memory", "out of memory")
    refused = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return refused or isinstance(error, MemoryError)


def _interrupted(status: int) -> NoReturn:
    if is_first_process():
        _leave("interrupted", status)
    raise SystemExit(status)


def _leave(message: str, status: int) -> NoReturn:
    """One line on standard error, and a status."""
    typer.echo(printable(f"scoresde: {' '.join(message.split())}"), err=True)
    raise SystemExit(status)
