"""Which part of an array is restored, and which of its axes are a picture."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from problems.reading.array_source import ArraySource

__all__ = [
    "SLICES",
    "Layout",
    "Selection",
    "Stack",
    "complex_parts",
    "layout",
    "measurements",
    "pictures",
    "select",
]

_FORM = re.compile(r"\s*([^=\s]+)\s*=\s*(-?\d+)?\s*(:?)\s*(-?\d+)?\s*")
_PLANE = ("x", "y", "z")
_CHANNELS = ("sample", "channel", "rgb")
SLICES = ("slice", "z", "t", "frame", "page", "c")
"""Names of axes along which measurements are a stack."""


@dataclass(frozen=True)
class Selection:
    """A block of an array.

    Args:
        block: A slice for each axis.
        single: Axes of which one place was chosen.
        ranges: Axes of which a range was chosen.
    """

    block: tuple[slice, ...]
    single: frozenset[int] = frozenset()
    ranges: frozenset[int] = frozenset()

    @property
    def lengths(self) -> list[int]:
        """Length of each axis of the block."""
        return [one.stop - one.start for one in self.block]

    @property
    def starts(self) -> tuple[int, ...]:
        """Place in the file where each axis begins."""
        return tuple(int(one.start) for one in self.block)


@dataclass(frozen=True)
class Layout:
    """What the axes of an array are.

    Args:
        slices: Axes of the slices.
        channel: Axis of the channels; None if there is none.
        plane: Axes of rows and columns.
    """

    slices: tuple[int, ...]
    channel: int | None
    plane: tuple[int, int]


@dataclass(frozen=True)
class Stack:
    """Slices of an array.

    Args:
        values: Values (N, C, H, W) of pictures, (N, ...) of measurements; the N slices in the order
            of the file.
        names: Names of the axes of the slices, from the file or their numbers; empty for one
            picture without such axes.
        shape: Lengths of these axes, of product N.
        places: Place of each slice in the file, N tuples: along these axes and those of which one
            place was selected, in the order of the file.
        order: For each axis of ``(*shape, C, H, W)`` the axis of the file; None for channels that
            the file has no axis for, or that were made of complex numbers. Empty for measurements.
        starts: Place in the file where each of its axes begins.
        firsts: Place in the file where each axis of the slices begins, by its name.
    """

    values: np.ndarray
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    places: tuple[tuple[int, ...], ...] = ((),)
    order: tuple[int | None, ...] = ()
    starts: tuple[int, ...] = ()
    firsts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def in_file_order(self, results: np.ndarray) -> np.ndarray | None:
        """Order results as the file orders its axes; those of one place have the length 1.

        Args:
            results: Values (N, C, H, W).

        Returns:
            Values with the axes of the file; None if the channels do not fit them.
        """
        full = results.reshape(*self.shape, *results.shape[1:])
        axes = list(self.order)
        if None in axes:
            channel = axes.index(None)
            if full.shape[channel] != 1:
                return None
            full = full.squeeze(channel)
            del axes[channel]
        there = [one for one in axes if one is not None]
        for axis in range(len(self.starts)):
            if axis not in there:
                full, there = full[..., None], [*there, axis]
        return np.ascontiguousarray(full.transpose(np.argsort(there)))


def select(source: ArraySource, texts: Sequence[str], option: str = "--select") -> Selection:
    """Understand what a user selects.

    Args:
        source: The array.
        texts: Each "AXIS=PLACE" or "AXIS=FIRST:END", without the end; AXIS is a name of the file,
            or a number from 0. Negative places count from the end, as in Python.
        option: Name of the option, for errors.

    Returns:
        The block.

    Raises:
        ValueError: If an axis is unknown, or a place outside of it.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> a = np.zeros((30, 8, 9))
        >>> source = ArraySource(Path("a"), "x", a.shape, a.dtype, a.__getitem__, ("z", "y", "x"))
        >>> select(source, ["z=10:20", "0=10:20"][:1]).block[0]
        slice(10, 20, None)
    """
    block = [slice(0, n) for n in source.shape]
    single, ranges = set[int](), set[int]()
    for text in texts:
        found = _FORM.fullmatch(text)
        if found is None or not any(found.groups()[1:]):
            raise ValueError(f"{option} takes AXIS=PLACE or AXIS=FIRST:END, got {text!r}")
        name, first, colon, end = found.groups()
        axis = _axis(source, name, option)
        if axis in single | ranges:
            raise ValueError(f"{option} names the axis {name} twice; name it once")
        length = source.shape[axis]
        start = int(first) if first else 0
        stop = int(end) if end else length
        start, stop = (n + length if n < 0 else n for n in (start, stop))
        stop = stop if colon else start + 1
        if not 0 <= start < stop <= length or (not colon and end):
            raise ValueError(
                f"{option} {text}: axis {name} of {source.path} has the places 0 to {length - 1}; "
                "choose among them"
            )
        block[axis] = slice(start, stop)
        (ranges if colon else single).add(axis)
    return Selection(tuple(block), frozenset(single), frozenset(ranges))


def _axis(source: ArraySource, name: str, option: str) -> int:
    if name.lower() in source.axes:
        return source.axes.index(name.lower())
    if name.isdigit() and int(name) < len(source.shape):
        return int(name)
    numbers = f"0 to {len(source.shape) - 1}"
    known = f"{', '.join(source.axes)}, or {numbers}" if source.axes else numbers
    raise ValueError(f"{option}: {source.path} has no axis {name!r}; its axes are {known}")


def _name(source: ArraySource, axis: int) -> str:
    return source.axes[axis] if source.axes else str(axis)


def layout(source: ArraySource, selection: Selection, *, ask: bool = True) -> Layout:
    """Decide which axes of a block are those of a picture.

    Of the named axes, x and y are the sides of a picture, or the two that are left of x, y and z if
    one place of the other was selected; without names the last two are. Samples, channels, and
    without names an axis of length 1 or 3 beside the picture, are its colours. All other axes are
    those of the slices. Axes of length 1 do not count, unless they are sides or were selected as a
    range.

    Args:
        source: The array.
        selection: The block.
        ask: Whether slices along axes without names must have been selected.

    Returns:
        The axes.

    Raises:
        ValueError: If they are not those of pictures.
    """
    lengths = selection.lengths
    left = [
        axis
        for axis in range(len(lengths))
        if axis not in selection.single
        and (lengths[axis] > 1 or axis in selection.ranges or _is_side(source, axis))
    ]
    plane = _plane(source, left)
    if plane is None:
        left = [axis for axis in range(len(lengths)) if axis not in selection.single]
        plane = _plane(source, left)
    if plane is None:
        raise _no_picture(source, "has no two axes for rows and columns")
    rest = [axis for axis in left if axis not in plane]
    channel = _channel(source, rest, lengths, selection)
    slices = tuple(axis for axis in rest if axis != channel)
    unasked = [axis for axis in slices if axis not in selection.ranges]
    if ask and unasked and not source.axes:
        raise _no_picture(
            source,
            f"may be a stack of pictures; say so with --select {unasked[0]}=: for all of axis "
            f"{unasked[0]}, or --select {unasked[0]}=0 for one",
        )
    return Layout(slices, channel, plane)


def pictures(source: ArraySource, selection: Selection) -> Stack:
    """Read a block as pictures, by the axes of :func:`layout`.

    Complex numbers become two channels, real and imaginary part.

    Args:
        source: The array.
        selection: The block.

    Returns:
        The pictures.

    Raises:
        ValueError: If the axes are not those of pictures, or the file is damaged.
    """
    lengths, found = selection.lengths, layout(source, selection)
    slices, channel, plane = found.slices, found.channel, found.plane
    values = source.read(selection.block)
    order: list[int | None] = [*slices, channel, *plane]
    kept = [axis for axis in order if axis is not None]
    dropped = tuple(axis for axis in range(len(lengths)) if axis not in kept)
    values = values.transpose(*kept, *dropped).reshape([lengths[axis] for axis in kept])
    if channel is None:
        values = values[..., None, :, :]
    if values.dtype.kind == "c":
        values, order = complex_parts(values, len(slices)), [*slices, None, *plane]
        if channel is not None:
            order = []  # no axis of the file has these channels
    shape = tuple(lengths[axis] for axis in slices)
    return Stack(
        np.ascontiguousarray(values.reshape(-1, *values.shape[len(shape) :])),
        tuple(_name(source, axis) for axis in slices),
        shape,
        _places(selection, slices),
        tuple(order),
        selection.starts,
        _firsts(source, selection, slices),
    )


def measurements(source: ArraySource, selection: Selection) -> Stack:
    """Read a block as measurements that are no pictures.

    Axes of which a range was selected, and axes of slices by their name, are those of the slices;
    the others are the measurement (C, ...). Complex numbers become channels, real and imaginary
    part after one another; of a single complex array (H, W) these are the two channels.

    Args:
        source: The array.
        selection: The block.

    Returns:
        The measurements.

    Raises:
        ValueError: If the file is damaged.
    """
    lengths = selection.lengths
    left = [axis for axis in range(len(lengths)) if axis not in selection.single]
    slices = [
        axis
        for axis in left
        if axis in selection.ranges or (source.axes and source.axes[axis] in SLICES)
    ]
    rest = [axis for axis in left if axis not in slices]
    values = source.read(selection.block)
    values = values.transpose(*slices, *rest, *sorted(selection.single))
    values = values.reshape([lengths[axis] for axis in (*slices, *rest)])
    if values.dtype.kind == "c":
        if len(rest) < 3:
            values = np.expand_dims(values, len(slices))
        values = complex_parts(values, len(slices))
    shape = tuple(lengths[axis] for axis in slices)
    return Stack(
        np.ascontiguousarray(values.reshape(-1, *values.shape[len(shape) :])),
        tuple(_name(source, axis) for axis in slices),
        shape,
        _places(selection, slices),
        firsts=_firsts(source, selection, slices),
    )


def _firsts(source: ArraySource, selection: Selection, slices: Sequence[int]) -> dict[str, int]:
    return {_name(source, axis): int(selection.block[axis].start) for axis in slices}


def complex_parts(values: np.ndarray, axis: int) -> np.ndarray:
    """Split channels of complex numbers into twice as many of real ones.

    Args:
        values: Complex numbers.
        axis: Axis of the channels.

    Returns:
        Real part, imaginary part, real part, ... along the axis.
    """
    parts = np.stack([values.real, values.imag], axis + 1)
    return parts.reshape(*values.shape[:axis], -1, *values.shape[axis + 1 :])


def _places(selection: Selection, slices: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    axes = sorted({*slices, *selection.single})
    ranges = [range(selection.block[axis].start, selection.block[axis].stop) for axis in axes]
    return tuple(itertools.product(*ranges))


def _is_side(source: ArraySource, axis: int) -> bool:
    return bool(source.axes) and source.axes[axis] in ("x", "y")


def _plane(source: ArraySource, left: Sequence[int]) -> tuple[int, int] | None:
    """The axes of rows and columns, in the order of the file."""
    sides = [axis for axis in left if source.axes and source.axes[axis] in ("x", "y")]
    if len(sides) < 2:
        sides = [axis for axis in left if source.axes and source.axes[axis] in _PLANE]
    if len(sides) < 2:
        sides = [a for a in left if not (source.axes and source.axes[a] in _CHANNELS)]
        channels_last = (
            not source.axes
            and len(sides) >= 3
            and source.shape[sides[-1]] in (1, 3)
            and source.shape[sides[-3]] not in (1, 3)
        )
        sides = sides[-3:-1] if channels_last else sides[-2:]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _channel(
    source: ArraySource, rest: Sequence[int], lengths: Sequence[int], selection: Selection
) -> int | None:
    """The axis of the colours."""
    for axis in rest:
        if axis in selection.ranges:
            continue
        if source.axes and source.axes[axis] in _CHANNELS and lengths[axis] in (1, 2, 3, 4):
            return axis
        if not source.axes and lengths[axis] in (1, 3) and axis in (rest[-1], len(lengths) - 1):
            return axis
    return None


def _no_picture(source: ArraySource, why: str) -> ValueError:
    return ValueError(
        f"{source.path} ({source.summary}) {why}; a picture is (H, W), (H, W, 3) or (3, H, W)"
    )
