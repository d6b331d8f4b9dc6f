"""Arrays of HDF5 files by h5py: plain ones, those of fastMRI, and MATLAB 7.3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from problems.reading.array_source import (
    ArraySource,
    closed_with,
    closing_on_error,
    library,
    numbers_only,
    short_reason,
)
from problems.reading.refusal import RefusalError

__all__ = ["HDF5_SUFFIXES", "is_hdf5", "open_hdf5", "read_dataset"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
"""Suffixes of HDF5 files, in lower case."""

_FASTMRI = "kspace"
_FASTMRI_AXES = {3: ("slice", "y", "x"), 4: ("slice", "coil", "y", "x")}
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5: its signature is at 0, or after the 512 bytes of MATLAB."""
    with path.open("rb") as file:
        start = file.read(520)
    return start.startswith(_SIGNATURE) or start[512:] == _SIGNATURE


def open_hdf5(path: Path, key: str | None = None, option: str = "--array NAME") -> ArraySource:
    """Open an array of an HDF5 file.

    Args:
        path: Path of the file.
        key: Path of the dataset in the file; None for the only one of numbers with two axes or
            more, or "kspace".
        option: How the user names a dataset, for the error.

    Returns:
        The array. The axes of MATLAB's arrays are in MATLAB's order, which HDF5 stores backwards.
        The label of each dimension is its name; those of fastMRI's k-space are known.

    Raises:
        RefusalError: If h5py is missing, or the file has no such array. h5py raises errors of many
            types on damaged files.
    """
    h5py = library("h5py", "HDF5")
    file = h5py.File(path, "r")
    with closing_on_error(file):
        return closed_with(_source(path, _choose(h5py, file, key, option)), file)


def read_dataset(path: Path, name: str) -> np.ndarray | None:
    """Read one dataset beside the array that is restored, such as the mask of fastMRI.

    Args:
        path: Path of the file.
        name: Path of the dataset in the file.

    Returns:
        Its values; None if the file itself holds no such dataset of numbers.

    Raises:
        ValueError: If h5py is missing, or the file is damaged.
    """
    try:
        h5py = library("h5py", "HDF5")
        with h5py.File(path, "r") as file:
            # a link may lead to other files
            if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
                return None
            data = file[name]
            if not isinstance(data, h5py.Dataset) or not data.shape or not _numeric(data):
                return None
            return _source(path, data).read()
    except RefusalError as refused:
        raise ValueError(f"cannot read {path}: {refused}") from None
    except Exception as error:  # h5py raises errors of many types on damaged files
        reason = short_reason(error)
        raise ValueError(f"cannot read {path}: the file is damaged ({reason})") from None


def _source(path: Path, data: Any) -> ArraySource:
    if data.external or data.is_virtual:  # a file that one is sent must not read others
        raise RefusalError(
            f"the numbers of {data.name} lie in other files; copy them into one, as by h5repack"
        )
    matlab = "MATLAB_class" in data.attrs
    stored = data.dtype
    complex_pair = stored.names == ("real", "imag")  # MATLAB's; h5py's own is (r, i)
    dtype = np.result_type(stored["real"], np.complex64) if complex_pair else stored
    shape = tuple(reversed(data.shape)) if matlab else tuple(data.shape)
    numbers_only(dtype, shape)
    labels = tuple(str(one.label) for one in data.dims)
    axes: tuple[str, ...] = labels if all(labels) and len(set(labels)) == len(labels) else ()
    if matlab:
        axes = ()
    elif not axes and data.name == f"/{_FASTMRI}":
        axes = _FASTMRI_AXES.get(len(shape), ())
    unit = data.attrs.get("units", data.attrs.get("unit"))
    return ArraySource(
        path,
        f"{'MATLAB 7.3' if matlab else 'HDF5'}, {dtype}",
        shape,
        dtype.newbyteorder("="),
        _loader(data, matlab=matlab, pair=complex_pair, dtype=dtype),
        axes,
        unit if isinstance(unit, str) and unit else None,
        facts={"dataset": str(data.name)},
    )


def _loader(
    data: Any, *, matlab: bool, pair: bool, dtype: np.dtype
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    def load(block: tuple[slice, ...]) -> np.ndarray:
        values = np.asarray(data[tuple(reversed(block)) if matlab else block])
        if pair:
            values = (values["real"] + 1j * values["imag"]).astype(dtype)
        return values.transpose() if matlab else values

    return load


def _choose(h5py: Any, file: Any, key: str | None, option: str) -> Any:
    """The dataset of a name, or the only one of numbers."""
    found: dict[str, Any] = {}

    def visit(name: str, one: Any) -> None:
        # what begins with # is MATLAB's own; text and cells have a class that says so
        if isinstance(one, h5py.Dataset) and not name.startswith("#"):
            found[name] = one

    file.visititems(visit)
    listed = ", ".join(f"{name} {one.shape}" for name, one in found.items()) or "nothing"
    if key is not None:
        if key.strip("/") not in found:
            raise RefusalError(f"it has no dataset {key!r}; it holds {listed}")
        return found[key.strip("/")]
    if _FASTMRI in found:
        return found[_FASTMRI]
    sound = [one for one in found.values() if len(one.shape or ()) >= 2 and _numeric(one)]
    if len(sound) > 1:
        raise RefusalError(f"it holds several arrays, {listed}; name one with {option}")
    if not sound:
        raise RefusalError(f"it holds no array of numbers with two axes; it holds {listed}")
    return sound[0]


def _numeric(data: Any) -> bool:
    kind = data.attrs.get("MATLAB_class", b"")
    if kind in (b"char", b"cell", b"struct"):
        return False
    return data.dtype.kind in "biufc" or data.dtype.names == ("real", "imag")
