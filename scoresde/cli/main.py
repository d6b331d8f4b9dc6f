"""The entry point of the `scoresde` command."""

import sys

import typer

from scoresde.cli import (
    average,
    calibrate,
    compare,
    demo,
    likelihood,
    restore,
    sample,
    train,
    verify,
)
from scoresde.cli import list as list_command
from scoresde.cli.app import app
from scoresde.errors import InputError

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    restore,
    calibrate,
    sample,
    train,
    average,
    likelihood,
    verify,
    compare,
    demo,
    list_command,
)
"""The modules of the commands, which register themselves when they are imported."""

# some versions of Typer carry their own click and others import it: the name is the same
_ClickError: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def main() -> None:
    """Run the command; bad input ends in one line on standard error and exit status 2."""
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except (InputError, _ClickError) as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        typer.echo(f"scoresde: error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("scoresde: interrupted", err=True)
        sys.exit(130)
