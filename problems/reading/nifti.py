"""NIfTI volumes by nibabel, in the orientation of nibabel: axes as stored, no turning.

The axes of the array are those of the file, x, y, z and t, with x first. Which of them points to
the left, to the front or upwards is in the affine matrix alone, which the results carry. A slice of
z has x along the axis of rows and y along that of columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from problems.reading.array_source import ArraySource, library, numbers_only
from problems.reading.refusal import RefusalError

__all__ = ["NIFTI_SUFFIXES", "open_nifti"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
"""Suffixes of NIfTI files, in lower case."""

_NAMES = ("x", "y", "z", "t", "channel", "axis6", "axis7")


def open_nifti(path: Path) -> ArraySource:
    """Open the volume of a NIfTI file.

    Args:
        path: Path of the file.

    Returns:
        The volume, with its slope and intercept applied; `frame` is the affine matrix and the
        header.

    Raises:
        RefusalError: If nibabel is missing, or the voxels are no numbers. Nibabel raises errors of
            many types on damaged files.
    """
    nibabel = library("nibabel", "NIfTI")
    image = nibabel.load(path)
    shape = tuple(int(n) for n in image.shape)
    header: Any = image.header
    stored = header.get_data_dtype()
    numbers_only(stored, shape)
    if len(shape) < 2:
        raise RefusalError(f"it holds an array of the shape {shape}; two axes or more are needed")
    slope, intercept = header.get_slope_inter()
    plain = (slope, intercept) in ((None, None), (1.0, 0.0))
    dtype = stored.newbyteorder("=") if plain else np.dtype(np.float64)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return ArraySource(
        path,
        f"NIfTI, {stored}",
        shape,
        dtype,
        lambda block: np.asarray(image.dataobj[block]),
        _NAMES[: len(shape)],
        window=(low, high) if low < high else None,
        facts={
            "orientation": "".join(str(one) for one in nibabel.aff2axcodes(image.affine)),
            "voxel": [float(one) for one in header.get_zooms()],
            "voxel_units": list(header.get_xyzt_units()),
        },
        frame=(np.array(image.affine), header.copy()),
    )
