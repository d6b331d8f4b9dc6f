"""From a folder of photographs to a calibration of the intervals of one protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from problems.reading.ranges import GivenRange
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop
from scoresde.errors import InputError
from scoresde.evaluation.conformal import (
    FLOOR,
    LEVELS,
    Calibration,
    ScoreTable,
    check_level,
    coverage,
    mean_width,
    pictures_needed,
    pixel_scores,
    spread,
)
from scoresde.files import check_writable
from scoresde.pipelines.devices import choose_device, kept_prior
from scoresde.pipelines.inputs import given_range
from scoresde.pipelines.named_problems import check_used
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.plan import Measurement, Plan, check_options, draw, make_plan
from scoresde.pipelines.protocol import protocol
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.pipelines.workers import Workers, device_of_worker
from scoresde.priors.base import Prior

__all__ = ["CalibrateOptions", "PictureScores", "calibrate", "score_picture"]


@dataclass(frozen=True)
class CalibrateOptions:
    """What a calibration is made of.

    Args:
        count: Pictures, drawn at random from the folder.
        crop: Side of their centre crops, in pixels.
        levels: Nominal coverages to calibrate, each in (0, 1).

    Raises:
        ValueError: If a number is not positive, or a level is missing, twice there or not in
            (0, 1).
    """

    count: int = 50
    crop: int = 96
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("crop", self.crop)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for level in self.levels:
            check_level(level)
        if not self.levels or len(set(self.levels)) != len(self.levels):
            raise ValueError(f"give each --level once, got {self.levels}")


@dataclass(frozen=True)
class PictureScores:
    """What one restored picture adds to a calibration, on [-1, 1].

    Args:
        scores: Conformal scores of its pixels (m,), ascending.
        raw_coverage: Coverage of the raw Gaussian interval at each level.
        raw_width: Mean width of that interval at each level.
        spread: Mean of s = sqrt(std^2 + floor^2); a calibrated interval is 2 q s wide.
    """

    scores: Tensor
    raw_coverage: tuple[float, ...]
    raw_width: tuple[float, ...]
    spread: float


def score_picture(
    measurement: Measurement,
    truth: Tensor,
    prior: Prior,
    options: RestoreOptions,
    levels: Sequence[float],
    progress: Callable[[float], None] | None = None,
) -> PictureScores:
    """Restore a measurement and compare its intervals with the truth.

    Args:
        measurement: What is restored.
        truth: The picture behind it (1, C, H, W) on [-1, 1].
        prior: Prior of pictures.
        options: Solver, draws and seed.
        levels: Nominal coverages.
        progress: Called with the finished fraction of the work.

    Returns:
        The scores of the picture.
    """
    posterior = draw(prior, measurement, options, progress)
    generator = torch.Generator().manual_seed(options.seed)
    return PictureScores(
        pixel_scores(posterior, truth, FLOOR, generator)[0],
        tuple(coverage(posterior, truth, level).item() for level in levels),
        tuple(mean_width(posterior, level).item() for level in levels),
        spread(posterior, FLOOR).mean().item(),
    )


def calibrate(
    folder: Path,
    problem: ProblemOptions,
    options: RestoreOptions,
    how: CalibrateOptions,
    out: Path,
    progress: Callable[[float], None] | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Measure and restore each picture as `restore --simulate` does, and write the calibration.

    Picture i has the seed `options.seed + i`.

    Args:
        folder: Photographs like those to be restored.
        problem: How they are measured.
        options: How they are restored.
        how: Pictures, crops and levels.
        out: File to write.
        progress: Called with the finished fraction of the work.
        workers: Who restores the pictures; None for this process alone. The result is the same.

    Returns:
        The report. For each level it has the mean coverage before (raw Gaussian intervals) and
        after (each picture by the scale of all others), and mean widths on [-1, 1].

    Raises:
        InputError: If an option cannot be used or there are too few pictures.
    """
    check_used(problem)
    pictures = _crops(folder, how, options.seed, given_range(problem))
    _check(problem, options, how, len(pictures))
    check_writable(out.parent)
    choose_device(options.device)  # an unknown one is refused here
    shares = [
        _Share(problem, replace(options, seed=options.seed + i), picture, how)
        for i, picture in enumerate(pictures.values())
    ]
    made_for = protocol(problem, shares[0].plan().noise, options)
    workers = workers or Workers()
    judged: list[PictureScores] = []
    if workers.alone:
        for i, share in enumerate(shares):

            def report(fraction: float, i: int = i) -> None:
                if progress:
                    progress((i + fraction) / len(shares))

            judged.append(_score(share, report))
    else:
        for one in workers.map(_score, shares):
            judged.append(one)
            if progress:
                progress(len(judged) / len(shares))
    table = ScoreTable(tuple(one.scores for one in judged))
    calibration = Calibration.fit(table, (how.crop, how.crop), how.levels, FLOOR, made_for)
    calibration.save(out)
    levels = [
        {
            "level": level,
            "scale": calibration.scale(level),
            "coverage_before": fmean(one.raw_coverage[j] for one in judged),
            "coverage_after": table.held_out(level),
            "mean_width_before": fmean(one.raw_width[j] for one in judged),
            "mean_width_after": 2 * calibration.scale(level) * fmean(one.spread for one in judged),
        }
        for j, level in enumerate(how.levels)
    ]
    return {
        "format": "scoresde.calibrate-report/1",
        "file": str(out),
        **made_for,
        "pictures": len(pictures),
        "crop": how.crop,
        "floor": FLOOR,
        "seed": options.seed,
        "levels": levels,
    }


@dataclass(frozen=True)
class _Share:
    """What one picture is measured and restored with, in any process."""

    problem: ProblemOptions
    options: RestoreOptions
    picture: Tensor
    how: CalibrateOptions

    def plan(self) -> Plan:
        size = (self.how.crop, self.how.crop)
        return make_plan(
            self.problem, self.options, size=size, simulate=True, seed=self.options.seed
        )


def _score(share: _Share, progress: Callable[[float], None] | None = None) -> PictureScores:
    options = share.options
    device = device_of_worker(options.device)
    prior = kept_prior(options.prior, device, options.precision, options.average)
    measured = share.plan().measure(share.picture, prior, options.prior)
    return score_picture(measured, share.picture, prior, options, share.how.levels, progress)


def _check(
    problem: ProblemOptions, options: RestoreOptions, how: CalibrateOptions, pictures: int
) -> None:
    """What can be known to fail before an hour of restoring."""
    check_options(options)
    if options.samples < 2:
        raise InputError(
            f"--samples must be at least 2 for a standard deviation, got {options.samples}"
        )
    if problem.problem == "inpaint" and problem.mask is problem.box is problem.random is None:
        raise InputError(
            "calibrating inpaint needs --mask FILE of the size of the crop, "
            "--box TOP,LEFT,HEIGHT,WIDTH or --random FRACTION"
        )
    with as_input_error():
        needed, level = max((pictures_needed(level), level) for level in how.levels)
    if pictures < needed:
        raise InputError(
            f"--level {level:g} needs at least {needed} pictures, there are {pictures}; "
            "give more pictures, a larger --count or a lower --level"
        )


def _crops(
    folder: Path, how: CalibrateOptions, seed: int, value_range: GivenRange | None
) -> dict[Path, Tensor]:
    """Centre crops (1, C, crop, crop), in the order of the names."""
    paths = list_images(folder)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))
    chosen = order[: how.count].sort().values.tolist()
    return {paths[i]: centre_crop(paths[i], how.crop, value_range) for i in chosen}
