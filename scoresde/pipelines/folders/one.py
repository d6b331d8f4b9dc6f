"""One picture of many: restored, kept or failed, never an exception."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scoresde.errors import CannotWriteError, InputError
from scoresde.pipelines.devices import kept_prior
from scoresde.pipelines.folders.content import DONE, content_key, is_done, mark_done
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.restore import restore
from scoresde.pipelines.settings import IntervalOptions, OutputOptions

__all__ = ["Row", "Settings", "perform"]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")


@dataclass(frozen=True)
class Settings:
    """What all pictures of a run share.

    Args:
        out: Folder of the run.
        prior: Key of the prior, see :func:`scoresde.pipelines.folders.content.prior_key`.
        simulate: Whether each picture is the truth and is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.
    """

    out: Path
    prior: str
    simulate: bool = False
    interval: IntervalOptions = field(default_factory=IntervalOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Row:
    """A line of the summary.

    Args:
        image: File of the picture.
        folder: Folder of its results.
        status: "restored", "kept" (whole results of the same content were there) or "failed".
        seconds: Time of the draws; None unless restored.
        residual: Size of the residual in units of the noise; None where it is not known.
        psnr: PSNR of the mean in dB; None where the truth is not known.
        warnings: What the solver and the check of the residual warned of.
        error: Why it failed.
    """

    image: str
    folder: str
    status: str
    seconds: float | None = None
    residual: float | None = None
    psnr: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


def perform(job: Job, settings: Settings, progress: Callable[[float], None] | None = None) -> Row:
    """Restore a picture, unless its results are there.

    Args:
        job: The picture.
        settings: What all pictures share.
        progress: Called with the finished fraction; None for silence.

    Returns:
        What became of it.

    Raises:
        CannotWriteError: If the results cannot be written: the next ones could not either.
    """
    folder = settings.out / job.name
    shared: dict[str, Any] = {
        "simulate": settings.simulate,
        "interval": settings.interval,
        "output": settings.output,
    }
    try:
        key = content_key(job, settings.prior, **shared)
        if is_done(folder, key):
            return Row(str(job.image), job.name, "kept")
        _clear(folder)
        prior = kept_prior(
            job.options.prior, job.options.device, job.options.precision, job.options.average
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = restore(
                job.image,
                job.problem,
                job.options,
                folder,
                prior=prior,
                progress=progress,
                **shared,
            )
        if content_key(job, settings.prior, **shared) != key:
            raise InputError("a file changed while it was read; restore it again")
        report = result.report
        mark_done(folder, key, report["files"])
    except CannotWriteError:
        raise
    except Exception as error:  # a bad file must not end the run; Ctrl-C is no Exception
        return Row(str(job.image), job.name, "failed", error=_reason(error))
    said = [str(one.message) for one in caught]
    said += [one["message"] for one in report["residual"]["warnings"]]
    return Row(
        str(job.image),
        job.name,
        "restored",
        seconds=report["seconds"],
        residual=report["residual"]["ratio"],
        psnr=report["mean"]["psnr"] if "mean" in report else None,
        warnings=tuple(dict.fromkeys(said)),
    )


def _clear(folder: Path) -> None:
    """Remove the mark of an earlier run, and temporary files of one that was killed."""
    if not folder.is_dir():
        return
    (folder / DONE).unlink(missing_ok=True)
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """One line."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}"
    if isinstance(error, InputError):  # one sentence, whatever is in the name of the file
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


def on_device(job: Job, device: str) -> Job:
    """Give a job another device.

    Args:
        job: The job.
        device: Name of the device.

    Returns:
        The job on this device.
    """
    return replace(job, options=replace(job.options, device=device))
