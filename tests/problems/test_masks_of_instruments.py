"""Masks in the files of instruments, each written by its own library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from problems import read_kernel, read_mask
from scoresde.pipelines.posterior_file import read_posterior
from tests.commands import run

OBSERVED = np.ones((12, 16), np.uint8)
OBSERVED[2:7, 3:11] = 0


def zarr_array(path: Path, values: np.ndarray) -> None:
    import zarr

    store = zarr.create_array(
        str(path), shape=values.shape, chunks=values.shape, dtype=values.dtype
    )
    store[...] = values


def zipped(path: Path, values: np.ndarray) -> None:
    import zarr

    store = zarr.storage.ZipStore(path, mode="w")
    made = zarr.create_array(store, shape=values.shape, chunks=values.shape, dtype=values.dtype)
    made[...] = values
    store.close()


def fits(path: Path, values: np.ndarray) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(values).writeto(path)


def hdf5(path: Path, values: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["seen"] = values


def nifti(path: Path, values: np.ndarray) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values.T[..., None], np.eye(4)), path)


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "m.zarr": zarr_array,
    "m.zarr.zip": zipped,
    "m.fits": fits,
    "m.h5": hdf5,
    "m.nii.gz": nifti,
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_is_observed(tmp_path: Path, name: str) -> None:
    """As the same file is read as a picture, so that both have the same rows and columns."""
    from problems.reading.selection import pictures, select
    from problems.reading.sources import open_source

    path = tmp_path / name
    WRITERS[name](path, OBSERVED)
    source = open_source(path)
    seen = pictures(source, select(source, ())).values[0, 0] == 1
    assert seen.shape in (OBSERVED.shape, OBSERVED.T.shape) and (~seen).sum() == 40
    mask = read_mask(path, seen.shape)
    assert np.array_equal(mask.numpy(), seen)
    assert np.array_equal(read_mask(path, white="observed").numpy(), seen)
    assert np.array_equal(read_mask(path, invert=True).numpy(), ~seen)
    assert np.array_equal(read_mask(path, value=1).numpy(), ~seen)


@pytest.mark.parametrize("dtype", [bool, "int16", "float32"])
@pytest.mark.parametrize("shape", [(1, 12, 16), (12, 16, 1), (1, 1, 12, 16)])
def test_zarr_of_any_type(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    zarr_array(tmp_path / "m.zarr", OBSERVED.astype(dtype).reshape(shape))
    assert np.array_equal(read_mask(tmp_path / "m.zarr").numpy(), OBSERVED.astype(bool))


def test_one_of_several(tmp_path: Path) -> None:
    import zarr

    group = zarr.create_group(str(tmp_path / "m.zarr"))
    for name, values in (("seen", OBSERVED), ("other", 1 - OBSERVED)):
        group.create_array(name, data=values)
    assert np.array_equal(read_mask(tmp_path / "m.zarr", key="seen").numpy(), OBSERVED == 1)
    with pytest.raises(ValueError, match=r"several arrays, .*name one with .*--key NAME"):
        read_mask(tmp_path / "m.zarr")


@pytest.mark.parametrize("shape", [(1, 16), (16,), (12, 1), (1, 1, 16, 1)])
def test_a_line_of_k_space(tmp_path: Path, shape: tuple[int, ...]) -> None:
    line = np.arange(max(shape)) % 3 == 0
    zarr_array(tmp_path / "m.zarr", line.reshape(shape))
    expected = np.broadcast_to(line[:, None] if shape == (12, 1) else line, (12, 16))
    found = read_mask(tmp_path / "m.zarr", (12, 16), white="observed")
    assert np.array_equal(found.numpy(), expected)


def test_refused(tmp_path: Path) -> None:
    zarr_array(tmp_path / "m.zarr", np.stack([OBSERVED, OBSERVED]))
    with pytest.raises(ValueError, match=r"must have two axes, got shape \(2, 12, 16\)"):
        read_mask(tmp_path / "m.zarr")
    with pytest.raises(ValueError, match="there is no file"):
        read_mask(tmp_path / "missing.zarr")
    zarr_array(tmp_path / "n.zarr", OBSERVED)
    with pytest.raises(ValueError, match="is 16x12, the image is 12x16"):
        read_mask(tmp_path / "n.zarr", (16, 12))


@pytest.mark.slow
def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same numbers by a mask in zarr and in NumPy's format."""
    picture = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    zarr_array(tmp_path / "m.zarr", OBSERVED)
    np.save(tmp_path / "m.npy", OBSERVED)
    found = []
    for name in ("m.zarr", "m.npy"):
        out = tmp_path / f"{name} out"
        more = ("--solver", "diffpir", "--steps", 1, "--samples", 1, "--device", "cpu")
        problem = ("--problem", "inpaint", "--mask", tmp_path / name)
        status, _, err = run(capsys, "restore", tmp_path / "a.png", *problem, *more, "--out", out)
        assert status == 0, err
        found.append(read_posterior(out / "posterior.npz")[0]["draws"])
    assert np.array_equal(*found)


def test_a_kernel_of_a_telescope(tmp_path: Path) -> None:
    kernel = np.outer([1.0, 2.0, 1.0], [1.0, 4.0, 1.0])
    fits(tmp_path / "k.fits", kernel)
    assert np.allclose(read_kernel(tmp_path / "k.fits").numpy(), kernel / kernel.sum())
