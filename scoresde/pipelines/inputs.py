"""The file that is restored: a picture, a measurement in an array file, or a stack of either."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from problems import LinearOperator, Operator
from problems.reading.array_source import ArraySource
from problems.reading.arrays import SUFFIXES, read_array_file
from problems.reading.pictures import Picture
from problems.reading.ranges import (
    GivenRange,
    Percentiles,
    ValueRange,
    array_range,
    check_range,
    source_range,
)
from problems.reading.selection import Stack, measurements, pictures, select
from problems.reading.sources import open_source, source_format
from scoresde.data.images import open_image
from scoresde.errors import InputError, as_input_error
from scoresde.files import read_header
from scoresde.pipelines.named_problems import PROBLEMS, check_used, is_described
from scoresde.pipelines.parsing import numbers
from scoresde.pipelines.settings import ProblemOptions

__all__ = ["Input", "given_range", "on_unit_range", "read_input"]

_KEY = "--array NAME"
_DESCRIBED = ValueRange(-1.0, 1.0, "the units of problem.json")
_MEASURED = ValueRange(-1.0, 1.0, "of a picture on [-1, 1]; --range states others")


def _as_source(array: np.ndarray, path: Path) -> ArraySource:
    return ArraySource(path, f"array, {array.dtype}", array.shape, array.dtype, array.__getitem__)


class LearnedRange(NamedTuple):
    """Black and white of the training data of a prior."""

    low: float
    high: float

    def as_range(self) -> ValueRange:
        """The range, with where it comes from."""
        return ValueRange(self.low, self.high, "of the training data of the prior", True)


@dataclass(frozen=True)
class Input:
    """What was read from a file, and how.

    Args:
        x: The pictures or measurements (N, C, ...), float32, on [-1, 1] where they are pictures.
            N is 1 except of a stack. Entries that the file marks as NaN are NaN.
        kind: Format and type in words.
        range: The values of black and white in the file.
        notes: What a reader should know, a sentence each.
        file: What the file holds beside the values; None for an array.
        source: The file of an instrument; None for a picture or an array.
        stack: The axes of the slices; None without a source.
        of_picture: Whether `range` is that of the picture behind a measurement which is none
            itself, in whose units x still is, see :func:`on_unit_range`.
    """

    x: Tensor
    kind: str
    range: ValueRange
    notes: tuple[str, ...] = ()
    file: Picture | None = None
    source: ArraySource | None = None
    stack: Stack | None = None
    of_picture: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """The last two sides."""
        return self.x.shape[-2], self.x.shape[-1]

    @property
    def is_stack(self) -> bool:
        """Whether there is an axis of slices, even of a single one."""
        return self.stack is not None and bool(self.stack.names)

    @property
    def has_range(self) -> bool:
        """Whether the file has values of black and white."""
        return self.range not in (_MEASURED, _DESCRIBED)

    @property
    def units(self) -> str | None:
        """Unit of the values of the file, such as "HU", if it is known."""
        return None if self.source is None else self.source.units

    def slice_seed(self, index: int, seed: int) -> int:
        """Derive the seed of a slice from its place in the file.

        It does not depend on what else was selected: a slice that is restored alone is the same.

        Args:
            index: Number of the slice, from 0.
            seed: Seed of the run.

        Returns:
            The seed; that of the run where the file has no axis of slices.
        """
        place = () if self.stack is None else self.stack.places[index]
        if not place:
            return seed
        return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)

    def report(self) -> dict[str, object]:
        """Describe in plain values how the file was read."""
        report: dict[str, object] = {
            "kind": self.kind,
            "shape": list(self.x.shape[1:]),
            "range": [self.range.low, self.range.high],
            "range_rule": self.range.rule,
            "notes": list(self.notes),
        }
        if self.source is not None:
            report |= {
                "units": self.units,
                "axes": list(self.source.axes),
                "facts": self.source.facts,
            }
        return report


def read_input(
    path: Path,
    problem: ProblemOptions,
    *,
    simulate: bool,
    sigma: float | None = None,
    learned: str | None = None,
) -> Input:
    """Read a picture, a measurement in an array file, or a part of the file of an instrument.

    Args:
        path: A picture; or an array (C, H, W), (H, W), (H, W, C) or of another shape where the
            measurement is no picture, as .npy, or alone in a .npz or .mat file; or a file that
            :func:`problems.reading.sources.open_source` opens.
        problem: How it was measured, the range of its values if given, and what is selected.
        simulate: Whether it is the truth and is measured afterwards.
        sigma: Noise level on [-1, 1], by which measurements lie outside of the range of pictures.
        learned: Path of the prior. If it was trained on numbers of the same unit, not bytes, and no
            range is given, its range counts.

    Returns:
        The values on [-1, 1], and how they were found.

    Raises:
        InputError: If the file cannot be read, or its range is not known.
    """
    check_used(problem)
    given = given_range(problem)
    source = _source(path, problem)
    if source is not None and given is None:
        given = _learned_range(source, learned)
    if source is None:
        if path.suffix.lower() not in SUFFIXES:
            for name in ("array", "select"):
                if getattr(problem, name):
                    raise InputError(f"--{name} is for stacks and arrays; {path} is one picture")
            image = open_image(path, given, allow_missing=not simulate, colours="file")
            return Input(image.x[None], image.picture.kind, image.range, image.notes, image.picture)
        with as_input_error():
            array = read_array_file(path, problem.array, _KEY)
        if array.dtype.kind != "c" and not problem.select:
            given = given or _learned_range(_as_source(array, path), learned)
            return _of_array(array, path, problem, given, simulate=simulate, sigma=sigma)
        source = _as_source(array, path)
        given = given or _learned_range(source, learned)
    return _of_source(source, problem, given, simulate=simulate, sigma=sigma)


def _learned_range(source: ArraySource, prior: str | None) -> LearnedRange | None:
    """The range that a prior remembers of its training data."""
    if prior is None or source.dtype in (np.bool_, np.uint8) or not prior.endswith(".safetensors"):
        return None
    if not Path(prior).is_file():
        return None
    data = (read_header(prior).get("card") or {}).get("data") or {}
    ends = [set(data.get(name) or ()) for name in ("low", "high")]
    if any(len(one) != 1 for one in ends) or data.get("units") != source.units:
        return None
    with as_input_error():
        return LearnedRange(*check_range(*(float(one.pop()) for one in ends)))


def _source(path: Path, problem: ProblemOptions) -> ArraySource | None:
    """The file of an instrument, or an array of which a part is selected."""
    if source_format(path) is None and not (problem.select and path.suffix.lower() == ".npy"):
        return None
    with as_input_error():
        return open_source(path, problem.array, _KEY)


def _of_array(
    array: np.ndarray,
    path: Path,
    problem: ProblemOptions,
    given: GivenRange | None,
    *,
    simulate: bool,
    sigma: float | None,
) -> Input:
    """A whole array of real numbers."""
    if array.dtype.kind not in "fiub" or not array.size:
        raise InputError(
            f"a measurement must be an array of real numbers, got {array.dtype} {array.shape} in "
            f"{path}"
        )
    if not np.isfinite(array).any():
        raise InputError(f"{path} has no finite values")
    noise = (sigma or 0.0) + 2 / math.sqrt(problem.stated_photons or math.inf)
    described = is_described(problem.problem)
    if not _is_picture(problem, simulate=simulate):
        given = None if isinstance(given, LearnedRange) else given
        chosen = _measured_range(array.dtype, path, problem, given)
    else:
        array = _as_picture(array, path, described=described and not simulate)
        if described and not simulate and given is None and array.dtype.kind == "f":
            chosen = _DESCRIBED
        elif isinstance(given, LearnedRange):
            chosen = given.as_range()
        else:
            with as_input_error():
                chosen = array_range(array, str(path), given=given, noise=noise)
    picture = _is_picture(problem, simulate=simulate)
    values = _in_units(array, chosen if picture else _MEASURED, path, simulate=simulate)
    of_picture = not picture and chosen != _MEASURED
    return Input(values[None], f"array, {array.dtype}", chosen, of_picture=of_picture)


def _of_source(
    source: ArraySource,
    problem: ProblemOptions,
    given: GivenRange | None,
    *,
    simulate: bool,
    sigma: float | None,
) -> Input:
    """A part of the file of an instrument, as one picture or measurement, or a stack of them."""
    picture = _is_picture(problem, simulate=simulate)
    if isinstance(given, LearnedRange) and not picture:
        given = None
    with as_input_error():
        chosen = select(source, problem.select)
        stack = (pictures if picture else measurements)(source, chosen)
    path, noise = source.path, (sigma or 0.0) + 2 / math.sqrt(problem.stated_photons or math.inf)
    if not np.isfinite(stack.values).any():
        raise InputError(f"{path} has no finite values in what is selected")
    if not picture:
        range_ = _measured_range(stack.values.dtype, path, problem, given)
    elif is_described(problem.problem) and not simulate and given is None:
        range_ = _DESCRIBED
    elif isinstance(given, LearnedRange):
        range_ = given.as_range()
    else:
        with as_input_error():
            range_ = source_range(source, stack.values, given, noise)
    values = _in_units(stack.values, range_ if picture else _MEASURED, path, simulate=simulate)
    file = _as_file(source, stack.values[0]) if picture else None
    of_picture = not picture and range_ != _MEASURED
    return Input(values, source.kind, range_, source.notes, file, source, stack, of_picture)


def _as_file(source: ArraySource, values: np.ndarray) -> Picture | None:
    """A picture (C, H, W) of a file as the writers of pictures know it."""
    if len(values) not in (1, 3):
        return None
    pixels = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    return Picture(pixels, source.kind, full_scale=source.full_scale)


def _is_picture(problem: ProblemOptions, *, simulate: bool) -> bool:
    described = is_described(problem.problem)
    return simulate or described or PROBLEMS[problem.problem].picture


def _measured_range(
    dtype: np.dtype, path: Path, problem: ProblemOptions, given: GivenRange | None
) -> ValueRange:
    """The black and white of the picture behind a measurement that has none itself."""
    if given is not None and not isinstance(given, tuple):
        raise InputError(
            f"a measurement of {problem.problem} has no black and white; --range LOW,HIGH says "
            "which values they have in the picture"
        )
    if dtype.kind != "f":
        raise InputError(
            f"a measurement of {problem.problem} must be floating-point numbers, got {dtype} in "
            f"{path}"
        )
    if given is None:
        return _MEASURED
    with as_input_error():
        low, high = check_range(*given)
    return ValueRange(low, high, "of the picture, as --range says", True)


def on_unit_range(operator: Operator, y: Tensor, range_: ValueRange) -> Tensor:
    """Convert a measurement of a picture to that of the same picture on [-1, 1].

    A linear A gives A x = (high - low) / 2 A u + (high + low) / 2 A 1 for the picture x and the one
    u on [-1, 1]. Noise is scaled by 2 / (high - low) with it.

    Args:
        operator: The operator of the measurement.
        y: The measurement (N, ...) in units of the picture.
        range_: Black and white of the picture.

    Returns:
        The measurement of u, of the shape of y.

    Raises:
        InputError: If the operator is not linear, or does not fit the measurement.

    Example:
        >>> import torch
        >>> from problems import Denoising
        >>> y = torch.tensor([[[[0.0, 1000.0]]]])
        >>> on_unit_range(Denoising(), y, ValueRange(0.0, 1000.0, "HU"))
        tensor([[[[-1.,  1.]]]])
    """
    if not isinstance(operator, LinearOperator):
        raise InputError(
            f"--range does nothing here: a measurement by {type(operator).__name__} has no units"
        )
    with as_input_error():
        white = torch.ones(1, *operator.input_shape(tuple(y.shape[1:])), dtype=y.dtype)
    half, middle = (range_.high - range_.low) / 2, (range_.high + range_.low) / 2
    return (y - middle * operator.apply(white)) / half


def _in_units(array: np.ndarray, chosen: ValueRange, path: Path, *, simulate: bool) -> Tensor:
    """Values on [-1, 1], NaN where they are no numbers."""
    with np.errstate(all="ignore"):  # what is beyond float32 is infinite, and counted below
        mapped = np.asarray(array, np.float32) if chosen is _MEASURED else chosen.to_unit(array)
    values = torch.from_numpy(np.ascontiguousarray(mapped))
    infinite = ~torch.isfinite(values)
    if simulate and bool(infinite.any()):
        raise InputError(f"{path} has {int(infinite.sum())} values that are NaN or infinite")
    values[infinite] = torch.nan
    return values


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
