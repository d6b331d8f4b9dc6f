"""`scoresde compare`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import app
from scoresde.cli.console import print_json
from scoresde.cli.options import Device, Json, Seed
from scoresde.cli.report_option import typed_command
from scoresde.errors import InputError

__all__ = ["compare"]


@app.command()
def compare(
    dataset: Annotated[
        Path,
        typer.Option(
            help="A .npz file with train_images and test_images, (N, H, W) or (N, H, W, C), uint8."
        ),
    ],
    budget: Annotated[
        float | None,
        typer.Option(
            help="Minutes of training of each family. [use the weights that come with the "
            "package, for digits]"
        ),
    ] = None,
    families: Annotated[
        str, typer.Option(help="Families, separated by commas.")
    ] = "vae,gan,flow,autoregressive,diffusion",
    out: Annotated[Path, typer.Option(help="Folder for the tables and the pictures.")] = Path(
        "out/compare"
    ),
    work: Annotated[
        Path,
        typer.Option(
            help="Folder that keeps trained models and scores; an interrupted run continues there."
        ),
    ] = Path("runs/compare"),
    samples: Annotated[int, typer.Option(help="Draws of each model.")] = 1000,
    likelihoods: Annotated[
        int, typer.Option(help="Test pictures whose density is measured.")
    ] = 200,
    pictures: Annotated[
        int, typer.Option(help="Test pictures that are restored, for each problem.")
    ] = 10,
    draws: Annotated[int, typer.Option(help="Posterior draws of each of them.")] = 9,
    features: Annotated[
        str | None,
        typer.Option(help="digits, pixels or inception. [digits for grey 28x28, else inception]"),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare VAE, GAN, flow, autoregressive and diffusion models on one data set."""
    from scoresde.families.comparison.judge import JudgeConfig
    from scoresde.pipelines.compare import CompareOptions
    from scoresde.pipelines.compare import compare as run
    from scoresde.pipelines.devices import choose_device
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.reports import comparison_page, environment, write_page
    from scoresde.training import TrainingError

    with as_input_error():
        settings = CompareOptions(
            dataset,
            out,
            work,
            families=tuple(name.strip() for name in families.split(",")),
            minutes=budget,
            features=features,
            device=str(choose_device(device)),
            judging=JudgeConfig(samples, likelihoods, pictures, draws, seed),
        )
    try:
        report = run(
            settings, lambda line: typer.echo(line, err=True), progress=sys.stderr.isatty()
        )
    except TrainingError as error:
        raise InputError(str(error)) from None
    made = environment(choose_device(device))
    write_page(comparison_page(report, out, typed_command(), made), out / "report.html")
    if as_json:
        print_json(report)
    else:
        typer.echo((out / "comparison.md").read_text())
        typer.echo(f"wrote {out / 'comparison.md'} and the pictures beside it")
