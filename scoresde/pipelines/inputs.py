"""The file that is restored: a picture, or a measurement in an array file."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from problems.reading.arrays import SUFFIXES, read_array_file
from problems.reading.pictures import Picture
from problems.reading.ranges import (
    GivenRange,
    Percentiles,
    ValueRange,
    array_range,
    check_range,
)
from scoresde.data.images import open_image
from scoresde.errors import InputError, as_input_error
from scoresde.pipelines.named_problems import PROBLEMS, check_used, is_described
from scoresde.pipelines.parsing import numbers
from scoresde.pipelines.settings import ProblemOptions

__all__ = ["Input", "given_range", "read_input"]

_DESCRIBED = ValueRange(-1.0, 1.0, "the units of problem.json")
_MEASURED = ValueRange(-1.0, 1.0, "the units of measurements of pictures on [-1, 1]")


@dataclass(frozen=True)
class Input:
    """What was read from a file, and how.

    Args:
        x: The picture or the measurement (1, C, ...), float32, on [-1, 1] where it is a picture.
            Entries that the file marks as NaN are NaN.
        kind: Format and type in words.
        range: The values of black and white in the file.
        notes: What a reader should know, a sentence each.
        file: What the file holds beside the values; None for an array.
    """

    x: Tensor
    kind: str
    range: ValueRange
    notes: tuple[str, ...] = ()
    file: Picture | None = None

    @property
    def size(self) -> tuple[int, int]:
        """The last two sides."""
        return self.x.shape[-2], self.x.shape[-1]

    def report(self) -> dict[str, object]:
        """Describe in plain values how the file was read."""
        return {
            "kind": self.kind,
            "shape": list(self.x.shape[1:]),
            "range": [self.range.low, self.range.high],
            "range_rule": self.range.rule,
            "notes": list(self.notes),
        }


def read_input(
    path: Path, problem: ProblemOptions, *, simulate: bool, sigma: float | None = None
) -> Input:
    """Read a picture, or a measurement in an array file.

    Args:
        path: A picture; or an array (C, H, W), (H, W), (H, W, C) or of another shape where the
            measurement is no picture, as .npy, or alone in a .npz or .mat file.
        problem: How it was measured, and the range of its values if given.
        simulate: Whether it is the truth and is measured afterwards.
        sigma: Noise level on [-1, 1], by which measurements lie outside of the range of pictures.

    Returns:
        The values on [-1, 1], and how they were found.

    Raises:
        InputError: If the file cannot be read, or its range is not known.
    """
    check_used(problem)
    given = given_range(problem)
    if path.suffix.lower() not in SUFFIXES:
        image = open_image(path, given, allow_missing=not simulate, colours="file")
        return Input(image.x[None], image.picture.kind, image.range, image.notes, image.picture)
    with as_input_error():
        array = read_array_file(path, None, "a file of its own")
    if array.dtype.kind not in "fiub" or not array.size:
        raise InputError(
            f"a measurement must be an array of real numbers, got {array.dtype} {array.shape} in "
            f"{path}"
        )
    if not np.isfinite(array).any():
        raise InputError(f"{path} has no finite values")
    noise = (sigma or 0.0) + 2 / math.sqrt(problem.photons or math.inf)
    described = is_described(problem.problem)
    is_picture = simulate or described or PROBLEMS[problem.problem].picture
    if not is_picture:
        if given is not None:
            raise InputError(
                f"--range does nothing here: a measurement of {problem.problem} has no black and "
                "white"
            )
        if array.dtype.kind != "f":
            raise InputError(
                f"a measurement of {problem.problem} must be floating-point numbers in the units "
                f"of a picture on [-1, 1], got {array.dtype} in {path}"
            )
        chosen = _MEASURED
    else:
        array = _as_picture(array, path, described=described and not simulate)
        if described and not simulate and given is None and array.dtype.kind == "f":
            chosen = _DESCRIBED
        else:
            with as_input_error():
                chosen = array_range(array, str(path), given=given, noise=noise)
    values = torch.from_numpy(np.ascontiguousarray(chosen.to_unit(array)))
    infinite = ~torch.isfinite(values)
    if simulate and bool(infinite.any()):
        raise InputError(f"{path} has {int(infinite.sum())} values that are NaN or infinite")
    values[infinite] = torch.nan
    return Input(values[None], f"array, {array.dtype}", chosen)


def given_range(problem: ProblemOptions) -> GivenRange | None:
    """Read what a user says of black and white.

    Args:
        problem: Options of the problem.

    Returns:
        Black and white, percentiles that are, or "file"; None if nothing was given.

    Raises:
        InputError: If they are not two numbers or percentages in this order.

    Example:
        >>> given_range(ProblemOptions("denoise", range="0,4095"))
        (0.0, 4095.0)
        >>> given_range(ProblemOptions("denoise", range="0.1%,99.9%"))
        Percentiles(low=0.1, high=99.9)
    """
    if problem.range is None or problem.range == "file":
        return None if problem.range is None else "file"
    with as_input_error():
        parts = [part.strip() for part in problem.range.split(",")]
        if all(part.endswith("%") for part in parts):
            bare = ",".join(part.removesuffix("%") for part in parts)
            return Percentiles(*numbers(bare, float, "--range", "LOW%,HIGH%"))
        return check_range(*numbers(problem.range, float, "--range", "LOW,HIGH"))


def _as_picture(array: np.ndarray, path: Path, *, described: bool) -> np.ndarray:
    """(C, H, W) of the usual orders of axes; a described measurement may have any shape."""
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2 and not described:
        return array[None]
    if array.ndim == 3:
        if array.shape[0] not in (1, 3) and array.shape[-1] in (1, 3):
            return np.moveaxis(array, -1, 0)
        if array.shape[0] in (1, 3) or described:
            return array
    if described and array.ndim < 4:
        return array
    raise InputError(
        f"{path} must hold one picture, (H, W), (H, W, 3) or (3, H, W), got shape {array.shape}"
    )
