"""`scoresde average`."""

from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json
from scoresde.cli.options import Json

__all__ = ["average"]


@command(
    "scoresde average out/run --out prior.safetensors --sigma-rel 0.15",
)
def average(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run of `scoresde train --snapshot-every N`.")
    ],
    out: Annotated[Path, typer.Option(help="Prior to write, a .safetensors file.")],
    sigma_rel: Annotated[
        float,
        typer.Option(
            help="Length of the average of the weights: its standard deviation over the steps "
            "taken, up to 0.288."
        ),
    ] = 0.1,
    step: Annotated[
        int | None, typer.Option(help="Step at which the average ends. [the last snapshot]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the prior with an average of a run's weights, chosen after its training."""
    from scoresde.files import check_writable
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.priors.checkpoint import save_prior
    from scoresde.training import average_weights

    check_writable(out.parent)
    with as_input_error():
        prior = average_weights(run, sigma_rel, step)
    save_prior(prior, out)
    report = {
        "format": "scoresde.average-report/1",
        "prior": str(out),
        **prior.card["average"],
    }
    if as_json:
        print_json(report)
    else:
        echo(
            f"averaged the weights up to step {report['step']} with sigma_rel {sigma_rel:g}; "
            f"wrote {out}"
        )
