"""`scoresde demo`."""

from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import app
from scoresde.cli.console import print_json
from scoresde.cli.options import Device, Json, Precision, Prior, Seed
from scoresde.pipelines.settings import DEFAULT_SOLVER, RestoreOptions

__all__ = ["demo"]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for sheet.png and report.json.")] = Path(
        "out/demo"
    ),
    prior: Prior = "natural",
    solver: Annotated[str, typer.Option(help="A solver from `scoresde list`.")] = DEFAULT_SOLVER,
    samples: Annotated[
        int | None, typer.Option(help="Number of posterior draws. [8; 1 for an estimate]", min=1)
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Restore three photographs that come with scikit-image."""
    from scoresde.pipelines.demo import demo as run
    from scoresde.pipelines.plan import budget

    solver, _, samples = budget("normal", solver, None, samples)
    options = RestoreOptions(
        solver=solver, samples=samples, seed=seed, prior=prior, device=device, precision=precision
    )
    report = run(out, options, None if as_json else typer.echo)
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"restored in {report['restoration_seconds']} s; see {out / 'sheet.png'} and "
        f"{out / 'report.json'}"
    )
