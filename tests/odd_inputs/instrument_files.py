"""Small files of instruments, each written by the library of its format."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.odd_inputs.case import Desk

__all__ = [
    "STACK_AXES",
    "WRITERS",
    "counts",
    "write_dicom",
    "write_hdf5",
    "write_zarr",
]

Writer = Callable[[Path, np.ndarray], Path]

STACK_AXES = {
    "fits": "z",
    "fits.gz": "z",
    "nii": "z",
    "nii.gz": "z",
    "dcm": "frame",
    "h5": "0",
    "zarr": "0",
    "zarr.zip": "0",
    "tif": "0",
}
"""The axis of the slices of a volume, by suffix."""


def counts(desk: Desk, *shape: int) -> np.ndarray:
    """Whole numbers from 0 to 4000, both among them, uint16."""
    values = desk.rng.integers(0, 4001, shape)
    values.flat[0], values.flat[-1] = 0, 4000
    return values.astype(np.uint16)


def _write_fits(path: Path, values: np.ndarray) -> Path:
    from astropy.io import fits

    fits.PrimaryHDU(values).writeto(path)
    return path


def _write_nifti(path: Path, values: np.ndarray) -> Path:
    """The axes of NIfTI begin with x."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)  # type: ignore[no-untyped-call]
    return path


def write_dicom(path: Path, stored: np.ndarray, **given: Any) -> Path:
    """Write a secondary capture.

    Args:
        path: Path of the file.
        stored: Values (H, W) or (N, H, W), uint16.
        given: Further attributes by their keywords; None to leave one out.

    Returns:
        The path.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["odd"])
    meta.TransferSyntaxUID = given.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = (
        SecondaryCaptureImageStorage,
        generate_uid(entropy_srcs=["odd"]),
    )
    ds.Modality, (ds.Rows, ds.Columns) = "OT", stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = stored.tobytes()
    for name, value in given.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_hdf5(path: Path, values: np.ndarray) -> Path:
    """Write one dataset named "image"."""
    import h5py

    with h5py.File(path, "w") as file:
        file["image"] = values
    return path


def write_zarr(path: Path, values: np.ndarray, version: int = 3) -> Path:
    """Write one array, a folder or a .zarr.zip."""
    import zarr

    if path.name.endswith(".zip"):
        folder = write_zarr(path.parent / "packed.zarr", values, version)
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)
        shutil.rmtree(folder)
        return path
    array = zarr.create_array(
        str(path), shape=values.shape, dtype=values.dtype, zarr_format=version
    )
    array[...] = values
    return path


def _write_tiff(path: Path, values: np.ndarray) -> Path:
    tifffile.imwrite(path, values, photometric="minisblack")
    return path


WRITERS: dict[str, Writer] = {
    "fits": _write_fits,
    "fits.gz": _write_fits,
    "nii": _write_nifti,
    "nii.gz": _write_nifti,
    "dcm": write_dicom,
    "h5": write_hdf5,
    "zarr": write_zarr,
    "zarr.zip": write_zarr,
    "tif": _write_tiff,
}
"""How a picture (H, W) or volume (N, H, W) is written, by suffix."""
