"""Results in the format of the file that was restored, with its header: FITS and NIfTI."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scoresde.files import write_atomically
from scoresde.pipelines.inputs import Input

__all__ = ["in_file_values", "own_format_name", "write_own_format"]

_NAMES = {"FITS": ".fits", "NIfTI": ".nii.gz"}
# they describe the numbers of the old file
_OLD = ("BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM", "EXTNAME")


def own_format_name(given: Input, name: str, size: tuple[int, int]) -> str | None:
    """Name a result in the format of the file.

    Args:
        given: The file that is restored.
        name: Name without a suffix, such as "mean".
        size: Height and width of the result.

    Returns:
        The name, such as "mean.fits"; None where no such file is written: for other formats, for
        measurements that are no pictures, and for results of another size, which the coordinates of
        the header do not describe.
    """
    if given.source is None or given.stack is None or not given.stack.order or size != given.size:
        return None
    suffix = _NAMES.get(given.source.kind.split(",")[0])
    return None if suffix is None else name + suffix


def in_file_values(given: Input, x: Tensor) -> np.ndarray:
    """Convert pictures to the values of the file, float32.

    Args:
        given: The file that is restored.
        x: Values on [-1, 1], any shape.

    Returns:
        The values in the units of the file.
    """
    low, high = given.range.low, given.range.high
    values: np.ndarray = (low + (x.detach().cpu().double() + 1) / 2 * (high - low)).float().numpy()
    return values


def write_own_format(given: Input, x: Tensor, path: Path) -> bool:
    """Write slices with the header of the file, the coordinates moved to what was selected.

    Args:
        given: The file that is restored.
        x: Pictures (N, C, H, W) on [-1, 1].
        path: Path of the file, named by :func:`own_format_name`.

    Returns:
        Whether it was written: pictures with other channels than the file has none.

    Raises:
        InputError: If the file cannot be written.
    """
    assert given.source is not None and given.stack is not None
    values = given.stack.in_file_order(in_file_values(given, x))
    if values is None:
        return False
    frame, starts = given.source.frame, given.stack.starts
    if path.name.endswith(".fits"):
        write_atomically(path, lambda temporary: _write_fits(temporary, values, frame, starts))
    else:
        write_atomically(path, lambda temporary: _write_nifti(temporary, values, frame, starts))
    return True


def _write_fits(path: Path, values: np.ndarray, frame: Any, starts: tuple[int, ...]) -> None:
    from astropy.io import fits

    header = frame.copy()
    for name in _OLD:
        header.remove(name, ignore_missing=True, remove_all=True)
    for number, start in enumerate(reversed(starts), 1):
        if start and f"CRPIX{number}" in header:
            header[f"CRPIX{number}"] -= start
    header["HISTORY"] = "restored by scoresde: posterior mean"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = fits.PrimaryHDU(values, header)
        with path.open("wb") as file:
            image.writeto(file)


def _write_nifti(path: Path, values: np.ndarray, frame: Any, starts: tuple[int, ...]) -> None:
    import gzip

    import nibabel

    affine, header = frame
    shifted = affine.copy()
    shift = np.zeros(3)
    shift[: len(starts[:3])] = starts[:3]
    shifted[:3, 3] += affine[:3, :3] @ shift
    header = header.copy()
    header.set_data_dtype(np.float32)
    kind = (
        nibabel.Nifti2Image if type(header).__name__.startswith("Nifti2") else nibabel.Nifti1Image
    )
    image = kind(values, shifted, header)
    # nibabel forgets which space a moved affine map leads to: the scanner's, or that of an atlas
    for code, move in (("sform_code", image.set_sform), ("qform_code", image.set_qform)):
        if int(header[code]):
            move(shifted, int(header[code]))
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
