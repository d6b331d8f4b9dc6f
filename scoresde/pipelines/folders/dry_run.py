"""What a run over many pictures will take, from their heads alone."""

from dataclasses import dataclass
from pathlib import Path

from problems.reading.pictures import stored_size
from problems.reading.sources import source_format
from scoresde.pipelines.cost import estimate_seconds, memory_bytes
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.folders.content import content_key, is_done, prior_key
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.settings import IntervalOptions, OutputOptions
from scoresde.priors.base import Prior

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Args:
        pictures: All pictures.
        kept: Those whose results are there already.
        unreadable: Files that are no picture.
        unknown: Measurements, whose size is not in their head, and solvers whose time cannot be
            told.
        seconds: Time of the others by one process, to a factor of two or so.
        memory: Largest memory of one picture, in bytes.
    """

    pictures: int
    kept: int
    unreadable: tuple[Path, ...]
    unknown: int
    seconds: float
    memory: float


def forecast(
    jobs: list[Job],
    out: Path,
    *,
    simulate: bool = False,
    interval: IntervalOptions | None = None,
    output: OutputOptions | None = None,
) -> Forecast:
    """Estimate the time and memory of a run. Nothing is written.

    Args:
        jobs: The pictures.
        out: Folder of the results.
        simulate: Each picture is the truth and is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.

    Returns:
        The estimate.

    Raises:
        InputError: If the prior or the device cannot be used.
    """
    options = jobs[0].options
    key, device = prior_key(options.prior), choose_device(options.device)
    prior = open_prior(options.prior, device, options.precision, options.average)
    kept, unknown, seconds, memory = 0, 0, 0.0, 0.0
    unreadable: list[Path] = []
    times: dict[object, float | None] = {}
    for job in jobs:
        try:
            done = content_key(job, key, simulate=simulate, interval=interval, output=output)
            if is_done(out / job.name, done):
                kept += 1
                continue
        except OSError:
            unreadable.append(job.image)
            continue
        array = job.image.suffix.lower() in (".npy", ".npz", ".mat")
        if array or source_format(job.image) is not None:
            unknown += 1
            continue
        try:
            size = _restored_size(job, simulate)
        except Exception:  # of any type, as documented
            unreadable.append(job.image)
            continue
        one = _seconds(prior, size, job, times)
        unknown += one is None
        seconds += one or 0.0
        memory = max(memory, memory_bytes(size, prior.shape[0], job.options.samples))
    return Forecast(len(jobs), kept, tuple(unreadable), unknown, seconds, memory)


def _restored_size(job: Job, simulate: bool) -> tuple[int, int]:
    height, width = stored_size(job.image)
    if job.problem.problem == "super-resolve" and not simulate:
        scale = float(job.problem.value("scale"))
        return round(height * scale), round(width * scale)
    return height, width


def _seconds(
    prior: Prior, size: tuple[int, int], job: Job, times: dict[object, float | None]
) -> float | None:
    """Time of a picture, measured once for each size and solver."""
    options = job.options
    key = (size, options.solver, options.sampler, options.steps, options.samples, options.tile)
    if key not in times:
        times[key] = estimate_seconds(prior, size, options)
    return times[key]
