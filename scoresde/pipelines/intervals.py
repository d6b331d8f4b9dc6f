"""The intervals of one restoration: which were asked for, what the report says of them, and their pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scoresde.data.figures import nice_top, write_map
from scoresde.data.images import write_image
from scoresde.evaluation.conformal import Calibration, check_level, coverage, interval, mean_width
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.protocol import check_same
from solvers import Posterior

__all__ = ["IntervalOptions", "Intervals"]


@dataclass(frozen=True)
class Intervals:
    """At one level; calibrated, or the raw Gaussian ones of the draws' standard deviation."""

    level: float
    calibration: Calibration | None

    def report(self, posterior: Posterior, truth: Tensor | None) -> dict[str, Any]:
        """Level, mean width on [-1, 1], the share of pixels that hold the truth if it is known, and what vouches for the level."""
        report: dict[str, Any] = {
            "level": self.level,
            "calibrated": self.calibration is not None,
            "mean_width": mean_width(posterior, self.level, self.calibration).item(),
        }
        if truth is not None:
            report["coverage"] = coverage(posterior, truth, self.level, self.calibration).item()
        if self.calibration is not None:
            report |= {
                "scale": self.calibration.scale(self.level),
                "calibration_pictures": self.calibration.pictures,
            }
            report["map_white"] = nice_top(self._widths(posterior))
            size = tuple(posterior.draws.shape[-2:])
            if size != self.calibration.size:
                made, here = (
                    f"{height}x{width}" for height, width in (self.calibration.size, size)
                )
                report["warning"] = (
                    f"calibrated for pictures of {made} pixels, this one has {here}: the level is promised only for the former"
                )
        return report

    def write(self, posterior: Posterior, out: Path) -> list[str]:
        """lower.png, upper.png and interval.png, the map of the widths, if calibrated; their names."""
        if self.calibration is None:
            return []
        lower, upper = interval(posterior, self.level, self.calibration)
        write_image(lower[0], out / "lower.png")
        write_image(upper[0], out / "upper.png")
        write_map(self._widths(posterior), out / "interval.png")
        return ["lower.png", "upper.png", "interval.png"]

    def _widths(self, posterior: Posterior) -> Tensor:
        """(H, W), the mean over the channels."""
        lower, upper = interval(posterior, self.level, self.calibration)
        return (upper - lower)[0].mean(0)


@dataclass(frozen=True)
class IntervalOptions:
    """level of the intervals. calibration: a file of ``scoresde calibrate``, None for raw Gaussian intervals."""

    level: float = 0.9
    calibration: Path | None = None

    def open(self, procedure: dict[str, Any]) -> Intervals:
        """InputError if the calibration was made for another procedure, or lacks the level."""
        with as_input_error():
            check_level(self.level)
            calibration = None if self.calibration is None else Calibration.load(self.calibration)
            if calibration is not None:
                check_same(calibration.procedure, procedure)
                calibration.scale(self.level)
        return Intervals(self.level, calibration)
