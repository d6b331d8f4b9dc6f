"""The Typer application, and how commands register with it."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from scoresde.cli.console import set_quiet
from scoresde.cli.help import Command, Commands

__all__ = ["app", "command"]

app = typer.Typer(
    cls=Commands,
    help="Score-based SDEs for inverse problems: restore photographs, train priors, draw samples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n"
    "  scoresde demo\n"
    "  scoresde restore photo.png --problem denoise\n"
    "  scoresde restore --help",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"scoresde {version('scoresde')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print warnings and errors only, and what --json prints."),
]


def command(
    *examples: str, name: str | None = None, can_be_quiet: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: register a function as a command.

    Args:
        *examples: Command lines for the end of its help.
        name: Name of the command; None for that of the function.
        can_be_quiet: Whether it has the option --quiet.

    Returns:
        A decorator that returns the function as it is.
    """
    epilog = "\b\n" + "\n".join(("Examples:", *(f"  {line}" for line in examples)))

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, cls=Command, epilog=epilog if examples else None)(
            _with_quiet(function) if can_be_quiet else function
        )
        return function

    return register


def _with_quiet(function: Callable[..., None]) -> Callable[..., None]:
    """The function with one more parameter, of the option --quiet."""

    def run(*, quiet: bool, **values: Any) -> None:
        set_quiet(quiet)
        try:
            function(**values)
        finally:
            set_quiet(False)

    own = list(inspect.signature(function, eval_str=True).parameters.values())
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [one.replace(kind=kind) for one in own]
    parameters.append(inspect.Parameter("quiet", kind, default=False, annotation=Quiet))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run
