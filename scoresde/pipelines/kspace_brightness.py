"""How bright the images of a file of k-space are: one number for all of its slices.

Draws of a slice depend on the scale of its k-space. The scale is therefore that of the whole file,
whichever slices are selected: a slice alone is then measured and restored, to the bit, as it is in
its stack. Slices are read one at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from problems import MRI, channels_of, complex_of, root_sum_of_squares
from problems.reading.array_source import ArraySource
from problems.reading.selection import SLICES, Selection, measurements, select
from scoresde.errors import as_input_error

__all__ = ["brightest", "coil_images", "file_brightness"]

_DARK = 0.1  # of the largest sensitivity: pixels below have no part in the brightness


def coil_images(kspace: Tensor) -> Tensor:
    """Compute the image of each coil, with zeros for what was not measured.

    Args:
        kspace: Samples (coils, H, W), complex.

    Returns:
        Images (coils, H, W), complex.
    """
    one = MRI(torch.ones(kspace.shape[-2:]), complex_image=True)
    return complex_of(one.adjoint(channels_of(kspace[:, None])))[:, 0]


def brightest(kspace: Tensor, maps: Tensor | None) -> float:
    """Find the brightest magnitude of an image, from the root of the sum of squares of its coils.

    Args:
        kspace: Samples (coils, H, W), complex, 0 where nothing was measured.
        maps: Sensitivities (coils, H, W), by whose root of the sum of squares the image is divided
            where that is at least a tenth of its largest value; None if it is 1.

    Returns:
        The magnitude, in units of the scanner.

    Example:
        >>> import torch
        >>> brightest(torch.ones(1, 4, 4, dtype=torch.complex64), None)  # a point of 4
        4.0
    """
    picture = root_sum_of_squares(coil_images(kspace))
    if maps is None:
        return float(picture.max())
    shade = root_sum_of_squares(maps)
    seen = shade > _DARK * shade.max()
    return float((picture[seen] / shade[seen]).max()) if bool(seen.any()) else 0.0


def file_brightness(
    source: ArraySource,
    texts: Sequence[str],
    mask: Tensor | None,
    maps_at: Callable[[tuple[int, ...]], Tensor | None],
) -> float:
    """Find the brightest magnitude in all slices of a file.

    Args:
        source: The file.
        texts: What is selected, as ``--select`` has it. Axes of slices are taken whole, and so are
            those of which one place or a range was selected.
        mask: Where samples count (H, W), bool; None for all that are not 0.
        maps_at: Sensitivities (coils, H, W) of a slice by its place in the file; None if their
            root of the sum of squares is 1.

    Returns:
        The magnitude, in units of the scanner; 0 if nothing is measured.

    Raises:
        InputError: If the file is damaged.
    """
    with as_input_error():
        chosen = select(source, texts)
        axes = _slices(source, chosen)
    most = 0.0
    for place in itertools.product(*(range(source.shape[axis]) for axis in axes)):
        block = list(chosen.block)
        for axis, at in zip(axes, place, strict=True):
            block[axis] = slice(at, at + 1)
        with as_input_error():
            one = measurements(source, Selection(tuple(block), frozenset(axes)))
        samples = complex_of(torch.nan_to_num(torch.from_numpy(one.values).float(), 0.0, 0.0, 0.0))
        if mask is not None:
            samples = torch.where(mask, samples, 0)
        most = max(most, brightest(samples[0], maps_at(place)))
    return most


def _slices(source: ArraySource, chosen: Selection) -> tuple[int, ...]:
    """The axes of slices by their names, and those of which a place or a range was selected."""
    named = {axis for axis, name in enumerate(source.axes) if name in SLICES}
    return tuple(sorted(named | chosen.single | chosen.ranges))
