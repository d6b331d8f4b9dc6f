"""`scoresde sample`."""

from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.names import completed
from scoresde.cli.options import Average, Device, Json, Precision, Prior, Seed

__all__ = ["sample"]


@command(
    "scoresde sample --n 16 --out samples.png",
    "scoresde sample --prior mnist --sampler ddim --steps 50",
)
def sample(
    out: Annotated[Path, typer.Option(help="Picture to write, a grid of the draws.")] = Path(
        "out/samples.png"
    ),
    prior: Prior = "natural",
    average: Average = None,
    n: Annotated[int, typer.Option("--n", help="Number of draws.", min=1)] = 16,
    size: Annotated[
        int | None,
        typer.Option(help="Side of each draw in pixels. [the training size]", min=1),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(help="A sampler from `scoresde list`.", autocompletion=completed("samplers")),
    ] = "heun",
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of the sampler. [its own, see `scoresde list`]", min=1),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Draw from a prior, without a measurement."""
    import torch

    from problems.checks import check_choice
    from scoresde.data.figures import check_picture_name, image_grid
    from scoresde.data.images import write_image
    from scoresde.files import check_writable
    from scoresde.pipelines.devices import choose_device, open_prior
    from scoresde.pipelines.memory import check_draws
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.priors.base import CountingPrior
    from solvers import SAMPLERS

    with as_input_error():
        check_choice("sampler", sampler, SAMPLERS)
        chosen = SAMPLERS[sampler](steps)
    check_picture_name(out)
    check_writable(out.parent)
    counted = CountingPrior(open_prior(prior, choose_device(device), precision, average))
    shape = (counted.shape[0], size, size) if size else counted.shape
    check_draws(counted.prior, shape, n)
    generator = torch.Generator().manual_seed(seed)
    with progress_bar("sampling") as progress:
        callback = (lambda i, total, *_: progress(i / total)) if progress else None
        draws = chosen.sample(counted, n, generator=generator, shape=shape, callback=callback)
    write_image(image_grid(draws.cpu()), out)
    report = {
        "format": "scoresde.sample-report/1",
        "prior": prior,
        "draws": n,
        "shape": list(shape),
        "sampler": sampler,
        "average": average,
        "nfe": counted.nfe,
        "seed": seed,
        "file": str(out),
    }
    if as_json:
        print_json(report)
    else:
        made = "1 draw" if n == 1 else f"{n} draws"
        echo(f"{made} by {sampler} with {counted.nfe} network evaluations; wrote {out}")
