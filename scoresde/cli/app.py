"""The Typer application that the commands register with."""

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Score-based SDEs for inverse problems: restore photographs, train priors, draw samples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
