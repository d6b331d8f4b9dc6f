"""Files of instruments, each by the library of its format, as one kind of record."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from problems.reading.array_source import ArraySource, short_reason
from problems.reading.arrays import SUFFIXES as ARRAY_SUFFIXES
from problems.reading.arrays import map_npy, read_array_file
from problems.reading.dicom import DICOM_SUFFIXES, is_dicom, open_dicom
from problems.reading.fits import FITS_SUFFIXES, open_fits
from problems.reading.hdf5 import HDF5_SUFFIXES, is_hdf5, open_hdf5
from problems.reading.nifti import NIFTI_SUFFIXES, open_nifti
from problems.reading.quiet import quiet_logs
from problems.reading.refusal import RefusalError
from problems.reading.regular import check_regular
from problems.reading.tiff import check_pages, is_tiff
from problems.reading.tiff_stack import is_tiff_stack, open_tiff_stack
from problems.reading.zarr_arrays import is_zarr, open_zarr

__all__ = ["INSTRUMENT_SUFFIXES", "open_source", "read_whole_array", "source_format"]

INSTRUMENT_SUFFIXES = (*FITS_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES, *HDF5_SUFFIXES, ".zarr")
"""Suffixes of the formats of instruments, in lower case."""

_BY_SUFFIX = {
    **dict.fromkeys(FITS_SUFFIXES, "FITS"),
    **dict.fromkeys(DICOM_SUFFIXES, "DICOM"),
    **dict.fromkeys(NIFTI_SUFFIXES, "NIfTI"),
    **dict.fromkeys(HDF5_SUFFIXES, "HDF5"),
    ".zarr": "zarr",
    ".zarr.zip": "zarr",
}


def source_format(path: str | Path) -> str | None:
    """Tell whether a file is one of an instrument.

    Args:
        path: Path of a file, or of a folder of zarr.

    Returns:
        "FITS", "DICOM", "NIfTI", "HDF5", "zarr" or "TIFF" (of several pages); None for pictures,
        arrays of NumPy, and files that do not exist.

    Example:
        >>> source_format("brain.nii.gz"), source_format("photo.png")
        ('NIfTI', None)
    """
    path = Path(path)
    name = path.name.lower()
    for suffix, form in _BY_SUFFIX.items():
        if name.endswith(suffix):
            return form
    try:
        if is_zarr(path):
            return "zarr"
        if path.is_file():
            if path.suffix.lower() == ".mat" and is_hdf5(path):
                return "HDF5"
            if is_dicom(path):
                return "DICOM"
            with quiet_logs():
                if is_tiff(path) and is_tiff_stack(path):
                    return "TIFF"
    except Exception:  # the reader of pictures says what is wrong
        return None
    return None


def open_source(
    path: str | Path, key: str | None = None, option: str = "the argument key"
) -> ArraySource:
    """Open an array in a file, in the values of the file.

    FITS, DICOM, NIfTI, HDF5 (plain, fastMRI, MATLAB 7.3), zarr, TIFF of several pages (OME-TIFF,
    ImageJ), and .npy, which is mapped into memory. The libraries are those of the extra "science".

    Args:
        path: Path of the file, or of a folder of zarr.
        key: Name of the dataset, array or HDU, if there are several.
        option: How the user names it, for the error.

    Returns:
        The array. Nothing but its head has been read.

    Raises:
        ValueError: If the file is missing, damaged, of another format, or holds no such array; or
            if its library is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.eye(3))
        ...     source = open_source(f"{folder}/a.npy")
        ...     source.kind, source.read((slice(0, 1), slice(0, 2))).tolist()
        ('array, float64', [[1.0, 0.0]])
    """
    path = Path(path)
    form = "NumPy" if path.suffix.lower() == ".npy" else source_format(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir() and form != "zarr":
        raise ValueError(f"cannot read {path}: it is a folder; name a file in it")
    check_regular(path)
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise RefusalError("the file is empty (0 bytes); write it again")
        if form in ("DICOM", "NIfTI", "TIFF", "NumPy") and key is not None:
            raise RefusalError(f"it holds one array, but {key!r} is asked for; leave out {option}")
        with quiet_logs():
            return _open(path, form, key, option)
    except RefusalError as refused:
        raise ValueError(f"cannot read {path}: {refused}") from None
    except Exception as error:  # the libraries raise errors of many types on damaged files
        raise ValueError(
            f"cannot read {path}: the file is damaged, or no {form} file ({short_reason(error)}); "
            "write it again"
        ) from None


def read_whole_array(path: Path, key: str | None, option: str) -> np.ndarray | None:
    """Read the array of a file that is no picture, such as a mask or a blur kernel.

    Args:
        path: Path of the file, or of a folder of zarr.
        key: Name of the array, if there are several.
        option: How the user names it, for the error.

    Returns:
        All values; None for a picture, which a TIFF of several pages counts as.

    Raises:
        ValueError: As :func:`open_source` and :func:`problems.reading.arrays.read_array_file`.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return read_array_file(path, key, option)
    if source_format(path) in (None, "TIFF"):
        return None
    return open_source(path, key, option).read()


def _open(path: Path, form: str | None, key: str | None, option: str) -> ArraySource:
    if form == "FITS":
        return open_fits(path, key, option)
    if form == "DICOM":
        return open_dicom(path)
    if form == "NIfTI":
        return open_nifti(path)
    if form == "HDF5":
        return open_hdf5(path, key, option)
    if form == "zarr":
        return open_zarr(path, key, option)
    if form == "TIFF":
        return open_tiff_stack(path)
    if form == "NumPy":
        return _open_npy(path)
    if path.is_file() and is_tiff(path):
        check_pages(path)
    raise RefusalError(f"its format is not one of {', '.join(INSTRUMENT_SUFFIXES)}")


def _open_npy(path: Path) -> ArraySource:
    values = map_npy(path)
    dtype = values.dtype.newbyteorder("=")
    return ArraySource(path, f"array, {dtype}", values.shape, dtype, values.__getitem__)
