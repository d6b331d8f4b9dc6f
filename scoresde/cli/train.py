"""`scoresde train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scoresde.cli.app import app
from scoresde.cli.console import print_json
from scoresde.cli.options import Json, Seed
from scoresde.errors import InputError

if TYPE_CHECKING:
    from scoresde.data.datasets import ImageArray, ImageFolder

__all__ = ["train"]


@app.command()
def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of photographs; or a .npy or .npz file of images, (N, H, W) or "
            "(N, H, W, C), uint8."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, state and TensorBoard log.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 20_000,
    batch: Annotated[
        int, typer.Option(help="Images of the first crop size per step and process.")
    ] = 16,
    crop: Annotated[
        list[int] | None,
        typer.Option(help="Side of the random crops. Repeat it to mix sizes. [64]"),
    ] = None,
    widths: Annotated[
        str, typer.Option(help="Channels of each level of the UNet, finest first.")
    ] = "48,96,192",
    blocks: Annotated[int, typer.Option(help="Residual blocks per level and direction.")] = 2,
    attention: Annotated[
        str | None,
        typer.Option(help="Levels that end with self-attention; 0 is the finest. [the coarsest]"),
    ] = None,
    channels: Annotated[int, typer.Option(help="3 for colour, 1 for grey.")] = 3,
    array: Annotated[
        str | None, typer.Option(help="Name of the array in a .npz file that holds several.")
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
            help="Exponents of Fourier features, such as 4,5,6,7,8: the network resolves grey "
            "levels."
        ),
    ] = None,
    sigma_data: Annotated[
        float, typer.Option(help="Standard deviation of the data on [-1, 1].")
    ] = 0.5,
    noise: Annotated[
        str, typer.Option(help="Logarithm of the noise levels, MEAN,STD.")
    ] = "-1.2,1.5",
    noise_range: Annotated[str, typer.Option(help="Range of noise levels, MIN,MAX.")] = "0.002,80",
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate; a cosine takes it to zero.")
    ] = 1e-3,
    ema: Annotated[float, typer.Option(help="Decay of the average of the weights.")] = 0.999,
    precision: Annotated[str, typer.Option(help="bf16 or no.")] = "bf16",
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 1000,
    init: Annotated[
        str | None,
        typer.Option(help="Prior to start from: an embedded one, or a .safetensors file."),
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted run in --out.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(help="auto (all that `accelerate launch` gives, else the first GPU) or cpu."),
    ] = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the network: faster steps, the same up to rounding."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a score prior on images by denoising score matching."""
    from scoresde.networks import UNetConfig
    from scoresde.pipelines.parsing import as_input_error, numbers
    from scoresde.priors.checkpoint import load_prior
    from scoresde.training import NoiseLevels, TrainConfig, TrainingError
    from scoresde.training import train as run

    if device not in ("auto", "cpu"):
        raise InputError(
            f"--device must be auto or cpu, got {device!r}; choose GPUs with CUDA_VISIBLE_DEVICES "
            "or accelerate launch"
        )
    with as_input_error():
        levels = numbers(widths, int, "--widths")
        exponents = numbers(fourier, int, "--fourier") if fourier else ()
        coarsest = (len(levels) - 1,)
        network = UNetConfig(
            channels=channels,
            widths=levels,
            blocks=blocks,
            extra=2 * channels * len(exponents),
            attention=numbers(attention, int, "--attention") if attention else coarsest,
        )
        noise_levels = NoiseLevels(
            *numbers(noise, float, "--noise", "MEAN,STD"),
            *numbers(noise_range, float, "--noise-range", "MIN,MAX"),
        )
        config = TrainConfig(
            steps=steps,
            batch=batch,
            crops=tuple(crop or [64]),
            learning_rate=learning_rate,
            ema=ema,
            precision=precision,
            seed=seed,
            network=network,
            sigma_data=sigma_data,
            fourier=exponents,
            noise=noise_levels,
        )
    images = _open_data(data, channels, array, dequantise=dequantise, flips=flips)
    start = load_prior(init) if init is not None else None
    try:
        run(
            images,
            out,
            config,
            init=start,
            resume=resume,
            cpu=device == "cpu",
            compiled=compiled,
            save_every=save_every,
            progress=sys.stderr.isatty(),
        )
    except TrainingError as error:
        raise InputError(str(error)) from None
    report = {
        "prior": str(out / "prior.safetensors"),
        "images": len(images),
        "steps": steps,
        "log": str(out / "log"),
    }
    if as_json:
        print_json(report)
    else:
        typer.echo(f"trained {steps} steps on {len(images)} images; wrote {report['prior']}")


def _open_data(
    data: Path, channels: int, array: str | None, *, dequantise: bool, flips: bool
) -> "ImageFolder | ImageArray":
    """The images, of the network's channels."""
    from scoresde.data.datasets import ImageArray, ImageFolder

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
            f"the images of {data} have {images.channels} channels; pass --channels "
            f"{images.channels}"
        )
    return images
