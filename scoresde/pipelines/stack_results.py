"""The results of a stack of slices: files with an axis of slices, and one report."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems.reading.selection import Stack
from scoresde.data.stack_files import write_stack
from scoresde.errors import InputError
from scoresde.memory import available_bytes
from scoresde.pipelines.inputs import Input
from scoresde.pipelines.own_format import own_format_name, write_own_format
from scoresde.pipelines.picture_format import PictureFormat
from scoresde.pipelines.settings import PICTURE_FORMATS
from scoresde.pipelines.sigma_units import stds_in_file_values
from scoresde.pipelines.task import Solved
from solvers import Posterior

__all__ = [
    "check_stack",
    "joined",
    "slice_name",
    "stack_report",
    "write_stack_files",
]

_COPIES = 4  # draws of the slices, of the stack, and their means and file values


def slice_name(stack: Stack, index: int) -> str:
    """Name a slice by its place, as `--select` takes it.

    Args:
        stack: The stack.
        index: Number of the slice, from 0.

    Returns:
        Such as "z=3" or "t=0 z=3".
    """
    where = np.unravel_index(index, stack.shape)
    first = [stack.firsts[name] for name in stack.names]
    return " ".join(
        f"{name}={start + int(i)}" for name, start, i in zip(stack.names, first, where, strict=True)
    )


def check_stack(
    given: Input, form: PictureFormat, name: str | None, samples: int, size: tuple[int, int]
) -> PictureFormat:
    """Check that a stack can be written and held, and choose its format.

    Args:
        given: The stack.
        form: How single pictures like these are written.
        name: Format that was asked for; None to be like the file.
        samples: Number of draws.
        size: Height and width of the results.

    Returns:
        The format, a TIFF.

    Raises:
        InputError: If a format without pages was asked for, or the draws do not fit the memory.
    """
    if PICTURE_FORMATS[form.name][0] != ".tif":
        if name is not None:
            raise InputError(
                f"--format {name} has no pages for {len(given.x)} slices; use tiff, tiff16 or "
                "tiff32, or select one slice"
            )
        form = PictureFormat("tiff32", given.range.low, given.range.high)
    channels = 3 if given.x.shape[1] > 1 else 1
    needed = _COPIES * 4.0 * samples * len(given.x) * channels * math.prod(size)
    free = available_bytes(torch.device("cpu"))
    if needed > free:
        raise InputError(
            f"{samples} draws of {len(given.x)} slices take about {needed / 1e9:.3g} GB of memory, "
            f"and {free / 1e9:.3g} GB are free; --select fewer slices, or lower --samples"
        )
    return form


def joined(solved: list[Solved]) -> Posterior:
    """Join the posteriors of the slices.

    Args:
        solved: The slices.

    Returns:
        Draws (n, N, C, H, W), where n is the smallest number of draws of a slice.
    """
    n = min(len(one.posterior.draws) for one in solved)
    draws = torch.cat([one.posterior.draws[:n] for one in solved], 1)
    seconds = sum(one.posterior.seconds for one in solved)
    return replace(solved[0].posterior, draws=draws, seconds=seconds)


def write_stack_files(
    given: Input,
    posterior: Posterior,
    ends: tuple[Tensor, Tensor] | None,
    form: PictureFormat,
    folder: Path,
    *,
    draws: bool,
    measured: Tensor | None = None,
    zero_filled: Tensor | None = None,
) -> list[str]:
    """Write the stacks: mean, std, lower, upper and the draws, a page for each slice.

    Args:
        given: The stack that is restored.
        posterior: Draws (n, N, C, H, W) on [-1, 1].
        ends: Lower and upper ends (N, C, H, W) of calibrated intervals; None to write none.
        form: How pictures are written.
        folder: Folder to write into.
        draws: Whether the draws are written.
        measured: The measurements as pictures (N, C, H, W); None to write none.
        zero_filled: Magnitudes (N, 1, H, W) that show measurements of complex images.

    Returns:
        Names of the files.
    """
    stack = given.stack
    assert stack is not None
    names = []

    def write(name: str, x: Tensor) -> None:
        pixels = np.stack([form.pixels(one) for one in x])
        pixels = pixels.reshape(*stack.shape, *pixels.shape[1:])
        write_stack(pixels, folder / f"{name}.tif", stack.names, (form.black, form.white))
        names.append(f"{name}.tif")

    write("mean", posterior.mean)
    own = own_format_name(given, "mean", (posterior.draws.shape[-2], posterior.draws.shape[-1]))
    if own is not None and write_own_format(given, posterior.mean, folder / own):
        names.append(own)
    if len(posterior.draws) > 1:
        scale = (given.range.high - given.range.low) / 2
        std = (posterior.std.double() * scale).float().numpy()
        std = std[:, 0] if std.shape[1] == 1 else np.moveaxis(std, 1, -1)
        std = std.reshape(*stack.shape, *std.shape[1:])
        write_stack(std, folder / "std.tif", stack.names)
        names.append("std.tif")
    if ends is not None:
        write("lower", ends[0])
        write("upper", ends[1])
    if measured is not None:
        write("measurement", measured)
    if zero_filled is not None:
        write("zero_filled", zero_filled)
    if draws:
        for number, one in enumerate(posterior.draws, 1):
            write(f"draw_{number}", one)
    return names


def stack_report(
    given: Input, solved: list[Solved], posterior: Posterior, shown: Solved
) -> dict[str, Any]:
    """Collect what was found of the slices.

    Args:
        given: The stack.
        solved: The slices.
        posterior: All of them.
        shown: The slice whose noise level the report has.

    Returns:
        Entries of report.json: those of all slices together, of the slice whose residual is worst,
        and `slices`, a short entry for each.
    """
    assert given.stack is not None
    entries = []
    for index, one in enumerate(solved):
        residual = one.report["residual"]
        entry = {
            "slice": slice_name(given.stack, index),
            "residual": residual["ratio"],
            "warnings": [w["message"] for w in residual["warnings"]],
            "mean_std": one.report["mean_std"],
        }
        if "sigma_estimate" in one.report:
            entry["sigma"] = one.report["sigma_estimate"]["sigma"][0]
        if "photons_estimate" in one.report:
            entry["photons"] = one.report["photons_estimate"]["photons"]
        if "mean" in one.report:
            entry["psnr"] = one.report["mean"]["psnr"]
        entries.append(entry)

    def distance(index: int) -> tuple[bool, float]:
        residual = solved[index].report["residual"]
        ratio = residual["ratio"]
        return bool(residual["warnings"]), abs(math.log(ratio)) if ratio else -1.0

    worst = solved[max(range(len(solved)), key=distance)].report
    report: dict[str, Any] = {
        "residual": worst["residual"],
        "samples": len(posterior.draws),
        "seconds": round(posterior.seconds, 2),
        "mean_std": float(posterior.std.mean()),
        "slices": entries,
    }
    report["in_file_values"] = stds_in_file_values(
        given, sigma=shown.report["sigma"], mean_std=report["mean_std"]
    )
    ranges = [one.report["interval"] for one in solved if "interval" in one.report]
    if ranges:
        means = {
            k: [one[k] for one in ranges] for k in ("mean_width", "coverage") if k in ranges[0]
        }
        report["interval"] = ranges[0] | {k: float(np.mean(v)) for k, v in means.items()}
    for name in ("measurement", "draw", "mean"):
        found = [one.report[name] for one in solved if name in one.report]
        if found:
            report[name] = {k: float(np.mean([one[k] for one in found])) for k in found[0]}
    return report
