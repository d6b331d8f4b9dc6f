"""Options that several commands share, each with its name and its help: types for typer, whose defaults stand with the commands."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Average", "Boundary", "Box", "Device", "Disk", "Effort", "Filter", "Gaussian", "Json", "Kernel", "Mask", "Motion", "Photons",
    "Precision", "Prior", "Problem", "Random", "Sampler", "Samples", "Scale", "Seed", "Settings", "Sigma", "Solver", "Steps", "Tile",
]  # fmt: skip

# how a picture is damaged: the fields of damage.ProblemOptions
Problem = Annotated[str, typer.Option(help="A name from `scoresde list`, or a problem.json.")]
Mask = Annotated[
    Path | None,
    typer.Option(
        help="inpaint: a picture of the same size, white where pixels are missing; mri: white where k-space is measured."
    ),
]
Box = Annotated[
    str | None, typer.Option(help="inpaint: TOP,LEFT,HEIGHT,WIDTH of a missing rectangle.")
]
Random = Annotated[
    float | None, typer.Option(help="inpaint: this fraction of the pixels is missing.")
]
Kernel = Annotated[
    Path | None,
    typer.Option(help="deblur, super-resolve: the kernel, a picture or a .npy, .npz or .mat file."),
]
Gaussian = Annotated[
    float | None, typer.Option(help="deblur: standard deviation of a Gaussian kernel, in pixels.")
]
Motion = Annotated[
    str | None, typer.Option(help="deblur: LENGTH,ANGLE of a straight stroke, pixels and degrees.")
]
Disk = Annotated[
    float | None, typer.Option(help="deblur: radius of an out-of-focus disk, in pixels.")
]
Boundary = Annotated[str, typer.Option(help="deblur: reflect, replicate, circular, zero or valid.")]
Scale = Annotated[float, typer.Option(help="super-resolve: the factor.")]
Filter = Annotated[str, typer.Option(help="super-resolve: bicubic, bilinear, lanczos3 or average.")]
Photons = Annotated[
    float | None, typer.Option(help="Photons of a white pixel: adds counting noise to --sigma.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="NAME=VALUE, a setting that `scoresde list` shows with the problem; repeat it.",
    ),
]

# how it is restored: the fields of restore.RestoreOptions
Sigma = Annotated[
    float | None,
    typer.Option(
        help="Noise in the measurement, a standard deviation on [-1, 1]. [0.1 for jpeg and quantise; else 0.05 if simulated, 0.02 if not]"
    ),
]
Solver = Annotated[str, typer.Option(help="A name from `scoresde list`.")]
Sampler = Annotated[
    str | None, typer.Option(help="A sampler from `scoresde list`, for the solvers that take one.")
]
Steps = Annotated[
    int | None, typer.Option(help="Steps of the solver; each has its own default.", min=1)
]
Samples = Annotated[int | None, typer.Option(help="Posterior draws. [8, or as --effort says]")]
Effort = Annotated[
    str,
    typer.Option(
        help="quick (half the steps, 4 draws), normal (8 draws), thorough (twice the steps, 16 draws); --steps, --samples overrule."
    ),
]
Prior = Annotated[str, typer.Option(help="An embedded prior, or the path of a .safetensors file.")]
Average = Annotated[
    str | None,
    typer.Option(
        help="Average the network over turns, turns-flips or shifts (by a pixel, around the edges), if these leave pictures as likely "
        "as they are: a better denoiser and likelihood, at 4, 8 or 4 times the cost."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32 inside the network.")]
Tile = Annotated[
    int,
    typer.Option(
        help="Largest side, in pixels, that the network sees at once; lower it to save memory.",
        min=64,
    ),
]

# what every command has
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON on standard output.")]
