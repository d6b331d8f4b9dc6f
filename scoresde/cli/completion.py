"""`scoresde completion`, and the answers to the shell."""

import os
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script

from scoresde.cli.app import command
from scoresde.errors import InputError

__all__ = ["VARIABLE", "completion", "prepare_answers"]

VARIABLE = "_SCORESDE_COMPLETE"
"""Environment variable by which the script of a shell asks for completions."""

_SHELLS = ("bash", "zsh", "fish")


@command(
    'eval "$(scoresde completion bash)"  # in ~/.bashrc',
    'eval "$(scoresde completion zsh)"  # in ~/.zshrc, after compinit',
    "scoresde completion fish > ~/.config/fish/completions/scoresde.fish",
    can_be_quiet=False,
)
def completion(
    shell: Annotated[
        str,
        typer.Argument(
            help="bash, zsh or fish.",
            autocompletion=lambda incomplete: [s for s in _SHELLS if s.startswith(incomplete)],
        ),
    ],
) -> None:
    """Print the script that makes a shell complete commands, options and names."""
    if shell not in _SHELLS:
        raise InputError(f"unknown shell {shell!r:.80}; known: {', '.join(_SHELLS)}")
    typer.echo(get_completion_script(prog_name="scoresde", complete_var=VARIABLE, shell=shell))


def prepare_answers() -> None:
    """Let Typer answer if a shell asks for completions."""
    if VARIABLE in os.environ:
        completion_init()
