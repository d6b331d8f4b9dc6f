"""`scoresde demo`."""

from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.names import completed
from scoresde.cli.options import Device, Effort, Json, Precision, Prior, Seed
from scoresde.pipelines.settings import DEFAULT_SOLVER, RestoreOptions

__all__ = ["demo"]


@command(
    "scoresde demo",
    "scoresde demo --effort normal --out out/normal",
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for sheet.png and report.json.")] = Path(
        "out/demo"
    ),
    prior: Prior = "natural",
    solver: Annotated[
        str | None,
        typer.Option(
            help=f"A solver from `scoresde list`. [{DEFAULT_SOLVER}, or as --effort says]",
            autocompletion=completed("solvers"),
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Number of posterior draws. [as --effort says; 1 for an estimate]", min=1
        ),
    ] = None,
    effort: Effort = "quick",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Restore three photographs that come with scikit-image."""
    from scoresde.pipelines.demo import demo as run
    from scoresde.pipelines.plan import budget

    solver, steps, samples = budget(effort, solver, None, samples)
    options = RestoreOptions(
        solver=solver,
        steps=steps,
        samples=samples,
        seed=seed,
        prior=prior,
        device=device,
        precision=precision,
    )
    with progress_bar("restoring") as progress:
        report = run(out, options, None if as_json else echo, progress)
    if as_json:
        print_json(report)
        return
    echo(
        f"restored in {report['restoration_seconds']} s, {report['samples']} draws each; see "
        f"{out / 'sheet.png'} and {out / 'report.json'}"
    )
