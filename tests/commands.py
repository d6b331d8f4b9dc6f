"""The command line as a user calls it, in this process."""

import re
import sys

import pytest
from typer.main import get_command

from scoresde.cli import main
from scoresde.cli.app import app

__all__ = ["foreign_options", "run"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(status, standard output, standard error).

    An error that advises an option which the command does not have fails the test.
    """
    given = tuple(map(str, arguments))
    old, sys.argv = sys.argv, ["scoresde", *given]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = old
    out, err = capsys.readouterr()
    code = stop.value.code
    if code == 2:
        assert not (foreign := foreign_options(given, err)), f"no options of it: {foreign} in {err}"
    return (code if isinstance(code, int) else 1), out, err


def foreign_options(given: tuple[str, ...], text: str) -> set[str]:
    """Options in a text that the command does not have.

    What the user wrote, and commands in backquotes, may have others.
    """
    commands = get_command(app).commands  # type: ignore[attr-defined]
    if not given or given[0] not in commands:
        return set()
    own = {
        name
        for parameter in commands[given[0]].params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"`[^`]*`", "", text)))
    return named - own - {word.split("=")[0] for word in given}
