"""`--gaussian auto` and `--disk auto`: the kernel from the picture at hand."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from problems import GaussianNoise
from problems.operators.convolution import Convolution
from scoresde.errors import InputError
from scoresde.estimation.blur import estimate_blur
from scoresde.estimation.first_guess import first_guess
from scoresde.estimation.parameters import ParameterEstimate
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.plan import Measurement, prior_for, tiled_prior
from scoresde.pipelines.settings import IntervalOptions, ProblemOptions, RestoreOptions
from scoresde.pipelines.watched_prior import watched_prior
from scoresde.priors.base import Prior
from solvers.posterior.trust import SolverWarning

__all__ = ["EstimatedBlur", "with_estimated_blur", "without_unknown_blur"]

_STAND_INS: dict[str, Any] = {"gaussian": 1.0, "disk": 1.0}
"""Small kernels that fit every picture, until the measurement is read."""


@dataclass(frozen=True)
class EstimatedBlur:
    """A kernel that was estimated.

    Args:
        kind: "gaussian" or "disk".
        estimate: Its parameters.
    """

    kind: str
    estimate: ParameterEstimate

    def report(self) -> dict[str, Any]:
        """Give the result in plain values that JSON can hold.

        Returns:
            Numbers by name.
        """
        return {"kind": self.kind, **self.estimate.report()}


def without_unknown_blur(
    problem: ProblemOptions, *, simulate: bool, interval: IntervalOptions
) -> tuple[ProblemOptions, str | None]:
    """Tell whether a kernel is to be estimated, and put one in its place for now.

    Args:
        problem: Options, of which one may be "auto".
        simulate: Whether the picture is the truth.
        interval: A calibration holds for one kernel and cannot be combined.

    Returns:
        The options with a stand-in, and the kind of the blur; the options as they are and None if
        nothing is "auto".

    Raises:
        InputError: If "auto" cannot be combined with the other options.
    """
    file = problem.kernel
    if file is not None and str(file) == "auto" and not file.exists():
        raise InputError(
            "a kernel of any shape is not estimated; give --kernel a file, or estimate the width "
            "of a --gaussian auto or --disk auto"
        )
    if problem.motion == "auto":
        raise InputError("a motion is not estimated; give --motion LENGTH,ANGLE")
    kinds = [name for name in _STAND_INS if getattr(problem, name) == "auto"]
    if not kinds:
        return problem, None
    kind = kinds[0]
    if problem.problem != "deblur":
        raise InputError(f"--{kind} auto is for --problem deblur, not for {problem.problem}")
    if simulate:
        raise InputError(f"--simulate needs a kernel to blur with; give --{kind} a number")
    if interval.calibration is not None:
        raise InputError(
            f"a --calibration holds for the kernel that it was made for; give --{kind} a number"
        )
    if problem.photons is not None:
        raise InputError(
            f"--{kind} auto needs noise of one level, which --photons has not; give --{kind} a "
            "number"
        )
    return replace(problem, **{one: _STAND_INS[one] for one in kinds}), kind


def with_estimated_blur(
    kind: str | None,
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
) -> tuple[Measurement, EstimatedBlur | None]:
    """Estimate the kernel of a measurement if it is asked for.

    Args:
        kind: Kind of the blur; None if it is known.
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
    if kind is None:
        return measurement, None
    operator, noise = measurement.problem.operator, measurement.problem.noise
    assert isinstance(operator, Convolution) and isinstance(noise, GaussianNoise)
    sigma = float(noise.std)
    if options.sigma == "auto":
        sigma = first_guess(measurement.problem, measurement.y)
    tiled = watched_prior(tiled_prior(prior_for(measurement, prior), options.tile), progress)
    with as_input_error(), warnings.catch_warnings():
        # of trials with values that are known to be wrong; the restoration itself may warn
        warnings.simplefilter("ignore", SolverWarning)
        found = estimate_blur(
            kind,
            measurement.y,
            tiled,
            sigma,
            boundary=operator.boundary,
            generator=torch.Generator().manual_seed(options.seed),
        )
    problem = replace(measurement.problem, operator=found.problem.operator)
    return replace(measurement, problem=problem), EstimatedBlur(kind, found)
