"""`--sigma auto`: the noise level of the measurement at hand, by the prior that restores it."""

from collections.abc import Callable
from dataclasses import replace

from problems import PoissonGaussianNoise
from scoresde.errors import InputError
from scoresde.estimation import NoiseEstimate, estimate_noise
from scoresde.pipelines.plan import Measurement
from scoresde.pipelines.search import search
from scoresde.pipelines.settings import IntervalOptions, RestoreOptions
from scoresde.priors.base import Prior

__all__ = ["with_estimated_noise"]


def with_estimated_noise(
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    interval: IntervalOptions,
    progress: Callable[[float], None] | None = None,
) -> tuple[Measurement, NoiseEstimate | None]:
    """Estimate the noise of a measurement if it is asked for.

    Args:
        prior: Prior of pictures.
        measurement: The measurement, with an assumed noise level.
        options: `sigma` says whether to estimate; `tile` and `seed` are used.
        interval: A calibration holds for one noise level and cannot be combined.
        progress: Called with 0 again and again; an error that it raises ends the work.

    Returns:
        The measurement with the estimated level, and the estimate; the measurement as it is and
        None if `sigma` is not "auto".

    Raises:
        InputError: If the level cannot be estimated.
    """
    if options.sigma != "auto":
        return measurement, None
    if interval.calibration is not None:
        raise InputError(
            "a --calibration holds for the noise level that it was made for; give --sigma a number"
        )
    if isinstance(measurement.problem.noise, PoissonGaussianNoise):
        raise InputError(
            "--sigma auto beside counting noise needs --photons auto, which estimates both; or "
            "give --sigma a number"
        )
    with search(prior, measurement, options, progress) as (tiled, generator):
        found = estimate_noise(measurement.problem, measurement.y, tiled, generator=generator)
    return replace(measurement, problem=found.problem), found
