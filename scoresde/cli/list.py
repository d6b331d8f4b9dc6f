"""`scoresde list`."""

from typing import Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import print_json
from scoresde.cli.options import Json

__all__ = ["list_names"]

_FORMS = {"size": "HEIGHT,WIDTH", "spacing": "WIDTH"}
"""What to write for the settings that have no default."""


@command(
    "scoresde list",
    "scoresde list --json",
    name="list",
    can_be_quiet=False,
)
def list_names(as_json: Json = False) -> None:
    """List priors, problems, solvers, samplers, averages and the models of the comparison."""
    from scoresde.families.comparison.entrants import embedded_families
    from scoresde.files import read_header
    from scoresde.pipelines.named_problems import PROBLEMS
    from scoresde.priors.adapted.loading import LOADERS
    from scoresde.priors.averaged import GROUPS
    from scoresde.priors.checkpoint import embedded_priors
    from solvers import SAMPLERS, SOLVERS

    priors = {name: read_header(path).get("card", {}) for name, path in embedded_priors().items()}
    families = {name: read_header(path)["card"] for name, path in embedded_families().items()}
    content: dict[str, dict[str, str]] = {
        "priors": {name: card.get("summary", name) for name, card in priors.items()},
        "priors of others": {f"{name}:...": summary for name, (*_, summary) in LOADERS.items()},
        "problems": {
            name: _with_settings(entry.summary, entry.settings) for name, entry in PROBLEMS.items()
        },
        "solvers": {
            name: f"{entry.summary} [{entry.exactness}; {entry.steps} steps]"
            for name, entry in SOLVERS.items()
        },
        "samplers": {
            name: f"{entry.summary} [{entry.steps} steps]" for name, entry in SAMPLERS.items()
        },
        "averages": {name: group.summary for name, group in GROUPS.items()},
        "families": {name: card["summary"] for name, card in families.items()},
    }
    if as_json:
        print_json({"format": "scoresde.list-report/1"} | content)
        return
    for title, entries in content.items():
        typer.echo(title)
        width = max(20, *map(len, entries))
        for name, line in entries.items():
            typer.echo(f"  {name:{width}s} {line}")


def _with_settings(summary: str, defaults: dict[str, Any]) -> str:
    """A summary with the settings, each with its default, or with its form if it has none."""
    return summary + "".join(
        f" [--set {name}={_FORMS[name] if value == '' else value}]"
        for name, value in defaults.items()
    )
