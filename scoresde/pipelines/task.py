"""A restoration that is ready to start, and what is found of one of its measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from problems.reading.ranges import ValueRange
from scoresde.pipelines.estimated_blur import UnknownBlur, with_estimated_blur
from scoresde.pipelines.estimated_noise import with_estimated_noise
from scoresde.pipelines.estimated_photons import with_estimated_photons
from scoresde.pipelines.inputs import Input
from scoresde.pipelines.intervals import Intervals
from scoresde.pipelines.picture_format import PictureFormat, destination
from scoresde.pipelines.plan import Measurement
from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.restoration import Restoration, report_of, residual_of
from scoresde.pipelines.restoration_report import recorded_warnings
from scoresde.pipelines.settings import RestoreOptions
from scoresde.pipelines.shared_draws import draw_shared
from scoresde.pipelines.workers import Workers
from scoresde.priors.base import Prior
from solvers import Posterior
from solvers.posterior.path import DenoisingPath, recording_path

__all__ = ["Solved", "Task", "magnitude_picture", "solve"]


@dataclass(frozen=True)
class Task:
    """What is restored, by what, and how it is written.

    Args:
        call: What was asked for, with the names that a report has.
        options: How it is restored, with the noise level on [-1, 1].
        given: The file that was read.
        measurements: The measurement of each picture or slice.
        description: The problem in plain values.
        prior: The prior.
        intervals: Level and calibration of the intervals.
        form: How pictures are written.
        out: Folder of the results, or file of the mean.
        reads: Files that were read, which stay where they are.
        zero_filled: Where the images are complex, with real and imaginary part as channels: the
            magnitudes (N, 1, H, W) that show the measurements. None where they are pictures.
        workers: Who makes the draws.
    """

    call: RestoreCall
    options: RestoreOptions
    given: Input
    measurements: tuple[Measurement, ...]
    description: dict[str, Any]
    prior: Prior
    intervals: Intervals
    form: PictureFormat
    out: Path
    reads: tuple[Path | None, ...] = ()
    zero_filled: Tensor | None = None
    workers: Workers = field(default_factory=Workers)

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return destination(self.out)[0]

    @property
    def shown(self) -> int:
        """Number of the picture or slice that page, sheet and problem.json show."""
        return (len(self.measurements) - 1) // 2

    @property
    def draws_written(self) -> bool:
        """Whether the draws are written."""
        return not self.call.output.no_draws

    def pictures(self, posterior: Posterior) -> Posterior:
        """Turn draws into those of pictures.

        Args:
            posterior: Draws (n, N, C, H, W).

        Returns:
            Draws of the magnitudes (n, N, 1, H, W) where the images are complex; else the same.
        """
        if self.zero_filled is None:
            return posterior
        return replace(posterior, draws=magnitude_picture(posterior.draws))

    def of_pictures(self) -> Input:
        """Give the file with the black and white of the pictures, not of complex numbers."""
        if self.zero_filled is None:
            return self.given
        range_ = self.given.range
        return replace(self.given, range=ValueRange(0.0, range_.high, range_.rule, range_.certain))


@dataclass(frozen=True)
class Solved:
    """A picture or slice that is restored.

    Args:
        posterior: Draws (n, 1, C, H, W).
        y: Its measurement (1, ...).
        truth: The picture (1, C, H, W) on [-1, 1] if it is known.
        report: What was found, in plain values.
        problem: Operator and noise.
        path: The way of the first draw from noise; None if it was not recorded.
        warnings: What the solver warned of.
    """

    posterior: Posterior
    y: Tensor
    truth: Tensor | None
    report: dict[str, Any]
    problem: InverseProblem
    path: DenoisingPath | None = None
    warnings: tuple[str, ...] = ()


def magnitude_picture(x: Tensor) -> Tensor:
    """Show complex images as pictures.

    Args:
        x: Images (..., 2, H, W), real and imaginary part.

    Returns:
        Pictures (..., 1, H, W): -1 is black, for the magnitude 0, and 1 is white, for 1.

    Example:
        >>> import torch
        >>> magnitude_picture(torch.tensor([0.3, 0.4]).reshape(2, 1, 1))
        tensor([[[0.]]])
    """
    return 2 * torch.hypot(x[..., 0::2, :, :], x[..., 1::2, :, :]) - 1


def solve(
    task: Task,
    index: int,
    progress: Callable[[float], None] | None = None,
    *,
    ready: Callable[[Measurement], None] | None = None,
    arrived: Callable[[Tensor], None] | None = None,
    blur: UnknownBlur | None = None,
) -> Solved:
    """Restore a picture or slice.

    Args:
        task: The task.
        index: Number of the measurement.
        progress: Called with the finished fraction of the work; with 0 as long as noise or kernel
            are being estimated.
        ready: Called with the measurement when its noise and kernel are known.
        arrived: Called with finished draws, see :meth:`solvers.PosteriorSampler.sample`.
        blur: What of the kernel is estimated first; None for nothing.

    Returns:
        Draws and report.

    Raises:
        InputError: If the solver cannot do the problem.
    """
    given, call, prior = task.given, task.call, task.prior
    own = replace(task.options, seed=given.slice_seed(index, task.options.seed))
    measured, kernel = with_estimated_blur(blur, prior, task.measurements[index], own, progress)
    measured, counts = with_estimated_photons(call.problem, prior, measured, own, progress)
    noise = None
    if counts is None:
        measured, noise = with_estimated_noise(prior, measured, own, call.interval, progress)
    if ready is not None:
        ready(measured)
    with recorded_warnings() as warned, recording_path(DenoisingPath()) as path:
        posterior = draw_shared(prior, measured, own, task.workers, progress, arrived, task.folder)
    truth = _comparable(measured, posterior)
    one = Restoration(posterior, measured.y, truth, {})
    report = report_of(call.image, given, task.description, call.options, measured.problem, one)
    report["sigma_given"] |= call.problem.noise_scan is not None
    if kernel is not None:
        report["blur_estimate"] = kernel.report()
    if noise is not None:
        report["sigma_estimate"] = noise.report()
    if counts is not None:
        report["photons_estimate"] = counts.report()
    report["residual"] = residual_of(
        measured,
        posterior,
        call.options,
        range_known=call.simulate or given.range.certain,
        sigma_stated=call.options.stated_sigma is not None or call.problem.noise_scan is not None,
        prior=None if call.simulate else prior,
    )
    if len(posterior.draws) > 1:
        report["interval"] = task.intervals.report(posterior, truth)
    return Solved(
        posterior,
        measured.y,
        truth,
        report,
        measured.problem,
        path if index == task.shown else None,
        tuple(warned),
    )


def _comparable(measured: Measurement, posterior: Posterior) -> Tensor | None:
    """The truth; of pictures that y cannot tell apart, the one that is nearest to the mean.

    Scores, intervals and pictures then compare like with like.
    """
    align = getattr(measured.problem.operator, "align", None)
    if measured.truth is None or align is None:
        return measured.truth
    found: Tensor = align(measured.truth.cpu(), posterior.mean)
    return found
