"""What a run in windows says of itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scoresde.pipelines.picture_format import PictureFormat
from scoresde.pipelines.windows.opened import Opened
from scoresde.pipelines.windows.output import Target
from scoresde.pipelines.windows.record import Done

__all__ = ["seam_ratio", "windows_report"]

_PIECE = 4096
"""Pixels along a seam that are read at once."""


def windows_report(
    picture: Opened, form: PictureFormat, done: list[Done], kept: int
) -> dict[str, Any]:
    """Collect what was found of the windows.

    Args:
        picture: The picture.
        form: How the mean is written.
        done: All windows.
        kept: How many were done by earlier runs.

    Returns:
        Entries of report.json.
    """
    options, task = picture.options, picture.task
    ratios = [one.residual for one in done if one.residual is not None]
    warned = [one for one in done if one.warnings]
    sizes = [
        (one.core_rows[1] - one.core_rows[0]) * (one.core_columns[1] - one.core_columns[0])
        for one in picture.windows
    ]
    mean_std = float(np.average([one.mean_std for one in done], weights=sizes))
    half = (picture.range.high - picture.range.low) / 2
    sigma = getattr(picture.noise, "std", None)
    return {
        "format": "scoresde.windows-report/1",
        "image": str(task.image),
        "read": {
            "kind": picture.file.source.kind,
            "shape": [picture.file.channels, *picture.file.size],
            "range": [picture.range.low, picture.range.high],
            "range_rule": picture.range.rule,
            "notes": list(picture.file.source.notes),
            "units": picture.file.source.units,
        },
        "problem": picture.description["problem"],
        "settings": {k: v for k, v in picture.description.items() if k != "problem"},
        "operator": repr(picture.local.operator),
        "noise": repr(picture.noise),
        "sigma": sigma,
        "sigma_units": "standard deviation on [-1, 1]",
        "sigma_given": task.options.sigma is not None,
        "prior": options.prior,
        "average": options.average,
        "solver": options.solver,
        "samples": options.samples,
        "seed": options.seed,
        "size": list(picture.size),
        "windows": {
            "side": task.windows.side,
            "overlap": picture.overlap,
            "count": len(done),
            "kept": kept,
        },
        "nfe": float(np.mean([one.nfe for one in done])),
        "vjps": float(np.mean([one.vjps for one in done])),
        "mean_std": mean_std,
        "in_file_values": {
            "units": picture.file.source.units,
            "sigma": None if sigma is None else half * sigma,
            "mean_std": half * mean_std,
        },
        "residual": {
            "ratio": float(np.mean(ratios)) if ratios else None,
            "lowest": min(ratios, default=None),
            "highest": max(ratios, default=None),
            "warned": len(warned),
            "examples": [
                {"window": one.window, "warnings": list(one.warnings)} for one in warned[:3]
            ],
        },
        "pictures": form.report(),
    }


def seam_ratio(mean: Target, picture: Opened) -> float | None:
    """Compare the steps of the mean across seams with those beside them.

    Args:
        mean: The mean.
        picture: The picture and its windows.

    Returns:
        Root mean square of the steps across seams over that of the steps on both sides of them: 1
        if there are none. Where the operator makes a pattern of a period, such as that of
        super-resolution, steps at the same place of the period are compared. None without seams, or
        where the picture is flat beside them.
    """
    period = picture.local.step
    across = beside = 0.0
    height, width = picture.size
    sides = (height, width)
    cuts = (
        {one.core_rows[0] for one in picture.windows},
        {one.core_columns[0] for one in picture.windows},
    )
    for axis in (0, 1):
        for cut in sorted(cuts[axis]):
            if not period < cut < sides[axis] - period:
                continue
            band, other = slice(cut - 1 - period, cut + 1 + period), sides[1 - axis]
            for start in range(0, other, _PIECE):
                along = slice(start, min(start + _PIECE, other))
                box = (band, along) if axis == 0 else (along, band)
                values = mean.read(*box).astype(np.float64)
                steps = np.square(np.diff(values, axis=axis))
                steps = np.moveaxis(steps, axis, 0).reshape(2 * period + 1, -1).sum(1)
                across += float(steps[period])
                beside += float(steps[0] + steps[-1]) / 2
    return math.sqrt(across / beside) if beside > 0 else None
