"""Settings of a restoration, as plain values. This module imports nothing that is slow."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from scoresde.defaults import TILE

__all__ = [
    "DEFAULTS",
    "DEFAULT_SOLVER",
    "PICTURE_FORMATS",
    "IntervalOptions",
    "OutputOptions",
    "ProblemOptions",
    "RestoreOptions",
    "WindowOptions",
]

DEFAULT_SOLVER = "warm-start"
"""Name of the solver that `scoresde restore` uses."""

DEFAULTS: dict[str, Any] = {"boundary": "reflect", "scale": 4.0, "filter": "bicubic"}
"""Options of a problem that have a default; an option that was not given is None."""

PICTURE_FORMATS: dict[str, tuple[str, str]] = {
    "png": (".png", "uint8"),
    "png16": (".png", "uint16"),
    "tiff": (".tif", "uint8"),
    "tiff16": (".tif", "uint16"),
    "tiff32": (".tif", "float32"),
}
"""Suffix and number type of each format of restored pictures."""


@dataclass(frozen=True)
class ProblemOptions:
    """How a picture is measured: the options of `scoresde restore` that describe the problem.

    Args:
        problem: A name that `scoresde list` shows, or the path of a problem.json.
        mask: Picture of the missing pixels (inpaint) or of the measured k-space (mri).
        mask_value: Value of the mask that means missing (inpaint) or measured (mri), see
            :func:`problems.read_mask`.
        invert_mask: Swap the two values of the mask.
        box: Missing rectangle, "TOP,LEFT,HEIGHT,WIDTH" in pixels.
        random: Fraction of the pixels that is missing, in [0, 1].
        kernel: File of a blur kernel; "auto", where no file has this name, to estimate it.
        kernel_size: Odd side in pixels of a kernel that is estimated; None for 15.
        key: Name of the array in a mask or kernel file that holds several.
        gaussian: Standard deviation of a Gaussian blur, in pixels; "auto" to estimate it.
        motion: Straight motion blur, "LENGTH,ANGLE" in pixels and degrees; "auto" to estimate both.
        disk: Radius of an out-of-focus blur, in pixels; "auto" to estimate it.
        boundary: Boundary condition of a blur; None for "reflect".
        scale: Factor of super-resolution; None for 4.
        filter: Filter of super-resolution; None for "bicubic".
        photons: Photons of a white pixel; None for no counting noise; "auto" to estimate them.
        set: Further settings of the problem, each "NAME=VALUE".
        range: Values of black and white in the file of the picture, "LOW,HIGH"; or percentiles of
            its values, "LOW%,HIGH%"; or "file" for what it states. None to go by its type and its
            values.
        array: Name of the array, dataset or HDU in the file that is restored, if it holds several.
        select: Part of a stack or array that is restored, each "AXIS=PLACE" or "AXIS=FIRST:END".
        maps: Sensitivities of the coils of measured k-space (mri): a file, or "estimate" to find
            them in the middle of k-space by ESPIRiT. None where k-space has no coils of its own.
        noise_scan: File of a scan of noise alone, (coils, samples), that makes k-space white.

    Example:
        >>> ProblemOptions("deblur", gaussian=1.6).value("boundary")
        'reflect'
    """

    problem: str
    mask: Path | None = None
    mask_value: float | None = None
    invert_mask: bool = False
    box: str | None = None
    random: float | None = None
    kernel: Path | None = None
    kernel_size: int | None = None
    key: str | None = None
    gaussian: float | Literal["auto"] | None = None
    motion: str | None = None
    disk: float | Literal["auto"] | None = None
    boundary: str | None = None
    scale: float | None = None
    filter: str | None = None
    photons: float | Literal["auto"] | None = None
    set: tuple[str, ...] = ()
    range: str | None = None
    array: str | None = None
    select: tuple[str, ...] = ()
    maps: Path | Literal["estimate"] | None = None
    noise_scan: Path | None = None

    def value(self, name: str) -> Any:
        """Look up an option or its default.

        Args:
            name: Name of the field.

        Returns:
            What was given, the default if nothing was, None if there is no default.
        """
        given = getattr(self, name)
        return DEFAULTS.get(name) if given is None else given

    @property
    def stated_photons(self) -> float | None:
        """The photons of a white pixel that were stated; None if they are estimated or none."""
        return None if self.photons == "auto" else self.photons

    def given(self) -> tuple[str, ...]:
        """Names of the options that were given, `problem` excepted."""
        return tuple(
            one.name
            for one in fields(self)
            if one.name != "problem" and getattr(self, one.name) != one.default
        )


@dataclass(frozen=True)
class RestoreOptions:
    """How a measurement is restored.

    Args:
        sigma: Noise in the measurement, a standard deviation on [-1, 1]; None for the size
            of the rounding where the operator rounds, else 0.05 when simulating and 0.02 otherwise;
            "auto" to estimate it from the measurement.
        solver: A name that `scoresde list` shows.
        sampler: Name of the sampler, for solvers that take one; None for the solver's default.
        steps: Steps of the solver; None for its default.
        samples: Number of posterior draws.
        seed: Seed of all random numbers.
        prior: An embedded prior, the path of a .safetensors file, "diffusers:FOLDER_OR_ID",
            "torch-export:FILE", or "onnx:FILE".
        average: Group over which the network is averaged; None for no averaging.
        device: "auto" for the first GPU or else the CPU, or a device of torch.
        precision: "auto", "bf16" or "fp32" inside the network.
        tile: Largest side, in pixels, that the network is given at once.
        batch: Draws in the network at once; None for as many as fit in memory.
        sigma_units: Units of a number as `sigma`: "picture" for [-1, 1], "file" for those of the
            values in the file, such as HU, counts, or grey levels.
        starts: Runs of the solver for each draw, of which the one with the smallest residual is
            kept; 1 to keep every run.

    Example:
        >>> RestoreOptions(samples=4).solver
        'warm-start'
    """

    sigma: float | Literal["auto"] | None = None
    solver: str = DEFAULT_SOLVER
    sampler: str | None = None
    steps: int | None = None
    samples: int = 8
    seed: int = 0
    prior: str = "natural"
    average: str | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int = TILE
    batch: int | None = None
    sigma_units: Literal["picture", "file"] = "picture"
    starts: int = 1

    @property
    def stated_sigma(self) -> float | None:
        """The noise level that was stated; None if it is assumed or estimated."""
        return None if self.sigma == "auto" else self.sigma


@dataclass(frozen=True)
class IntervalOptions:
    """Which intervals a restoration reports.

    Args:
        level: Nominal coverage, in (0, 1).
        calibration: File of `scoresde calibrate`; None for the raw Gaussian intervals of the
            standard deviation of the draws.
    """

    level: float = 0.9
    calibration: Path | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Which files a restoration writes.

    Args:
        format: "png", "png16", "tiff", "tiff16" or "tiff32" for the pictures; None for the format
            and the depth of the file that is restored.
        no_draws: Leave out the draws, as pictures and in posterior.npz.
    """

    format: str | None = None
    no_draws: bool = False


@dataclass(frozen=True)
class WindowOptions:
    """How a picture that does not fit the memory is cut.

    Args:
        side: Side of the windows in pixels of the result.
        overlap: Pixels that neighbours share; None for 96 and twice the reach of the operator.
    """

    side: int
    overlap: int | None = None
