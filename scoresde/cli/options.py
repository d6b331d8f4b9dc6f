"""Options that several commands share: types for Typer. Their defaults are in the dataclasses."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.names import completed, setting_names
from scoresde.errors import InputError
from scoresde.pipelines.settings import DEFAULT_SOLVER, ProblemOptions, RestoreOptions

__all__ = [
    "Average",
    "Device",
    "Effort",
    "Json",
    "Precision",
    "Prior",
    "Scheduler",
    "Seed",
    "Steps",
    "WorkerCount",
    "restoration",
]

Prior = Annotated[
    str,
    typer.Option(
        help="An embedded prior, the path of a .safetensors file, diffusers:FOLDER_OR_ID, "
        "torch-export:FILE, or onnx:FILE.",
        autocompletion=completed("priors"),
    ),
]
Average = Annotated[
    str | None,
    typer.Option(
        help="Average the network over turns, turns-flips or shifts (by one pixel, wrapped). "
        "Use it if the transformed pictures are as likely as the originals: a better denoiser and "
        "likelihood at 4, 8 or 4 times the cost.",
        autocompletion=completed("averages"),
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0, max=2**63 - 1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision inside the network: auto, bf16 or fp32.",
        autocompletion=completed("precisions"),
    ),
]
Steps = Annotated[int | None, typer.Option(help="Steps of the solver. [the solver's own]", min=1)]
Effort = Annotated[
    str,
    typer.Option(
        help="instant (one estimate by hqs, no uncertainty), quick (half the steps where that is "
        "enough, 4 draws), normal (8 draws) or thorough (twice the steps, 16 draws). Options of "
        "their own, such as --samples, take precedence.",
        autocompletion=completed("efforts"),
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON on standard output.")]

WorkerCount = Annotated[
    int,
    typer.Option(
        "--workers", help="Processes on this machine that share the work, by Dask.", min=1
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Dask scheduler of a cluster whose workers share the work, such as tcp://head:8786."
    ),
]

PROBLEM: dict[str, Any] = {
    "problem": Annotated[
        str,
        typer.Option(
            help="A name from `scoresde list`, or a problem.json.",
            autocompletion=completed("problems"),
        ),
    ],
    "mask": Annotated[
        Path | None,
        typer.Option(
            help="inpaint: picture of the same size, painted where pixels are missing: white on "
            "black, a colour on black, or opaque on a transparent layer; or an array (.npy, "
            ".npz, .mat, zarr, FITS, HDF5, NIfTI, DICOM), 1 where observed. mri: white where "
            "k-space is measured."
        ),
    ],
    "mask_value": Annotated[
        float | None,
        typer.Option(
            help="Grey level, palette index or value of the --mask that means missing (mri: "
            "measured)."
        ),
    ],
    "invert_mask": Annotated[
        bool, typer.Option("--invert-mask", help="Swap the two values of the --mask.")
    ],
    "box": Annotated[
        str | None, typer.Option(help="inpaint: missing rectangle, TOP,LEFT,HEIGHT,WIDTH.")
    ],
    "random": Annotated[
        float | None, typer.Option(help="inpaint: fraction of the pixels that is missing.")
    ],
    "kernel": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|auto",
            help="deblur, super-resolve: blur kernel, a picture or an array, in the "
            "formats of --mask; deblur: or auto, to estimate one of any shape.",
        ),
    ],
    "kernel_size": Annotated[
        int | None,
        typer.Option(help="deblur: side in pixels of a --kernel auto, odd. [15]"),
    ],
    "key": Annotated[
        str | None,
        typer.Option(help="Name of the array in a --mask or --kernel file that holds several."),
    ],
    "gaussian": Annotated[
        str | None,
        typer.Option(
            metavar="FLOAT|auto",
            help="deblur: standard deviation of a Gaussian, in pixels; or auto, to estimate it.",
        ),
    ],
    "motion": Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH,ANGLE|auto",
            help="deblur: motion in pixels and degrees; or auto, to estimate both.",
        ),
    ],
    "disk": Annotated[
        str | None,
        typer.Option(
            metavar="FLOAT|auto",
            help="deblur: radius of an out-of-focus disk, in pixels; or auto, to estimate it.",
        ),
    ],
    "boundary": Annotated[
        str | None,
        typer.Option(
            help="deblur: reflect, replicate, circular, zero or valid. [reflect]",
            autocompletion=completed("boundaries"),
        ),
    ],
    "scale": Annotated[float | None, typer.Option(help="super-resolve: factor. [4]")],
    "filter": Annotated[
        str | None,
        typer.Option(
            help="super-resolve: bicubic, bilinear, lanczos3 or average. [bicubic]",
            autocompletion=completed("filters"),
        ),
    ],
    "photons": Annotated[
        str | None,
        typer.Option(
            metavar="FLOAT|auto",
            help="Photons of a white pixel; adds Poisson noise to --sigma. Or auto, to estimate "
            "them from the measurement, and with --sigma auto the read noise, too.",
        ),
    ],
    "set": Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE, a setting that `scoresde list` shows with the problem. Repeatable.",
            autocompletion=setting_names,
        ),
    ],
    "range": Annotated[
        str | None,
        typer.Option(
            help="Values of black and white in the file, LOW,HIGH; or percentiles of its values, "
            "0.1%,99.9%; or file, for what its tags state. [the full scale of 8 and 16 bits; what "
            "the file states; 0,1 or 0,255 for float pictures that fit; -1,1 for float arrays]"
        ),
    ],
    "array": Annotated[
        str | None,
        typer.Option(
            help="Name of the array, dataset or HDU in the restored file, if it holds several."
        ),
    ],
    "select": Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            help="Part of a stack or array: AXIS=PLACE or AXIS=FIRST:END, such as z=10:20; AXIS is "
            "a name of the file, or a number from 0. Repeatable. [all]",
        ),
    ],
    "maps": Annotated[
        str | None,
        typer.Option(
            metavar="FILE|estimate",
            help="mri: complex k-space of several coils is restored with their sensitivities, of a "
            "file (coils, rows, columns) or estimated from the middle of k-space by ESPIRiT. What "
            "was measured follows from the file. The prior is one of complex images.",
        ),
    ],
    "noise_scan": Annotated[
        Path | None,
        typer.Option(
            help="mri with --maps: scan of noise alone, complex (coils, samples); tells the noise "
            "of the coils in the place of --sigma."
        ),
    ],
}
"""The fields of :class:`ProblemOptions` as options."""

RESTORE: dict[str, Any] = {
    "sigma": Annotated[
        str | None,
        typer.Option(
            metavar="FLOAT|auto",
            help="Noise in the measurement, a standard deviation on [-1, 1]; or auto, to estimate "
            "it from the measurement. "
            "[the size of the rounding for jpeg and quantise; else 0.05 if simulated, 0.02 if not]",
        ),
    ],
    "sigma_units": Annotated[
        str,
        typer.Option(
            help="Units of --sigma: picture ([-1, 1]) or file (its own values: HU, counts, grey "
            "levels)."
        ),
    ],
    "solver": Annotated[
        str | None,
        typer.Option(
            help=f"A solver from `scoresde list`. [{DEFAULT_SOLVER}, annealed-gauss-newton for "
            "phase-retrieval, dps for hdr, or as --effort says]",
            autocompletion=completed("solvers"),
        ),
    ],
    "sampler": Annotated[
        str | None,
        typer.Option(
            help="A sampler from `scoresde list`, for solvers that take one.",
            autocompletion=completed("samplers"),
        ),
    ],
    "steps": Steps,
    "samples": Annotated[
        int | None, typer.Option(help="Number of posterior draws. [8, or as --effort says]")
    ],
    "effort": Effort,
    "starts": Annotated[
        int | None,
        typer.Option(
            help="Runs of the solver for each draw, of which the one with the smallest residual is "
            "kept. [1; 4 for phase-retrieval]",
        ),
    ],
    "prior": Prior,
    "average": Average,
    "seed": Seed,
    "device": Device,
    "precision": Precision,
    "tile": Annotated[
        int,
        typer.Option(
            help="Largest side, in pixels, that the network is given at once; lower it to save "
            "memory.",
            min=64,
        ),
    ],
    "batch": Annotated[
        int | None,
        typer.Option(
            help="Draws in the network at once; fewer take less memory. [as many as have 262144 "
            "pixels]",
            min=1,
        ),
    ],
}
"""The fields of :class:`RestoreOptions` as options, and the effort that decides two of them."""

_DEFAULTS: dict[str, Any] = {
    "effort": "normal",
    "samples": None,
    "select": None,
    "set": None,
    "solver": None,
    "starts": None,
}


def _parameters(options: dict[str, Any], cls: type) -> list[inspect.Parameter]:
    """Keyword parameters with the defaults of a dataclass."""
    known = {field.name: field.default for field in fields(cls)}
    found = []
    for name, annotation in options.items():
        default = _DEFAULTS.get(name, known.get(name))
        if name == "problem":
            default = inspect.Parameter.empty
        kind = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
    return found


_FOR_RESTORE = (
    "--{} auto estimates the {} of one picture, which is for `scoresde restore`; give `scoresde "
    "{}` {}"
)


def _number(text: str | None, option: str, what: str, command: str) -> float | str | None:
    """A number, "auto" for the command that can estimate one, or None."""
    if text is None:
        return None
    if text == "auto" and command != "restore":
        raise InputError(_FOR_RESTORE.format(option, what, command, "a number"))
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--{option} takes a number or auto, got {text!r}") from None


def restoration(
    function: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """Decorator: give a command the options of a problem and of its restoration.

    Args:
        function: A command whose keyword parameters `problem_options` and `restore_options` receive
            a :class:`ProblemOptions` and a :class:`RestoreOptions`.
        without: Names of options that the command does not have.

    Returns:
        The command, with one option for each field in the place of these two parameters.
    """
    offered = {name: option for name, option in RESTORE.items() if name not in without}
    described = {name: option for name, option in PROBLEM.items() if name not in without}

    def command(**values: Any) -> None:
        from scoresde.pipelines.plan import budget, starts_for

        problem = {name: values.pop(name) for name in described}
        problem |= {name: tuple(problem.get(name) or ()) for name in ("set", "select")}
        if problem.get("maps") not in (None, "estimate"):
            problem["maps"] = Path(problem["maps"])
        for option in ("kernel", "motion"):
            if str(problem[option]) == "auto" and function.__name__ != "restore":
                raise InputError(_FOR_RESTORE.format(option, "blur", function.__name__, "one"))
        for option in ("gaussian", "disk"):
            problem[option] = _number(problem[option], option, "blur", function.__name__)
        problem["photons"] = _number(problem["photons"], "photons", "noise", function.__name__)
        restore = {name: values.pop(name) for name in offered}
        restore["sigma"] = _number(restore["sigma"], "sigma", "noise", function.__name__)
        restore["solver"], restore["steps"], restore["samples"] = budget(
            restore.pop("effort"),
            restore["solver"],
            restore["steps"],
            restore.pop("samples", None),
            problem["problem"],
        )
        restore["starts"] = starts_for(problem["problem"], restore["solver"], restore.get("starts"))
        function(
            problem_options=ProblemOptions(**problem),
            restore_options=RestoreOptions(**restore),
            **values,
        )

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.name == "problem_options":
            parameters += _parameters(described, ProblemOptions)
        elif parameter.name == "restore_options":
            parameters += _parameters(offered, RestoreOptions)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command
