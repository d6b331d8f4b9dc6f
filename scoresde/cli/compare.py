"""`scoresde compare`."""

from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar, shows_progress
from scoresde.cli.names import completed_list
from scoresde.cli.options import Device, Json, Scheduler, Seed, WorkerCount
from scoresde.cli.report_option import typed_command
from scoresde.errors import InputError

__all__ = ["compare"]


@command(
    "scoresde compare --dataset digits.npz",
    "scoresde compare --dataset pictures.npz --budget 30 --families flow,diffusion",
    "scoresde compare --dataset digits.npz --workers 2",
)
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
        str,
        typer.Option(
            help="Families, separated by commas.", autocompletion=completed_list("families")
        ),
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
    workers: WorkerCount = 1,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Compare VAE, GAN, flow, autoregressive and diffusion models on one data set.

    With --workers the models are judged at the same time; they are trained one after another.
    """
    from scoresde.families.comparison.judge import JudgeConfig
    from scoresde.pipelines.compare import CompareOptions
    from scoresde.pipelines.compare import compare as run
    from scoresde.pipelines.devices import choose_device
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.pipelines.workers import Workers
    from scoresde.reports import comparison_page, environment, write_page
    from scoresde.training import TrainingError

    who = Workers(workers, scheduler)
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
        with progress_bar("judging", at_once=False) as judging:
            report = run(
                settings,
                lambda line: echo(line, err=True),
                progress=shows_progress(),
                judging=judging,
                workers=who,
            )
    except TrainingError as error:
        raise InputError(str(error)) from None
    made = environment(choose_device(device))
    write_page(comparison_page(report, out, typed_command(), made), out / "report.html")
    if as_json:
        print_json(report)
    else:
        echo((out / "comparison.md").read_text())
        echo(f"wrote {out / 'comparison.md'} and the pictures beside it")
