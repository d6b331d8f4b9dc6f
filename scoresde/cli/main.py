"""The ``scoresde`` command: a thin layer that turns options into calls, and bad input into one line."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli import options
from scoresde.errors import InputError

__all__ = ["app", "main"]

# typer carries a click of its own in some versions and imports it in others: the base of both is the same name
_ClickError: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)

app = typer.Typer(
    help="Score-based SDEs for inverse problems: restore photographs, train priors, draw from them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@contextmanager
def _progress(text: str) -> Iterator[Callable[[float], None] | None]:
    """A bar on standard error when that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(text),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


def _print_json(content: Any) -> None:
    from scoresde.files import json_safe

    typer.echo(json.dumps(json_safe(content), indent=2))


@app.command()
def restore(
    image: Annotated[
        Path,
        typer.Argument(
            help="The photograph, in any format that Pillow reads; or a measurement (C, ...) as .npy."
        ),
    ],
    problem: options.Problem,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and report.json.")] = Path(
        "out/restore"
    ),
    mask: options.Mask = None,
    box: options.Box = None,
    random: options.Random = None,
    kernel: options.Kernel = None,
    gaussian: options.Gaussian = None,
    motion: options.Motion = None,
    disk: options.Disk = None,
    boundary: options.Boundary = "reflect",
    scale: options.Scale = 4.0,
    filter: options.Filter = "bicubic",
    photons: options.Photons = None,
    settings: options.Settings = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The picture is the truth; damage it first.")
    ] = False,
    sigma: options.Sigma = None,
    solver: options.Solver = "mmps",
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    samples: options.Samples = None,
    effort: options.Effort = "normal",
    calibration: Annotated[
        Path | None,
        typer.Option(help="A file of `scoresde calibrate`: writes intervals that can be trusted."),
    ] = None,
    level: Annotated[
        float, typer.Option(help="Of the intervals: the share of pixels that they hold.")
    ] = 0.9,
    prior: options.Prior = "natural",
    average: options.Average = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = 384,
    as_json: options.Json = False,
) -> None:
    """Restore a photograph: posterior draws, their mean, and a map of what is uncertain."""
    from scoresde.pipelines.intervals import IntervalOptions
    from scoresde.pipelines.named_problems import ProblemOptions
    from scoresde.pipelines.restore import RestoreOptions, budget
    from scoresde.pipelines.restore import restore as run

    damage = ProblemOptions(
        problem, mask, box, random, kernel, gaussian, motion, disk, boundary, scale, filter, photons, tuple(settings or ())
    )  # fmt: skip
    how = RestoreOptions(
        sigma,
        solver,
        sampler,
        *budget(effort, solver, steps, samples),
        seed,
        prior,
        average,
        device,
        precision,
        tile,
    )
    with _progress("restoring") as progress:
        interval = IntervalOptions(level, calibration)
        report = run(
            image, damage, how, out, simulate=simulate, interval=interval, progress=progress
        ).report
    if as_json:
        _print_json(report)
        return
    for name in ("measurement", "draw", "mean"):
        if name in report:
            typer.echo(
                f"{name:12s} {report[name]['psnr']:6.2f} dB  SSIM {report[name]['ssim']:.3f}"
            )
    if "interval" in report:
        typer.echo(_interval_line(report["interval"]))
    cost = f"{report['nfe']} network evaluations a draw"
    typer.echo(
        f"{report['samples']} draws by {report['solver']} in {report['seconds']:.1f} s ({cost}); wrote {out}/: {', '.join(report['files'])}"
    )


def _interval_line(interval: dict[str, Any]) -> str:
    kind = "calibrated" if interval["calibrated"] else "raw Gaussian"
    held = (
        f", hold the truth in {interval['coverage']:.1%} of the pixels"
        if "coverage" in interval
        else ""
    )
    line = f"intervals    {interval['level']:.0%}, {kind}, mean width {interval['mean_width']:.3f} on [-1, 1]{held}"
    return line + (f"\nwarning      {interval['warning']}" if "warning" in interval else "")


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="Photographs like those to be restored.")],
    problem: options.Problem,
    out: Annotated[
        Path, typer.Option(help="The file to write, for `scoresde restore --calibration`.")
    ] = Path("out/calibration.json"),
    count: Annotated[
        int,
        typer.Option(help="Pictures, drawn at random from the folder; all if it has fewer.", min=1),
    ] = 50,
    crop: Annotated[int, typer.Option(help="Side of their centre crops.", min=1)] = 96,
    level: Annotated[
        list[float] | None,
        typer.Option(help="A level to calibrate; repeat it. [0.5, 0.68, 0.9, 0.95]"),
    ] = None,
    mask: options.Mask = None,
    box: options.Box = None,
    random: options.Random = None,
    kernel: options.Kernel = None,
    gaussian: options.Gaussian = None,
    motion: options.Motion = None,
    disk: options.Disk = None,
    boundary: options.Boundary = "reflect",
    scale: options.Scale = 4.0,
    filter: options.Filter = "bicubic",
    photons: options.Photons = None,
    settings: options.Settings = None,
    sigma: options.Sigma = None,
    solver: options.Solver = "mmps",
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    samples: options.Samples = None,
    effort: options.Effort = "normal",
    prior: options.Prior = "natural",
    average: options.Average = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = 384,
    as_json: options.Json = False,
) -> None:
    """Measure how far the intervals of a restoration can be trusted, on photographs of your own, and correct them."""
    from scoresde.pipelines.calibrate import CalibrateOptions
    from scoresde.pipelines.calibrate import calibrate as run
    from scoresde.pipelines.named_problems import ProblemOptions
    from scoresde.pipelines.restore import RestoreOptions, budget

    damage = ProblemOptions(
        problem, mask, box, random, kernel, gaussian, motion, disk, boundary, scale, filter, photons, tuple(settings or ())
    )  # fmt: skip
    how = RestoreOptions(
        sigma,
        solver,
        sampler,
        *budget(effort, solver, steps, samples),
        seed,
        prior,
        average,
        device,
        precision,
        tile,
    )
    chosen = CalibrateOptions(count, crop, tuple(level)) if level else CalibrateOptions(count, crop)
    with _progress("calibrating") as progress:
        report = run(folder, damage, how, chosen, out, progress)
    if as_json:
        _print_json(report)
        return
    typer.echo("level   scale   coverage before  after   mean width before  after")
    for row in report["levels"]:
        after = "      " if row["coverage_after"] is None else f"{row['coverage_after']:6.1%}"
        typer.echo(
            f"{row['level']:5.3g}  {row['scale']:6.3f}  {row['coverage_before']:15.1%}  {after}  "
            f"{row['mean_width_before']:17.3f}  {row['mean_width_after']:5.3f}"
        )
    typer.echo(
        f"from {report['pictures']} pictures of {crop}x{crop}; after: each picture by the scale of all others; wrote {out}"
    )


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="The picture to write, a grid of the draws.")] = Path(
        "out/samples.png"
    ),
    prior: options.Prior = "natural",
    average: options.Average = None,
    n: Annotated[int, typer.Option("--n", help="Draws.", min=1)] = 16,
    size: Annotated[
        int | None,
        typer.Option(help="Side of each draw in pixels; the training size by default.", min=1),
    ] = None,
    sampler: Annotated[str, typer.Option(help="A name from `scoresde list`.")] = "heun",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps of the sampler. [its own: 40 of heun, see `scoresde list`]", min=1
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
) -> None:
    """Draw from a prior, without any measurement."""
    import torch

    from scoresde.data.figures import image_grid
    from scoresde.data.images import write_image
    from scoresde.files import check_writable
    from scoresde.pipelines.restore import choose_device, open_prior
    from scoresde.priors.base import CountingPrior
    from solvers import SAMPLERS

    if sampler not in SAMPLERS:
        raise InputError(f"unknown sampler {sampler!r}; known: {', '.join(SAMPLERS)}")
    check_writable(out.parent)
    counted = CountingPrior(open_prior(prior, choose_device(device), precision, average))
    shape = (counted.shape[0], size, size) if size else counted.shape
    generator = torch.Generator().manual_seed(seed)
    with _progress("sampling") as progress:
        callback = (lambda i, total, *_: progress(i / total)) if progress else None
        draws = SAMPLERS[sampler](steps).sample(
            counted, n, generator=generator, shape=shape, callback=callback
        )
    write_image(image_grid(draws.cpu()), out)
    report = {
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
        _print_json(report)
    else:
        typer.echo(f"{n} draws by {sampler} with {counted.nfe} network evaluations; wrote {out}")


@app.command()
def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder of photographs, or a .npy or .npz file of images (N, H, W) or (N, H, W, C), uint8."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the weights, the state and the TensorBoard log.")
    ],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 20_000,
    batch: Annotated[
        int, typer.Option(help="Images of the first crop size per step and process.")
    ] = 16,
    crop: Annotated[
        list[int] | None,
        typer.Option(help="Side of the random crops; repeat it to mix sizes. [64]"),
    ] = None,
    widths: Annotated[
        str, typer.Option(help="Channels of each level of the UNet, finest first.")
    ] = "48,96,192",
    blocks: Annotated[int, typer.Option(help="Residual blocks per level and direction.")] = 2,
    attention: Annotated[
        str | None,
        typer.Option(help="Levels that end with self-attention, 0 the finest. [the coarsest]"),
    ] = None,
    channels: Annotated[int, typer.Option(help="3 for colour, 1 for grey.")] = 3,
    array: Annotated[
        str | None, typer.Option(help="The name of the array in a .npz file that holds several.")
    ] = None,
    dequantise: Annotated[
        bool,
        typer.Option(
            "--dequantise", help="Arrays: add uniform noise within each of the 256 grey levels."
        ),
    ] = False,
    flips: Annotated[
        bool,
        typer.Option(
            "--flips", help="Arrays: flip and turn at random, as is always done with photographs."
        ),
    ] = False,
    fourier: Annotated[
        str | None,
        typer.Option(
            help="Exponents of Fourier features, say 4,5,6,7,8: the network resolves grey levels."
        ),
    ] = None,
    sigma_data: Annotated[
        float, typer.Option(help="Standard deviation of the data on [-1, 1].")
    ] = 0.5,
    noise: Annotated[
        str, typer.Option(help="MEAN,STD of the logarithm of the noise levels.")
    ] = "-1.2,1.5",
    noise_range: Annotated[str, typer.Option(help="MIN,MAX noise level.")] = "0.002,80",
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate; a cosine takes it to zero.")
    ] = 1e-3,
    ema: Annotated[float, typer.Option(help="Decay of the average of the weights.")] = 0.999,
    precision: Annotated[str, typer.Option(help="bf16 or no.")] = "bf16",
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 1000,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from the weights of this prior: an embedded one, or a .safetensors file."
        ),
    ] = None,
    seed: options.Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(help="auto (all that `accelerate launch` gives, else the first GPU) or cpu."),
    ] = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the network first: faster steps, the same but for rounding."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Train a score prior on images by denoising score matching."""
    from scoresde.data.datasets import ImageArray, ImageFolder
    from scoresde.networks import UNetConfig
    from scoresde.pipelines.parsing import as_input_error, numbers
    from scoresde.priors.checkpoint import load_prior
    from scoresde.training import NoiseLevels, TrainConfig, TrainingError
    from scoresde.training import train as run

    if device not in ("auto", "cpu"):
        raise InputError(
            f"--device must be auto or cpu, got {device!r}; choose GPUs with CUDA_VISIBLE_DEVICES or accelerate launch"
        )
    with as_input_error():
        levels = numbers(widths, int, "--widths")
        exponents = numbers(fourier, int, "--fourier") if fourier else ()
        network = UNetConfig(
            channels=channels, widths=levels, blocks=blocks, extra=2 * channels * len(exponents),
            attention=(len(levels) - 1,) if attention is None else numbers(attention, int, "--attention"),
        )  # fmt: skip
        config = TrainConfig(
            steps=steps, batch=batch, crops=tuple(crop or [64]), learning_rate=learning_rate, ema=ema,
            precision=precision, seed=seed, network=network, sigma_data=sigma_data, fourier=exponents,
            noise=NoiseLevels(*numbers(noise, float, "--noise", "MEAN,STD"), *numbers(noise_range, float, "--noise-range", "MIN,MAX")),
        )  # fmt: skip
    if data.suffix in (".npy", ".npz"):
        images: ImageFolder | ImageArray = ImageArray(data, array, dequantise, flips)
    elif array or dequantise or flips:
        raise InputError(
            f"--array, --dequantise and --flips are for .npy and .npz files; {data} is not one"
        )
    else:
        images = ImageFolder(data, channels)
    if images.channels != channels:
        raise InputError(
            f"the images of {data} have {images.channels} channels; pass --channels {images.channels}"
        )
    start = load_prior(init) if init is not None else None
    try:
        run(
            images, out, config, init=start, resume=resume, cpu=device == "cpu", compiled=compiled, save_every=save_every,
            progress=sys.stderr.isatty(),
        )  # fmt: skip
    except TrainingError as error:
        raise InputError(str(error)) from None
    report = {
        "prior": str(out / "prior.safetensors"),
        "images": len(images),
        "steps": steps,
        "log": str(out / "log"),
    }
    if as_json:
        _print_json(report)
    else:
        typer.echo(f"trained {steps} steps on {len(images)} images; wrote {report['prior']}")


@app.command()
def likelihood(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Pictures of 8 bits, each of any size that the prior takes."),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A .npy or .npz file of images, (N, H, W) or (N, H, W, C), uint8."),
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="The name of the array in a .npz file that holds several.")
    ] = None,
    count: Annotated[
        int, typer.Option(help="The first so many images of the data set.", min=1)
    ] = 100,
    prior: options.Prior = "natural",
    average: options.Average = None,
    divergence: Annotated[
        str,
        typer.Option(
            help="Of the flow: hutchinson (random probes) or exact (one product for every pixel)."
        ),
    ] = "hutchinson",
    probes: Annotated[
        int, typer.Option(help="hutchinson: vectors at each node, a power of 2.", min=1)
    ] = 4,
    nodes: Annotated[
        int | None,
        typer.Option(
            help="Noise levels at which the trace is taken. [64; 32 with the exact trace]"
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Dequantisation samples of each image.", min=1)] = 1,
    importance: Annotated[
        bool, typer.Option("--importance", help="The tighter bound of all k samples together.")
    ] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    batch: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 16,
    as_json: options.Json = False,
) -> None:
    """Bits per dimension of 8-bit images under a prior, with standard errors."""
    import torch

    from scoresde.pipelines.likelihood import ImageSource, score_images
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.pipelines.restore import choose_device, open_prior

    source = ImageSource(tuple(images or ()), dataset, array, count)
    model = open_prior(prior, choose_device(device), "fp32", average)
    nodes = nodes or (32 if divergence == "exact" else 64)
    settings: dict[str, Any] = {
        "divergence": divergence,
        "probes": probes,
        "nodes": nodes,
        "k": k,
        "importance": importance,
    }
    with as_input_error(), _progress("likelihood") as progress:
        report = score_images(
            model, source, torch.Generator().manual_seed(seed), progress, batch, **settings
        )
    report |= {"prior": prior, "average": average, "seed": seed}
    if as_json:
        _print_json(report)
        return
    if dataset is None:
        for name, value, error in zip(
            report["images"], report["bits_per_dim"], report["std_error"], strict=True
        ):
            typer.echo(f"{value:8.4f} ± {error:.4f} bits/dim  {name}")
    if len(report["bits_per_dim"]) > 1:
        typer.echo(
            f"{report['mean']:8.4f} ± {report['mean_std_error']:.4f} bits/dim, mean of {len(report['bits_per_dim'])} images"
        )
    typer.echo(
        f"{report['nfe']} network evaluations and {report['products']} products an image; {report['seconds']:.1f} s"
    )


@app.command()
def verify(
    solver: Annotated[
        list[str] | None, typer.Option(help="A solver of the table; repeat it. [all]")
    ] = None,
    problem: Annotated[
        list[str] | None, typer.Option(help="An exact problem; repeat it. [nine; with --full all]")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws for each measurement.", min=10)] = 200,
    seeds: Annotated[int, typer.Option(help="Measurements of each problem.", min=1)] = 1,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="All problems, up to 800 dimensions; memory; and simulation-based calibration on some.",
        ),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes at once. [as many as processors]", min=1)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare solvers with posteriors whose exact law is known."""
    from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, VERIFIED, processors, table

    every = EXACT_PROBLEMS | FULL_PROBLEMS
    for given, known, what in ((solver, VERIFIED, "solver"), (problem, every, "exact problem")):
        if unknown := [name for name in given or () if name not in known]:
            raise InputError(f"unknown {what} {unknown[0]!r}; known: {', '.join(known)}")
    pairs = [
        (name, case)
        for case in problem or (every if full else EXACT_PROBLEMS)
        for name in solver or VERIFIED
    ]
    rows: list[dict[str, Any]] = []
    if not as_json:
        typer.echo(
            f"{'problem':15s}{'solver':17s}{'  '.join(_VERDICT)}  products  ms/draw"
            + ("  kB/draw    SBC p" if full else "")
        )
    with _progress("verifying") as progress:
        for row in table(pairs, draws=draws, seeds=seeds, jobs=jobs or processors(), full=full):
            rows.append(row)
            if progress:
                progress(len(rows) / len(pairs))
            if not as_json:
                typer.echo(_verdict_line(row))
    if as_json:
        _print_json(rows)


_VERDICT = {
    "distance": ("distance", ".4g"), "scatter": ("floor_scatter", ".2f"), "  mean": ("mean", ".3g"), "   cov": ("cov", ".3g"),
    "modes": ("modes", ".3f"), "cover50": ("cover50", ".3f"), "cover90": ("cover90", ".3f"), "cover95": ("cover95", ".3f"),
    "  seen": ("seen", ".2f"), "unseen": ("unseen", ".2f"), " NFE": ("nfe", ".0f"),
}  # fmt: skip


def _verdict_line(row: dict[str, Any]) -> str:
    start = f"{row['problem']:15s}{row['solver']:17s}"
    if "refused" in row:
        return f"{start}cannot: {row['refused']}"
    line = start + "  ".join(
        f"{row[key]:>{len(title)}{kind if row[key] < 1e4 else '.0e'}}"
        for title, (key, kind) in _VERDICT.items()
    )
    line += f"  {row['vjps']:8.0f}  {1e3 * row['seconds']:7.2f}"
    if "sbc" in row:
        line += f"  {row['memory'] / 1024:7.1f}" + (
            f"  {row['sbc']['p_all']:7.2g}" if row["sbc"] else ""
        )
    return line


def _with_settings(summary: str, defaults: dict[str, Any]) -> str:
    return summary + "".join(f" [--set {name}={value}]" for name, value in defaults.items())


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
            help="Minutes of training of each family. [take the weights that come with the package, for digits]"
        ),
    ] = None,
    families: Annotated[
        str, typer.Option(help="Which, separated by commas.")
    ] = "vae,gan,flow,autoregressive,diffusion",
    out: Annotated[Path, typer.Option(help="Folder for the tables and the pictures.")] = Path(
        "out/compare"
    ),
    work: Annotated[
        Path,
        typer.Option(
            help="Folder that keeps what is trained and judged; an interrupted run goes on there."
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
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Compare VAE, GAN, flow, autoregressive and diffusion models: draws, likelihood, restorations, speed."""
    from scoresde.families.comparison.judge import JudgeConfig
    from scoresde.pipelines.compare import CompareOptions
    from scoresde.pipelines.compare import compare as run
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.pipelines.restore import choose_device
    from scoresde.training import TrainingError

    with as_input_error():
        judging = JudgeConfig(samples, likelihoods, pictures, draws, seed)
        chosen = tuple(name.strip() for name in families.split(","))
        settings = CompareOptions(
            dataset, out, work, chosen, budget, features, str(choose_device(device)), judging
        )
    try:
        report = run(
            settings, lambda line: typer.echo(line, err=True), progress=sys.stderr.isatty()
        )
    except TrainingError as error:
        raise InputError(str(error)) from None
    if as_json:
        _print_json(report)
    else:
        typer.echo((out / "comparison.md").read_text())
        typer.echo(f"wrote {out / 'comparison.md'} and the pictures beside it")


@app.command("list")
def list_all(as_json: options.Json = False) -> None:
    """Name the priors, problems, solvers, samplers, and the models of the comparison."""
    from scoresde.families.comparison.entrants import embedded_families
    from scoresde.files import read_header
    from scoresde.pipelines.named_problems import PROBLEMS
    from scoresde.priors.averaged import GROUPS
    from scoresde.priors.checkpoint import embedded_priors
    from solvers import SAMPLERS, SOLVERS

    content: dict[str, dict[str, str]] = {
        "priors": {
            name: read_header(path).get("card", {}).get("summary", str(path))
            for name, path in embedded_priors().items()
        },
        "problems": {
            name: _with_settings(entry.summary, entry.settings) for name, entry in PROBLEMS.items()
        },
        "solvers": {
            name: f"{entry.summary} [{entry.exactness}]" for name, entry in SOLVERS.items()
        },
        "samplers": {
            name: f"{entry.summary} [{entry.steps} steps]" for name, entry in SAMPLERS.items()
        },
        "averages": {name: group.summary for name, group in GROUPS.items()},
        "families": {
            name: read_header(path)["card"]["summary"] for name, path in embedded_families().items()
        },
    }
    if as_json:
        _print_json(content)
        return
    for title, entries in content.items():
        typer.echo(title)
        for name, line in entries.items():
            typer.echo(f"  {name:20s} {line}")


def main() -> None:
    """Run the command; bad input ends in one line on standard error and exit status 2."""
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except (InputError, _ClickError) as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        typer.echo(f"scoresde: error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("scoresde: interrupted", err=True)
        sys.exit(130)
