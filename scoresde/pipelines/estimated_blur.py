"""`--gaussian auto`, `--disk auto`, `--motion auto`, `--kernel auto`: from the picture at hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from problems import GaussianNoise, InverseProblem
from problems.operators.convolution import Convolution
from scoresde.errors import InputError
from scoresde.estimation.blur import estimate_blur
from scoresde.estimation.first_guess import first_guess
from scoresde.estimation.free_kernel import KernelEstimate
from scoresde.estimation.parameters import ParameterEstimate
from scoresde.estimation.unknown_kernel import KERNEL_SIZE, estimate_kernel
from scoresde.pipelines.plan import Measurement
from scoresde.pipelines.search import search
from scoresde.pipelines.settings import IntervalOptions, ProblemOptions, RestoreOptions
from scoresde.priors.base import Prior

__all__ = [
    "UNKNOWN_BLURS",
    "EstimatedBlur",
    "UnknownBlur",
    "is_unknown",
    "with_estimated_blur",
    "without_unknown_blur",
]

UNKNOWN_BLURS = ("gaussian", "disk", "motion", "kernel")
"""Options that may be "auto"."""

_STAND_IN: dict[str, Any] = {"gaussian": 1.0, "disk": None, "motion": None, "kernel": None}
"""A small kernel that fits every picture, until the measurement is read."""


@dataclass(frozen=True)
class UnknownBlur:
    """A kernel that is to be estimated.

    Args:
        kind: "gaussian", "disk", "motion" or "kernel".
        size: Side of a kernel of any shape in pixels.
    """

    kind: str
    size: int = KERNEL_SIZE


@dataclass(frozen=True)
class EstimatedBlur:
    """A kernel that was estimated.

    Args:
        kind: "gaussian", "disk", "motion" or "kernel".
        estimate: Its parameters, or the kernel.
    """

    kind: str
    estimate: ParameterEstimate | KernelEstimate

    def report(self) -> dict[str, Any]:
        """Give the result in plain values that JSON can hold.

        Returns:
            Numbers by name.
        """
        found = self.estimate.report()
        if self.kind == "motion":  # the length first, as in the option
            for name in ("names", "values", "standard_error"):
                found[name].reverse()
            found["path"] = [one[::-1] for one in found["path"]]
        return {"kind": self.kind, **found}


def is_unknown(name: str, problem: ProblemOptions) -> bool:
    """Tell whether an option of a blur is "auto".

    Args:
        name: Name of the option.
        problem: The options.

    Returns:
        True for "auto"; for a kernel if no file has this name.
    """
    value: Any = getattr(problem, name, None)
    return str(value) == "auto" and not (name == "kernel" and Path(value).exists())


def without_unknown_blur(
    problem: ProblemOptions, *, simulate: bool, interval: IntervalOptions
) -> tuple[ProblemOptions, UnknownBlur | None]:
    """Tell whether a kernel is to be estimated, and put one in its place for now.

    Args:
        problem: Options, of which one may be "auto".
        simulate: Whether the picture is the truth.
        interval: A calibration holds for one kernel and cannot be combined.

    Returns:
        The options with a stand-in, and what is unknown; the options as they are and None if
        nothing is "auto".

    Raises:
        InputError: If "auto" cannot be combined with the other options.
    """
    kinds = [name for name in UNKNOWN_BLURS if is_unknown(name, problem)]
    if not kinds:
        return problem, None
    kind = kinds[0]
    stated = [one for one in UNKNOWN_BLURS if one != kind and getattr(problem, one) is not None]
    if stated:
        raise InputError(f"--{kind} auto and --{stated[0]} exclude each other; give one")
    if problem.problem != "deblur":
        raise InputError(f"--{kind} auto is for --problem deblur, not for {problem.problem}")
    if simulate:
        raise InputError(f"--simulate needs a kernel to blur with; {_state(kind)}")
    if interval.calibration is not None:
        raise InputError(
            f"a --calibration holds for the kernel that it was made for; {_state(kind)}"
        )
    if problem.photons is not None:
        raise InputError(
            f"--{kind} auto needs noise of one level, which --photons has not; {_state(kind)}"
        )
    size = KERNEL_SIZE
    if kind == "kernel":
        size = problem.kernel_size or KERNEL_SIZE
        problem = replace(problem, kernel_size=None)
    return replace(problem, **_STAND_IN), UnknownBlur(kind, size)


def _state(kind: str) -> str:
    """What to do instead."""
    what = {"kernel": "--kernel a file", "motion": "--motion LENGTH,ANGLE"}
    return f"give {what.get(kind, f'--{kind} a number')}"


def with_estimated_blur(
    blur: UnknownBlur | None,
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
) -> tuple[Measurement, EstimatedBlur | None]:
    """Estimate the kernel of a measurement if it is asked for.

    Args:
        blur: What is unknown; None if the kernel is known.
        prior: Prior of pictures.
        measurement: The measurement, with a stand-in for the kernel.
        options: `sigma`, `tile` and `seed` are used. If `sigma` is "auto" the level comes from the
            finest details, in which a blur leaves nothing but noise.
        progress: Called with 0 again and again; an error that it raises ends the work.

    Returns:
        The measurement with the estimated kernel, and the estimate; the measurement as it is and
        None if the blur is known.

    Raises:
        InputError: If the kernel cannot be estimated.
    """
    if blur is None:
        return measurement, None
    operator, noise = measurement.problem.operator, measurement.problem.noise
    assert isinstance(operator, Convolution) and isinstance(noise, GaussianNoise)
    sigma = float(noise.std)
    if options.sigma == "auto":
        sigma = first_guess(measurement.problem, measurement.y)
    with search(prior, measurement, options, progress) as (tiled, generator):
        found: ParameterEstimate | KernelEstimate
        if blur.kind == "kernel":
            found = estimate_kernel(
                measurement.y,
                tiled,
                sigma,
                size=blur.size,
                boundary=operator.boundary,
                generator=generator,
            )
        else:
            found = estimate_blur(
                blur.kind,
                measurement.y,
                tiled,
                sigma,
                boundary=operator.boundary,
                generator=generator,
            )
    problem: InverseProblem = replace(measurement.problem, operator=found.problem.operator)
    return replace(measurement, problem=problem), EstimatedBlur(blur.kind, found)
