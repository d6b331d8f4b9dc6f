"""``scoresde calibrate``: from a folder of photographs to a calibration of the intervals of one procedure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from scoresde.data.datasets import list_images
from scoresde.data.images import read_image
from scoresde.errors import InputError
from scoresde.evaluation.conformal import (
    FLOOR,
    LEVELS,
    Calibration,
    ScoreTable,
    coverage,
    mean_width,
    pictures_needed,
    pixel_scores,
    spread,
)
from scoresde.files import check_writable
from scoresde.pipelines.named_problems import ImageContext, ProblemOptions, build_operator
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.restore import (
    Measurement,
    RestoreOptions,
    check_options,
    choose_device,
    choose_noise,
    draw,
    make_measurement,
    open_prior,
)
from scoresde.priors.base import Prior

__all__ = ["CalibrateOptions", "PictureScores", "calibrate", "centre_crop", "score_picture"]


@dataclass(frozen=True)
class CalibrateOptions:
    """count pictures of the folder, drawn at random, their centre crops of crop x crop pixels, and the levels to calibrate."""

    count: int = 50
    crop: int = 96
    levels: tuple[float, ...] = LEVELS


@dataclass(frozen=True)
class PictureScores:
    """What one restored picture adds: its scores (m,), ascending; coverage and mean width of the raw Gaussian interval at each level; the
    mean of s = sqrt(std^2 + floor^2), by which calibrated widths are 2 q s. On [-1, 1]."""

    scores: Tensor
    raw_coverage: tuple[float, ...]
    raw_width: tuple[float, ...]
    spread: float


def score_picture(
    measurement: Measurement, truth: Tensor, prior: Prior, options: RestoreOptions, levels: Sequence[float],
    progress: Callable[[float], None] | None = None,
) -> PictureScores:  # fmt: skip
    """Restore and compare with the truth (1, C, H, W)."""
    posterior = draw(prior, measurement, options, progress)
    return PictureScores(
        pixel_scores(posterior, truth, FLOOR, torch.Generator().manual_seed(options.seed))[0],
        tuple(coverage(posterior, truth, level).item() for level in levels),
        tuple(mean_width(posterior, level).item() for level in levels),
        spread(posterior, FLOOR).mean().item(),
    )


def calibrate(
    folder: Path,
    damage: ProblemOptions,
    options: RestoreOptions,
    how: CalibrateOptions,
    out: Path,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Measure and restore each picture as ``restore --simulate`` does, write the calibration to ``out``, return the report.

    Picture i has the seed ``options.seed + i``. The report has for each level the mean coverage before (raw Gaussian intervals) and after
    (leave-one-out: each picture by the scale of all others), and mean widths on [-1, 1].
    """
    pictures = _crops(folder, how, options.seed)
    _check(damage, options, how, len(pictures))
    check_writable(out.parent)
    prior = open_prior(
        options.prior,
        choose_device(options.device),
        options.precision,
        options.average,
        recompute=True,
    )
    judged: list[PictureScores] = []
    made_for: dict[str, Any] = {}
    for i, (path, picture) in enumerate(pictures.items()):
        seeded = replace(options, seed=options.seed + i)
        generator = torch.Generator().manual_seed(seeded.seed)
        base, _ = build_operator(damage, ImageContext(path, how.crop, how.crop, True, generator))
        noise = choose_noise(damage, options.sigma, base, True)
        made_for = made_for or options.procedure(damage, noise)
        measurement = make_measurement(base, noise, picture, True, prior, options.prior, generator)

        def report(fraction: float, i: int = i) -> None:
            if progress:
                progress((i + fraction) / len(pictures))

        judged.append(score_picture(measurement, picture, prior, seeded, how.levels, report))
    table = ScoreTable(tuple(one.scores for one in judged))
    calibration = Calibration.fit(table, (how.crop, how.crop), how.levels, FLOOR, made_for)
    calibration.save(out)
    levels = [
        {
            "level": level, "scale": calibration.scale(level), "coverage_before": fmean(one.raw_coverage[j] for one in judged),
            "coverage_after": table.held_out(level), "mean_width_before": fmean(one.raw_width[j] for one in judged),
            "mean_width_after": 2 * calibration.scale(level) * fmean(one.spread for one in judged),
        }
        for j, level in enumerate(how.levels)
    ]  # fmt: skip
    return {
        "file": str(out),
        **made_for,
        "pictures": len(pictures),
        "crop": how.crop,
        "floor": FLOOR,
        "seed": options.seed,
        "levels": levels,
    }


def _check(
    damage: ProblemOptions, options: RestoreOptions, how: CalibrateOptions, pictures: int
) -> None:
    """What can be known to fail before an hour of restoring."""
    check_options(options)
    if options.samples < 2:
        raise InputError(
            f"--samples must be at least 2 for a standard deviation, got {options.samples}"
        )
    if len(set(how.levels)) != len(how.levels):
        raise InputError("give each --level once")
    if damage.problem == "inpaint" and damage.mask is damage.box is damage.random is None:
        raise InputError(
            "calibrating inpaint needs --mask FILE of the size of the crop, --box TOP,LEFT,HEIGHT,WIDTH or --random FRACTION"
        )
    with as_input_error():
        needed, level = max((pictures_needed(level), level) for level in how.levels)
    if pictures < needed:
        raise InputError(
            f"--level {level:g} needs at least {needed} pictures, there are {pictures}; give more pictures, a larger --count or a lower --level"
        )


def _crops(folder: Path, how: CalibrateOptions, seed: int) -> dict[Path, Tensor]:
    """Centre crops (1, C, crop, crop), in the order of the names."""
    paths = list_images(folder)
    chosen = (
        torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))[: how.count]
        .sort()
        .values
    )
    return {paths[i]: centre_crop(paths[i], how.crop) for i in chosen.tolist()}


def centre_crop(path: Path, side: int) -> Tensor:
    """The middle of a picture, (1, C, side, side) in [-1, 1]; InputError if it is smaller."""
    picture = read_image(path)
    height, width = picture.shape[1:]
    if min(height, width) < side:
        raise InputError(
            f"{path} is {width}x{height}, smaller than the crop {side}; use a smaller --crop or leave it out"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return picture[None, :, top : top + side, left : left + side].contiguous()
