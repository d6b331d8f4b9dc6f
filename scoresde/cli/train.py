"""`scoresde train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, is_first_process, print_json, shows_progress
from scoresde.cli.interruption import interruption_status
from scoresde.cli.names import completed
from scoresde.cli.options import Json
from scoresde.cli.report_option import typed_command
from scoresde.errors import InputError, require

if TYPE_CHECKING:
    from scoresde.data.datasets import ImageArray, ImageFolder
    from scoresde.data.signals import Signals
    from scoresde.data.stacks import ImageStacks
    from scoresde.training import TrainConfig

__all__ = ["train"]


@command(
    "scoresde train photographs --out out/run",
    "scoresde train photographs --out out/run --recipe natural --minutes 60 --continue",
)
def train(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of photographs; one .npy, .npz or .mat file of images, (N, H, W) or "
            "(N, H, W, C), of bytes; files or folders of 16-bit pictures, of real or complex "
            "arrays, or of FITS, DICOM, NIfTI, HDF5, zarr or TIFF stacks; with --dimensions 1 of "
            "signals, (N, L) or (N, C, L), and with 3 of volumes, (N, D, H, W) or (N, C, D, H, W), "
            "real numbers in any units."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, state and TensorBoard log.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Settings with a name: natural or natural-gpu, which is for large GPUs. Options "
            "beside it change them. [the defaults stated here]",
            autocompletion=completed("recipes"),
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps. [20000]")] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Images of the first crop size per step, over all processes. [16]"),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(help="Parts in which a batch goes through the network, to save memory. [1]"),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            help="1 for signals, 2 for images, 3 for volumes. Noise levels that are not given are "
            "in proportion to the size of signals and volumes. [2]",
            min=1,
            max=3,
        ),
    ] = None,
    crop: Annotated[
        list[int] | None,
        typer.Option(
            help="Side of the random crops; signals and volumes are taken whole by default. "
            "Repeat it to mix sizes. [64]"
        ),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(help="Channels of each level of the UNet, finest first. [48,96,192]"),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option(
            help="Residual blocks per direction, of every level or of each, such as 2,2,1. [2]"
        ),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="Levels that end with self-attention, or none; 0 is the finest. [the coarsest]"
        ),
    ] = None,
    preactivation: Annotated[
        bool | None,
        typer.Option(
            "--preactivation/--plain-blocks",
            help="Residual blocks with or without a nonlinearity before the first convolution. "
            "[with]",
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            help="3 for colour, 1 for grey; for signals and volumes, as in the file by default. [3]"
        ),
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Name of the array in a file that holds several.")
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
    augment: Annotated[
        str | None,
        typer.Option(
            help="Flips and turns that are as likely as the pictures: none, mirror (left and "
            "right), flips (also up and down) or turns (all eight). [turns for pictures, none for "
            "arrays and instruments]"
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Values of black and white in files that are not of 8 bits, LOW,HIGH; the prior "
            "remembers them. [the full scale of 16 bits; else mean ± 2 standard deviations of each "
            "channel]",
        ),
    ] = None,
    fourier: Annotated[
        str | None,
        typer.Option(
            help="Exponents of Fourier features, such as 4,5,6,7,8: the network resolves grey "
            "levels."
        ),
    ] = None,
    sigma_data: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the data, which for images is on [-1, 1]; that of signals "
            "and volumes is measured by default. [0.5]"
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(help="Logarithm of the noise levels, MEAN,STD. [-1.2,1.5]"),
    ] = None,
    noise_range: Annotated[
        str | None, typer.Option(help="Range of noise levels, MIN,MAX. [0.002,80]")
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(
            help="Weights of the noise levels: edm, min-snr or likelihood. [edm]",
            autocompletion=completed("weightings"),
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate; a cosine takes it to zero. [0.001]")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Steps in which the rate rises to its peak. [200]")
    ] = None,
    cooldown: Annotated[
        float | None,
        typer.Option(
            help="Part of the steps, at the end, in which the rate falls. A run may be resumed "
            "with other --steps until then. [1.0]"
        ),
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of the average of the weights. [0.999]")
    ] = None,
    snapshot_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between snapshots of averages for `scoresde average`. [no snapshots]", min=1
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="bf16 or no. [bf16]")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 1000,
    init: Annotated[
        str | None,
        typer.Option(
            help="Prior to start from: an embedded one, or a .safetensors file.",
            autocompletion=completed("priors"),
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of all random numbers. [0]", min=0, max=2**63 - 1),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted run in --out.")
    ] = False,
    resume_if_any: Annotated[
        bool, typer.Option("--continue", help="Continue the run in --out, or start it.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="End after this time, as an interruption would."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="auto (all that `accelerate launch` gives, else the first GPU) or cpu."),
    ] = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the network: faster steps, the same up to rounding. [where it pays: on "
            "a GPU with Triton, on a CPU with a C++ compiler for more than 2000 steps]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a score prior on images, signals or volumes by denoising score matching."""
    from scoresde.data.datasets import ImageFolder
    from scoresde.data.headers import profile_note
    from scoresde.data.stacks import ImageStacks
    from scoresde.files import read_header
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.priors.checkpoint import load_score_prior
    from scoresde.training import TrainingError
    from scoresde.training import train as run
    from scoresde.training.checks import check_number

    if device not in ("auto", "cpu"):
        raise InputError(
            f"--device must be auto or cpu, got {device!r}; choose GPUs with CUDA_VISIBLE_DEVICES "
            "or accelerate launch"
        )
    signals: Signals | None = None
    stacks: ImageStacks | None = None
    if augment is not None and flips:
        raise InputError("--flips and --augment exclude each other; give one")
    if dimensions in (1, 3) and (augment or value_range):
        raise InputError(f"--augment and --range are for images, not for --dimensions {dimensions}")
    if dimensions not in (1, 3) and (own := _own_numbers(data, array)):
        if dequantise:
            raise InputError(
                "--dequantise is for a single .npy, .npz or .mat file of bytes, not for "
                f"{' '.join(map(str, data))}"
            )
        stacks = _open_stacks(own, array, channels, "turns" if flips else augment, value_range)
        channels = stacks.channels
    if dimensions in (1, 3):
        signals = _open_signals(data, dimensions, array, images_only=dequantise or flips)
        channels = signals.channels if channels is None else channels
        crop = crop or [max(signals.sides)]
    with as_input_error():
        if minutes is not None:
            check_number("--minutes", minutes, above=0)
        config = _config(
            recipe,
            measured=None if signals is None else signals.sigma_data,
            network={
                "dimensions": dimensions,
                "widths": widths,
                "blocks": blocks,
                "attention": attention,
                "preactivation": preactivation,
                "channels": channels,
            },
            noise=noise,
            noise_range=noise_range,
            fourier=fourier,
            steps=steps,
            batch=batch,
            accumulate=accumulate,
            crops=tuple(crop) if crop else None,
            sigma_data=sigma_data,
            weighting=weighting,
            learning_rate=learning_rate,
            warmup=warmup,
            cooldown=cooldown,
            ema=ema,
            snapshot_every=snapshot_every,
            precision=precision,
            seed=seed,
        )
    if stacks is None and value_range is not None:
        raise InputError("--range is for files that are not of 8 bits, and these are")
    samples: Signals | ImageStacks | ImageFolder | ImageArray = (
        signals
        or stacks
        or _open_data(
            data,
            config.network.channels,
            array,
            dequantise=dequantise,
            augment="turns" if flips else augment,
            flips=flips,
        )
    )
    if isinstance(samples, ImageStacks | ImageFolder) and config.network.channels == 3:
        note = profile_note(samples.profiles())
        if note is not None and is_first_process():
            echo(f"note: {note}", err=True)
    require("train", "training", "accelerate", "tensorboard")
    try:
        start = load_score_prior(init) if init is not None else None
    except InputError as error:
        raise InputError(f"--init {init}: {error}") from None
    try:
        run(
            samples,
            out,
            config,
            init=start,
            resume=None if resume_if_any and not resume else resume,
            cpu=device == "cpu",
            compiled=compiled,
            save_every=save_every,
            progress=shows_progress(),
            minutes=minutes,
        )
    except TrainingError as error:
        raise InputError(str(error)) from None
    except KeyboardInterrupt as error:  # its signal would be lost on the way
        raise typer.Exit(interruption_status([], error)) from None
    if not is_first_process():
        return
    done = int(read_header(out / "state.safetensors")["step"])
    what = {1: "signals", 2: "images", 3: "volumes"}[config.network.dimensions]
    report = {
        "format": "scoresde.train-report/1",
        "prior": str(out / "prior.safetensors"),
        what: len(samples),
        "steps": done,
        "of": config.steps,
        "log": str(out / "log"),
    }
    _write_page(report, out, typed_command())
    if as_json:
        print_json(report)
        return
    counted = what.removesuffix("s") if len(samples) == 1 else what
    echo(f"trained {done} steps on {len(samples)} {counted}; wrote {report['prior']}")
    if done < config.steps:
        echo(f"{config.steps - done} steps are left; go on with the same command and --continue")


def _write_page(report: dict[str, Any], out: Path, command: str) -> None:
    """Write report.html: the curves of the log."""
    import torch

    from scoresde.reports import environment, read_log, training_page, write_page

    made = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    settings: dict[str, Any] = {
        name: report[name] for name in ("images", "signals", "volumes") if name in report
    }
    html = training_page(report, read_log(out / "log"), command, made, settings)
    write_page(html, out / "report.html")


def _config(
    recipe: str | None,
    *,
    measured: float | None,
    network: dict[str, Any],
    noise: str | None,
    noise_range: str | None,
    fourier: str | None,
    **settings: Any,
) -> "TrainConfig":
    """The settings of a recipe, or the defaults, with what was given in their place.

    Data whose standard deviation was measured has noise levels in proportion to it.
    """
    from dataclasses import replace

    from problems.checks import check_choice
    from scoresde.pipelines.parsing import numbers
    from scoresde.training import RECIPES, TrainConfig

    if recipe is not None:
        check_choice("recipe", recipe, RECIPES)
    base = TrainConfig() if recipe is None else RECIPES[recipe]
    sizes = {k: v for k, v in network.items() if v is not None}
    if "widths" in sizes:
        sizes["widths"] = numbers(sizes["widths"], int, "--widths")
        if recipe is None:
            sizes.setdefault("attention", str(len(sizes["widths"]) - 1))
    if "blocks" in sizes:
        each = numbers(sizes["blocks"], int, "--blocks")
        sizes["blocks"] = each if len(each) > 1 else each[0]
    if "attention" in sizes:
        levels = sizes["attention"]
        sizes["attention"] = () if levels == "none" else numbers(levels, int, "--attention")
    exponents = numbers(fourier, int, "--fourier") if fourier is not None else base.fourier
    architecture: Any = base.network
    colours = sizes.get("channels", base.network.channels)
    levels_of_noise = base.noise
    if measured is not None:
        if settings["sigma_data"] is None:
            settings["sigma_data"] = measured
        levels_of_noise = levels_of_noise.scaled(settings["sigma_data"] / base.sigma_data)
    if noise is not None:
        mean, std = numbers(noise, float, "--noise", "MEAN,STD")
        levels_of_noise = replace(levels_of_noise, mean=mean, std=std)
    if noise_range is not None:
        low, high = numbers(noise_range, float, "--noise-range", "MIN,MAX")
        levels_of_noise = replace(levels_of_noise, sigma_min=low, sigma_max=high)
    return replace(
        base,
        network=replace(architecture, **sizes, extra=2 * colours * len(exponents)),
        noise=levels_of_noise,
        fourier=exponents,
        **{k: v for k, v in settings.items() if v is not None},
    )


def _open_signals(
    data: list[Path], dimensions: int, array: str | None, *, images_only: bool
) -> "Signals":
    """The signals or volumes of one array file."""
    from scoresde.data.signals import Signals

    if len(data) > 1:
        raise InputError(
            f"train on one array file with --dimensions {dimensions}, got "
            f"{', '.join(map(str, data))}"
        )
    if images_only:
        raise InputError(
            f"--dequantise and --flips are for images, not for --dimensions {dimensions}; leave "
            "them out"
        )
    return Signals.read(data[0], dimensions, array)


def _own_numbers(data: list[Path], array: str | None) -> list[Path]:
    """The files, if one of them is not of 8 bits."""
    from problems.reading.arrays import SUFFIXES
    from problems.reading.sources import source_format
    from scoresde.data.datasets import list_images
    from scoresde.data.stacks import array_type, list_own_numbers

    own: list[Path] = []
    plain: list[Path] = []
    for path in data:
        if source_format(path) is not None:
            own.append(path)
        elif path.is_dir():
            found = list_own_numbers(path)
            own += found
            plain += [] if found else [path]
        elif path.suffix.lower() in SUFFIXES and array_type(path, array) not in (None, "uint8"):
            own.append(path)
        else:
            plain.append(path)
    if own and plain:
        own += [one for path in plain for one in (list_images(path) if path.is_dir() else [path])]
    return own


def _open_stacks(
    paths: list[Path],
    array: str | None,
    channels: int | None,
    augment: str | None,
    value_range: str | None,
) -> "ImageStacks":
    from problems.reading.ranges import check_range
    from scoresde.data.datasets import SUFFIXES
    from scoresde.data.stacks import ImageStacks
    from scoresde.errors import as_input_error
    from scoresde.pipelines.parsing import numbers

    ends = None
    if value_range is not None:
        with as_input_error():
            ends = check_range(*numbers(value_range, float, "--range", "LOW,HIGH"))
    photographs = all(path.suffix.lower() in SUFFIXES for path in paths)
    default = "turns" if photographs else "none"
    images = ImageStacks(
        paths, key=array, channels=channels, value_range=ends, augment=augment or default
    )
    if channels not in (None, images.channels):
        raise InputError(
            f"the images of {paths[0]} have {images.channels} channels; pass --channels "
            f"{images.channels}"
        )
    return images


def _open_data(
    data: list[Path],
    channels: int,
    array: str | None,
    *,
    dequantise: bool,
    augment: str | None,
    flips: bool,
) -> "ImageFolder | ImageArray":
    """The images, of the network's channels."""
    from problems.reading.arrays import SUFFIXES
    from scoresde.data.datasets import ImageArray, ImageFolder

    first, suffixes = data[0], {path.suffix.lower() for path in data}
    if suffixes & set(SUFFIXES):
        if len(data) > 1:
            raise InputError(
                "train on one array file, or on folders of photographs; got "
                f"{', '.join(map(str, data))}"
            )
        images: ImageFolder | ImageArray = ImageArray(first, array, dequantise, augment=augment)
    elif array or dequantise or flips:
        raise InputError(
            f"--array, --dequantise and --flips are for array files, .npy, .npz or .mat; {first} "
            "is not one"
        )
    else:
        images = ImageFolder(data, channels, augment=augment or "turns")
    if images.channels != channels:
        raise InputError(
            f"the images of {first} have {images.channels} channels; pass --channels "
            f"{images.channels}"
        )
    return images
