"""The pictures of a restoration: what was measured, what was drawn, and how sure it is."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from problems import InverseProblem
from problems.storage import release
from scoresde.reports.views import (
    View,
    map_view,
    picture_view,
    reduced,
    reduction,
    signed_view,
)
from solvers import Posterior
from solvers.posterior.path import DenoisingPath

__all__ = ["RestorationPictures", "restoration_views"]

_OTHERS = 8  # at most: truth, measurement, mean, standard deviation, two ends, width, residual


@dataclass(frozen=True)
class RestorationPictures:
    """Tensors of a restoration, on [-1, 1].

    Args:
        problem: Operator and noise.
        y: The measurement (1, ...).
        draws: Draws (n, 1, C, H, W).
        truth: The picture (1, C, H, W) if it is known, else None.
        ends: Lower and upper end of the intervals, (1, C, H, W) each; None for one draw.
        level: Nominal coverage of the intervals.
        path: The way of the first draw from noise; None if it was not recorded.
        moments: Mean and standard deviation of the draws, (1, C, H, W) each; None to compute them.
    """

    problem: InverseProblem
    y: Tensor
    draws: Tensor
    truth: Tensor | None = None
    ends: tuple[Tensor, Tensor] | None = None
    level: float = 0.9
    path: DenoisingPath | None = None
    moments: tuple[Tensor, Tensor] | None = None


def restoration_views(pictures: RestorationPictures) -> tuple[list[View], int]:
    """Make the views of a restoration.

    Args:
        pictures: The tensors.

    Returns:
        The views, and the side of the blocks of pixels that are averaged, 1 for whole pictures.
    """
    draws = pictures.draws.float().cpu()
    n, size = len(draws), (draws.shape[-2], draws.shape[-1])
    if pictures.moments is None:
        found = Posterior(draws, 0, 0, 0.0)
        pictures = replace(pictures, moments=(found.mean, found.std))
    factor = reduction(size, n + _OTHERS)
    what = f"{size[1]} by {size[0]} pixels"
    views = _before(pictures, size, factor)
    if n == 1:
        views.append(
            picture_view(
                "mean",
                "Estimate",
                f"Restored picture, {what}",
                "The one picture that the solver found.",
                reduced(draws[0], factor),
            )
        )
    else:
        views += _several(pictures, draws, what, factor)
    residual = _residual(pictures, size, factor)
    return views + ([residual] if residual is not None else []), factor


def _before(pictures: RestorationPictures, size: tuple[int, int], factor: int) -> list[View]:
    views = []
    if pictures.truth is not None:
        views.append(
            picture_view(
                "truth",
                "Truth",
                "The true picture, from which the measurement was simulated",
                "The picture from which the measurement was simulated.",
                reduced(pictures.truth.float().cpu(), factor),
            )
        )
    preview = pictures.problem.operator.preview(pictures.y).float().cpu()
    own = f"{preview.shape[-1]} by {preview.shape[-2]} pixels"
    meaning = (
        "What was measured, from which all else was computed."
        if _is_picture(pictures)
        else "A view of the measurement, which is no picture itself."
    )
    views.append(
        picture_view(
            "measurement",
            "Measurement",
            f"The measurement, {own}",
            meaning,
            reduced(preview, _factor_of(preview, factor)),
            _frame(pictures, size, factor),
        )
    )
    return views


def _several(pictures: RestorationPictures, draws: Tensor, what: str, factor: int) -> list[View]:
    assert pictures.moments is not None
    n, (mean, std) = len(draws), (one.float().cpu() for one in pictures.moments)
    views = [
        picture_view(
            "mean",
            "Mean",
            f"Mean of {n} draws, {what}",
            "Mean of the draws: the least squared error, smooth where the draws disagree.",
            reduced(mean, factor),
        )
    ]
    for i, one in enumerate(draws):
        view = picture_view(
            f"draw-{i + 1}",
            f"Draw {i + 1}",
            f"Draw {i + 1} of {n} from the posterior, {what}",
            "One picture that fits the measurement; where draws differ, nobody knows.",
            reduced(one, factor),
        )
        views.append(view)
        release(draws)
    views.append(
        map_view(
            "std",
            "Standard deviation",
            "Map of the standard deviation of the draws, bright where they disagree",
            "How far draws scatter at a pixel, mean over the colours: bright is unsure.",
            reduced(std.mean(1, keepdim=True), factor)[0, 0],
        )
    )
    if pictures.ends is None:
        return views
    level = f"{pictures.level:.0%}"
    for key, title, end in zip(
        ("lower", "upper"), ("Lower end", "Upper end"), pictures.ends, strict=True
    ):
        views.append(
            picture_view(
                key,
                title,
                f"{title} of the {level} interval of every pixel",
                f"{title} of the {level} interval of every pixel, cut off at black and white.",
                reduced(end.float().cpu(), factor),
            )
        )
    return views


def _is_picture(pictures: RestorationPictures) -> bool:
    """Whether the measurement is a picture with the axes of the restoration."""
    y = pictures.y
    if y.ndim != 4 or y.shape[1] not in (1, 3):
        return False
    return pictures.problem.operator.preview(y) is y


def _factor_of(y: Tensor, factor: int) -> int:
    """Averaging of a measurement, which may be smaller or larger than the restoration."""
    return max(factor, reduction((y.shape[-2], y.shape[-1]), 1))


def _frame(
    pictures: RestorationPictures, size: tuple[int, int], factor: int
) -> tuple[float, float, float, float] | None:
    """Where a measurement lies that shows less than the whole picture, or more."""
    if getattr(pictures.problem.operator, "boundary", None) != "valid":
        return None
    if not _is_picture(pictures):
        return None
    (height, width), (h, w) = size, pictures.y.shape[-2:]
    if (h, w) == (height, width) or 2 * h < height:  # decimated as well: it spans the picture
        return None
    left, top = (width - w) / 2, (height - h) / 2
    return left / factor, top / factor, w / factor, h / factor


def _residual(pictures: RestorationPictures, size: tuple[int, int], factor: int) -> View | None:
    if not _is_picture(pictures):
        return None
    problem, y = pictures.problem, pictures.y
    assert pictures.moments is not None
    mean = pictures.moments[0].to(y)
    shape = problem.input_shape(y)
    mean = mean.expand(len(mean), *shape)  # a grey picture stands for equal colours
    seen = problem.operator.observed(y).to(y.dtype)
    r = ((y - problem.operator.apply(mean)) * seen).float().cpu()
    seen = seen.float().cpu().expand_as(r)
    own = _factor_of(y, factor)
    total, count = (reduced(x.sum(1, keepdim=True), own)[0, 0] for x in (r, seen))
    values = torch.where(count > 0, total / count.clamp_min(1e-6), torch.nan)
    if not bool(values.isfinite().any()):
        return None
    view = signed_view(
        "residual",
        "Residual",
        "Map of the measurement minus what the mean predicts: blue below zero, red above",
        "Measurement minus what the mean predicts, mean over the colours; it should look like "
        "noise, without edges of the picture.",
        values,
    )
    return replace(view, frame=_frame(pictures, size, factor))
