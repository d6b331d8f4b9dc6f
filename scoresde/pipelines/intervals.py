"""Intervals of one restoration: their level, their entry in the report, their pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.data.figures import nice_top, write_map
from scoresde.data.images import row_blocks
from scoresde.evaluation.conformal import (
    Calibration,
    check_level,
    coverage,
    interval,
    mean_width,
)
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.picture_format import PictureFormat
from scoresde.pipelines.protocol import check_same
from scoresde.pipelines.settings import IntervalOptions
from solvers import Posterior

__all__ = ["Intervals", "open_intervals"]


@dataclass(frozen=True)
class _Part:
    """Rows of the mean and of the standard deviation."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Intervals:
    """Intervals of one level.

    Args:
        level: Nominal coverage, in (0, 1).
        calibration: Scales of the intervals; None for the raw Gaussian intervals of the standard
            deviation of the draws.
    """

    level: float
    calibration: Calibration | None

    def report(self, posterior: Posterior, truth: Tensor | None) -> dict[str, Any]:
        """Describe the intervals.

        Args:
            posterior: Draws (n, 1, C, H, W).
            truth: The picture (1, C, H, W) on [-1, 1] if it is known.

        Returns:
            Level, mean width on [-1, 1], coverage if the truth is known, and the calibration.
        """
        report: dict[str, Any] = {
            "level": self.level,
            "calibrated": self.calibration is not None,
            "mean_width": self._mean(posterior, lambda part, _: self._width(part)),
        }
        if truth is not None:
            report["coverage"] = self._mean(
                posterior, lambda part, rows: self._coverage(part, truth[..., rows, :])
            )
        if self.calibration is not None:
            report["scale"] = self.calibration.scale(self.level)
            report["calibration_pictures"] = self.calibration.pictures
            report["map_white"] = nice_top(self._widths(posterior))
            size = tuple(posterior.draws.shape[-2:])
            if size != self.calibration.size:
                made, here = (f"{h}x{w}" for h, w in (self.calibration.size, size))
                report["warning"] = (
                    f"calibrated for pictures of {made} pixels, this one has {here}: the level is "
                    "promised only for the former"
                )
        return report

    def ends(self, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """Compute the ends of the intervals.

        Args:
            posterior: Draws (n, 1, C, H, W), two at least.

        Returns:
            Lower and upper ends (1, C, H, W), on [-1, 1], float32.
        """
        mean, std = posterior.mean, posterior.std
        lower, upper = (torch.empty_like(mean, dtype=torch.float32) for _ in range(2))
        for rows in row_blocks(mean.shape):
            part = _Part(mean[..., rows, :], std[..., rows, :])
            ends = interval(part, self.level, self.calibration)
            lower[..., rows, :], upper[..., rows, :] = ends
        return lower, upper

    def write(self, posterior: Posterior, out: Path, form: PictureFormat) -> list[str]:
        """Write the pictures lower and upper, and interval.png, the map of the widths.

        Without a calibration nothing is written.

        Args:
            posterior: Draws (n, 1, C, H, W).
            out: Folder to write into.
            form: How pictures are written.

        Returns:
            The names of the files.
        """
        if self.calibration is None:
            return []
        names = [f"lower{form.suffix}", f"upper{form.suffix}"]
        for name, end in zip(names, self.ends(posterior), strict=True):
            form.write(end[0], out / name)
        write_map(self._widths(posterior), out / "interval.png")
        return [*names, "interval.png"]

    def _mean(self, posterior: Posterior, statistic: Callable[[_Part, slice], float]) -> float:
        """The mean over the pixels, of a few rows at a time."""
        mean, std = posterior.mean, posterior.std
        total = 0.0
        for rows in row_blocks(mean.shape):
            part = _Part(mean[..., rows, :], std[..., rows, :])
            total += statistic(part, rows) * (rows.stop - rows.start)
        return total / mean.shape[-2]

    def _width(self, part: _Part) -> float:
        return mean_width(part, self.level, self.calibration).item()

    def _coverage(self, part: _Part, truth: Tensor) -> float:
        return coverage(part, truth, self.level, self.calibration).item()

    def _widths(self, posterior: Posterior) -> Tensor:
        """(H, W), the mean over the channels."""
        lower, upper = self.ends(posterior)
        return (upper - lower)[0].mean(0)


def open_intervals(options: IntervalOptions, protocol: dict[str, Any]) -> Intervals:
    """Read the calibration and check that it holds for this restoration.

    Args:
        options: Level, and the file of a calibration.
        protocol: How the picture is measured and restored.

    Returns:
        The intervals.

    Raises:
        InputError: If the calibration was made for another protocol, or lacks the level.
    """
    with as_input_error():
        check_level(options.level)
        if options.calibration is None:
            return Intervals(options.level, None)
        calibration = Calibration.load(options.calibration)
        check_same(calibration.procedure, protocol)
        calibration.scale(options.level)
    return Intervals(options.level, calibration)
