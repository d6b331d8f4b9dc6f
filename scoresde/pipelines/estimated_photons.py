"""`--photons auto`: the photons of a white pixel of the measurement at hand, and its read noise."""

from collections.abc import Callable
from dataclasses import replace

from scoresde.errors import InputError
from scoresde.estimation import PhotonEstimate, estimate_photons
from scoresde.pipelines.plan import Measurement
from scoresde.pipelines.search import search
from scoresde.pipelines.settings import IntervalOptions, ProblemOptions, RestoreOptions
from scoresde.priors.base import Prior

__all__ = ["with_estimated_photons", "without_unknown_photons"]

_STAND_IN = 100.0
"""Photons until the measurement is read; the estimate does not look at them."""


def without_unknown_photons(
    problem: ProblemOptions, *, simulate: bool, interval: IntervalOptions
) -> ProblemOptions:
    """Put a number in the place of photons that are to be estimated.

    Args:
        problem: Options; `photons` may be "auto".
        simulate: Whether the picture is the truth.
        interval: A calibration holds for one noise and cannot be combined.

    Returns:
        The options with a number, or as they are.

    Raises:
        InputError: If "auto" cannot be combined with the other options.
    """
    if problem.photons != "auto":
        return problem
    if simulate:
        raise InputError("--simulate needs photons to count; give --photons a number")
    if interval.calibration is not None:
        raise InputError(
            "a --calibration holds for the photons that it was made for; give --photons a number"
        )
    return replace(problem, photons=_STAND_IN)


def with_estimated_photons(
    problem: ProblemOptions,
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
) -> tuple[Measurement, PhotonEstimate | None]:
    """Estimate the photons of a measurement if it is asked for, and its read noise if that is, too.

    Args:
        problem: `photons` says whether to estimate.
        prior: Prior of pictures.
        measurement: The measurement, with any number of photons.
        options: `sigma` says whether to estimate the read noise; `tile` and `seed` are used.
        progress: Called with 0 again and again; an error that it raises ends the work.

    Returns:
        The measurement with the estimated noise, and the estimate; the measurement as it is and
        None if `photons` is not "auto".

    Raises:
        InputError: If the photons cannot be estimated.
    """
    if problem.photons != "auto":
        return measurement, None
    with search(prior, measurement, options, progress) as (tiled, generator):
        found = estimate_photons(
            measurement.problem,
            measurement.y,
            tiled,
            read_noise=options.sigma == "auto",
            generator=generator,
        )
    return replace(measurement, problem=found.problem), found
