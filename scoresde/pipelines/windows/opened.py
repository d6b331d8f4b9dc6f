"""A picture that is restored in windows: what is known of it before the first window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import Inpainting, InverseProblem, Noise
from problems.random_fields import Site
from problems.reading.boxes import BoxedPicture, open_boxes
from problems.reading.ranges import Percentiles, ValueRange
from scoresde.defaults import TILE_OVERLAP
from scoresde.errors import InputError, as_input_error
from scoresde.pipelines.default_noise import default_sigma
from scoresde.pipelines.estimated_blur import UNKNOWN_BLURS, is_unknown
from scoresde.pipelines.inputs import given_range
from scoresde.pipelines.named_problems import (
    ImageContext,
    build_noise,
    build_operator,
    check_used,
)
from scoresde.pipelines.plan import Measurement, Plan, check_options
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions, WindowOptions
from scoresde.pipelines.sigma_units import known_sigma
from scoresde.pipelines.windows.grid import Window, cover
from scoresde.pipelines.windows.local import Local, localise
from scoresde.pipelines.windows.masks import WindowMask, open_mask
from scoresde.priors.base import Prior

__all__ = ["Opened", "WindowTask", "opened"]


@dataclass(frozen=True)
class WindowTask:
    """What is restored, and how: what another process needs to do a window of it.

    Args:
        image: The picture.
        problem: How it was measured.
        options: How it is restored.
        windows: Size and overlap of the windows.
    """

    image: Path
    problem: ProblemOptions
    options: RestoreOptions
    windows: WindowOptions


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture with its windows.

    Args:
        task: What was asked for.
        options: How it is restored, with the noise level on [-1, 1].
        file: The picture.
        range: Its values of black and white.
        local: The operator, and how far it reaches.
        mask: Missing pixels; None where the problem has none.
        noise: Noise of the measurement.
        description: The problem in plain values.
        size: Height and width of the result.
        overlap: Pixels that windows share.
        windows: The windows.
    """

    task: WindowTask
    options: RestoreOptions
    file: BoxedPicture
    range: ValueRange
    local: Local
    mask: WindowMask | None
    noise: Noise
    description: dict[str, Any]
    size: tuple[int, int]
    overlap: int
    windows: list[Window]

    @property
    def problem(self) -> InverseProblem:
        """Operator and noise of the whole picture, without its mask."""
        return InverseProblem(self.local.operator, self.noise)

    @property
    def channels(self) -> int:
        """Channels of the result."""
        with as_input_error():
            return self.local.operator.input_shape((self.file.channels, *self.file.size))[0]

    def measurement(self, index: int, prior: Prior) -> Measurement:
        """Read the measurement of a window.

        Args:
            index: Number of the window.
            prior: Prior whose channels the restoration has.

        Returns:
            The measurement.

        Raises:
            InputError: If it cannot be read, or fits neither the operator nor the prior.
        """
        window = self.windows[index]
        rows, columns = self.local.measured_box(window)
        with as_input_error():
            y = torch.from_numpy(self.range.to_unit(self.file.read(rows, columns)))[None]
            operator = self.local.within(window, self.size)
            if self.mask is not None:
                operator = Inpainting(self.mask.read(rows, columns))
        y[~torch.isfinite(y)] = torch.nan
        source = f"{self.file.path} at {rows.start}:{rows.stop},{columns.start}:{columns.stop}"
        context = ImageContext(y.shape[-2], y.shape[-1], False, torch.Generator())
        plan = Plan(operator, self.noise, {}, context, torch.Generator(), source)
        return plan.measure(y, prior, self.options.prior)

    def sites(self, index: int, y: Tensor) -> tuple[Site, ...]:
        """Say where x and y of a window lie.

        Args:
            index: Number of the window.
            y: Its measurement.

        Returns:
            The place of x, and that of y if it has another size.
        """
        window = self.windows[index]
        rows, columns = self.local.measured_box(window)
        x = Site(window.sides, (window.rows[0], window.columns[0]))
        measured = Site((y.shape[-2], y.shape[-1]), (rows.start, columns.start))
        return (x,) if measured.sides == x.sides else (x, measured)

    def check_holes(self) -> None:
        """Check that every window has an observed pixel.

        Raises:
            InputError: If one has none.
        """
        for window in self.windows if self.mask is not None else ():
            assert self.mask is not None
            if not bool(self.mask.read(*self.local.measured_box(window)).any()):
                (top, bottom), (left, right) = window.rows, window.columns
                raise InputError(
                    f"no pixel of the window {top}:{bottom},{left}:{right} is observed: a hole is "
                    "larger than a window; give larger --windows"
                )


@lru_cache(maxsize=1)
def opened(task: WindowTask) -> Opened:
    """Open a picture, once in each process.

    Args:
        task: What is restored.

    Returns:
        The picture with its windows.

    Raises:
        InputError: If a file or an option cannot be used.
    """
    problem, options = task.problem, task.options
    check_used(problem)
    check_options(options)
    _check_unknowns(task)
    sigma = known_sigma(options)
    given = given_range(problem)
    if isinstance(given, Percentiles):
        raise InputError("percentages as --range need the whole picture; give --range LOW,HIGH")
    with as_input_error():
        file = open_boxes(task.image, problem.array)
        range_ = file.range(given, sigma or 0.0)
    if options.sigma_units == "file" and options.stated_sigma is not None:
        sigma = 2 * options.stated_sigma / (range_.high - range_.low)
        options = replace(options, sigma=sigma, sigma_units="picture")
    generator = torch.Generator().manual_seed(options.seed)
    context = ImageContext(*file.size, False, generator)
    mask = None
    if problem.problem == "inpaint":
        # its mask is not read whole; where all is observed the operator is that of denoising
        operator, description = build_operator(ProblemOptions("denoise"), context)
        description = {"problem": "inpaint"}
    else:
        operator, description = build_operator(problem, context)
    local = localise(operator, problem.problem)
    size = local.picture_size(file.size)
    side, overlap = _sides(task.windows, local, size)
    if problem.problem == "inpaint":
        mask = open_mask(problem, size, overlap)
        description["missing"] = mask.share()
    noise = build_noise(problem, options.stated_sigma, default_sigma(operator, simulate=False))
    return Opened(
        task,
        options,
        file,
        range_,
        local,
        mask,
        noise,
        description,
        size,
        overlap,
        cover(size, side, overlap, local.step),
    )


def _check_unknowns(task: WindowTask) -> None:
    """Refuse what is estimated from the whole picture."""
    for name in ("sigma", "photons", *UNKNOWN_BLURS):
        if is_unknown(name, task.problem) or getattr(task.options, name, None) == "auto":
            raise InputError(
                f"--{name} auto looks at the whole picture; restore a crop of it with --{name} "
                "auto first, and give --windows what it finds"
            )
    if task.problem.select:
        raise InputError("--select does nothing with --windows; they are of one whole picture")


def _sides(windows: WindowOptions, local: Local, size: tuple[int, int]) -> tuple[int, int]:
    """Side and overlap of the windows in pixels of the result."""
    side, step = windows.side, local.step
    least = 2 * local.margin
    overlap = 2 * TILE_OVERLAP + least if windows.overlap is None else windows.overlap
    if overlap < least:
        raise InputError(
            f"--overlap must be at least {least} pixels, which the operator couples across the "
            f"sides of two windows, got {overlap}"
        )
    overlap = -(-overlap // step) * step
    if 2 * overlap > side // step * step and max(size) > side:
        raise InputError(
            f"windows of {side} pixels are too small for an overlap of {overlap}; give --windows "
            f"{2 * overlap} or more"
        )
    return max(step, side // step * step), overlap
