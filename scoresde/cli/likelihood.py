"""`scoresde likelihood`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.names import completed
from scoresde.cli.options import Average, Device, Json, Prior, Scheduler, Seed, WorkerCount
from scoresde.cli.report_option import Report, check_report, typed_command, write_report

__all__ = ["likelihood"]


@command(
    "scoresde likelihood photo.png",
    "scoresde likelihood --prior mnist --dataset digits.npz --array test_images --count 20",
)
def likelihood(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="8-bit pictures, of any size that the prior takes."),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A .npy, .npz or .mat file of images, (N, H, W) or (N, H, W, C), uint8."),
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Name of the array in a file that holds several.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="Number of images, from the start of the data set. [100]", min=1),
    ] = None,
    prior: Prior = "natural",
    average: Average = None,
    divergence: Annotated[
        str,
        typer.Option(
            help="Divergence estimator: hutchinson (random probes) or exact (one VJP per pixel).",
            autocompletion=completed("divergences"),
        ),
    ] = "hutchinson",
    probes: Annotated[
        int, typer.Option(help="hutchinson: probes at each node, a power of 2.", min=1)
    ] = 4,
    nodes: Annotated[
        int | None,
        typer.Option(
            help="Noise levels at which the divergence is evaluated. [64; 32 if exact]",
            max=100_000,
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Dequantisation samples of each image.", min=1)] = 1,
    importance: Annotated[
        bool,
        typer.Option("--importance", help="Importance-weighted bound of all k samples: tighter."),
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    batch: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 16,
    workers: WorkerCount = 1,
    scheduler: Scheduler = None,
    page: Report = None,
    as_json: Json = False,
) -> None:
    """Compute bits per dimension of 8-bit images under a prior, with standard errors."""
    import torch

    from scoresde.pipelines.devices import choose_device, open_prior
    from scoresde.pipelines.likelihood import ImageSource, Opened, score_images
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.pipelines.workers import Workers

    check_report(page)
    who, opened = Workers(workers, scheduler), Opened(prior, device, average)
    source = ImageSource(tuple(images or ()), dataset, array, count)
    model = open_prior(prior, choose_device(device), "fp32", average)
    settings: dict[str, Any] = {
        "divergence": divergence,
        "probes": probes,
        "nodes": nodes if nodes is not None else 32 if divergence == "exact" else 64,
        "k": k,
        "importance": importance,
    }
    generator = torch.Generator().manual_seed(seed)
    with as_input_error(), progress_bar("likelihood") as progress:
        report = score_images(model, source, generator, progress, batch, who, opened, **settings)
    report |= {"prior": prior, "average": average, "seed": seed}
    if page is not None:
        from scoresde.reports import environment, likelihood_page

        write_report(
            likelihood_page(report, typed_command(), environment(model.device)),
            page,
            silent=as_json,
        )
    if as_json:
        print_json(report)
        return
    values, errors = report["bits_per_dim"], report["std_error"]
    if dataset is None:
        for name, value, error in zip(report["images"], values, errors, strict=True):
            echo(f"{value:8.4f} ± {error:.4f} bits/dim  {name}")
    if len(values) > 1:
        echo(
            f"{report['mean']:8.4f} ± {report['mean_std_error']:.4f} bits/dim, mean of "
            f"{len(values)} images"
        )
    echo(
        f"{report['nfe']} network evaluations and {report['vjps']} vector-Jacobian products per "
        f"image; {report['seconds']:.1f} s"
    )
