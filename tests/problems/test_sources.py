"""Files of instruments, each written by the library of its format, read back with their values."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from problems.reading.arrays import read_array_file
from problems.reading.dicom import is_dicom
from problems.reading.pictures import read_picture
from problems.reading.selection import measurements, pictures, select
from problems.reading.sources import open_source, source_format
from problems.reading.tiff_stack import open_tiff_stack

RNG = np.random.default_rng(0)
VOLUME = RNG.normal(100, 30, (4, 5, 6)).astype(np.float32)  # z, y, x
COUNTS = np.arange(120, dtype=np.uint16).reshape(4, 5, 6) * 500
KSPACE = (RNG.normal(size=(4, 2, 5, 6)) + 1j * RNG.normal(size=(4, 2, 5, 6))).astype(np.complex64)

Write = Callable[[Path], Path]


def write_fits(folder: Path, values: np.ndarray = VOLUME, **header: Any) -> Path:
    from astropy.io import fits

    hdu = fits.PrimaryHDU(values)
    hdu.header.update({"BUNIT": "Jy/beam", "CTYPE3": "FREQ", **header})
    hdu.writeto(folder / "a.fits")
    return folder / "a.fits"


def write_nifti(folder: Path) -> Path:
    import nibabel

    affine = np.array([[-2.0, 0, 0, 9], [0, 3, 0, -7], [0, 0, 4, 1], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(VOLUME.T, affine), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def write_dicom(folder: Path, stored: np.ndarray = COUNTS[0], **given: Any) -> Path:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(folder / "a.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PatientName = "CT", "Nobody^At all"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = 0.5, -1024
    ds.WindowCenter, ds.WindowWidth = 40, 400
    for name, value in given.items():
        setattr(ds, name, value)
    ds.PixelData = stored.tobytes()
    ds.save_as(folder / "a.dcm", enforce_file_format=True)
    return folder / "a.dcm"


def write_fastmri(folder: Path, values: np.ndarray = KSPACE) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["kspace"], file["mask"] = values, np.ones(6)
        file["reconstruction_rss"] = VOLUME
    return folder / "a.h5"


def write_matlab(folder: Path) -> Path:
    """As MATLAB stores it: after 512 bytes, axes backwards, complex as (real, imag)."""
    import h5py

    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        file["x"] = VOLUME.T
        file["x"].attrs["MATLAB_class"] = np.bytes_("single")
        pair = np.zeros(KSPACE.T.shape, [("real", "f4"), ("imag", "f4")])
        pair["real"], pair["imag"] = KSPACE.T.real, KSPACE.T.imag
        file["k"] = pair
        file["k"].attrs["MATLAB_class"] = np.bytes_("single")
        file["name"] = np.zeros((3, 1), np.uint16)
        file["name"].attrs["MATLAB_class"] = np.bytes_("char")
    return folder / "a.mat"


def write_zarr(folder: Path, version: int = 3) -> Path:
    import zarr

    names = ("z", "y", "x")
    more: dict[str, Any] = {"dimension_names": names} if version == 3 else {}
    store = zarr.create_array(
        str(folder / "a.zarr"), shape=VOLUME.shape, dtype="f4", zarr_format=version, **more
    )
    store[:] = VOLUME
    store.attrs.update({"units": "K"} | ({} if version == 3 else {"_ARRAY_DIMENSIONS": names}))
    return folder / "a.zarr"


def write_ome(folder: Path) -> Path:
    tifffile.imwrite(folder / "a.ome.tif", COUNTS, metadata={"axes": "ZYX"})
    return folder / "a.ome.tif"


class TestValues:
    @pytest.mark.parametrize(
        ("write", "kind", "values", "axes", "units"),
        [
            (write_fits, "FITS, float32", VOLUME, ("freq", "y", "x"), "Jy/beam"),
            (write_nifti, "NIfTI, float32", VOLUME.T, ("x", "y", "z"), None),
            (write_fastmri, "HDF5, complex64", KSPACE, ("slice", "coil", "y", "x"), None),
            (write_zarr, "zarr, float32", VOLUME, ("z", "y", "x"), "K"),
            (write_ome, "OME-TIFF, uint16", COUNTS, ("z", "y", "x"), None),
        ],
    )
    def test_values_axes_and_units(
        self,
        tmp_path: Path,
        write: Write,
        kind: str,
        values: np.ndarray,
        axes: tuple[str, ...],
        units: str | None,
    ) -> None:
        source = open_source(write(tmp_path))
        assert source_format(source.path) in kind.replace("OME-", "")
        assert (source.kind, source.axes, source.units) == (kind, axes, units)
        assert (source.shape, source.dtype) == (values.shape, values.dtype)
        assert np.array_equal(source.read(), values)
        block = tuple(slice(1, n) for n in values.shape)
        assert np.array_equal(source.read(block), values[block])

    def test_fits_applies_scale_and_blank(self, tmp_path: Path) -> None:
        """BZERO makes unsigned integers, BLANK a NaN; both are what astropy itself gives."""
        from astropy.io import fits

        assert np.array_equal(open_source(write_fits(tmp_path, COUNTS)).read(), COUNTS)
        (tmp_path / "a.fits").unlink()
        whole = COUNTS.astype(np.int16)
        source = open_source(write_fits(tmp_path, whole, BLANK=int(whole[1, 2, 3]), BSCALE=2.0))
        with fits.open(source.path) as file:
            right = np.array(file[0].data)
        found = source.read()
        assert np.isnan(found[1, 2, 3]) and np.isnan(found).sum() == 1
        assert np.array_equal(found, right, equal_nan=True)

    @pytest.mark.parametrize("stored", [COUNTS[0], COUNTS, COUNTS[0].astype(np.int16) - 900])
    def test_hounsfield_units_are_those_of_pydicom(
        self, tmp_path: Path, stored: np.ndarray
    ) -> None:
        from pydicom import dcmread
        from pydicom.pixels import apply_rescale

        source = open_source(write_dicom(tmp_path, stored))
        content = dcmread(source.path)
        right = apply_rescale(content.pixel_array, content)
        assert np.array_equal(source.read(), right) and np.array_equal(right, stored * 0.5 - 1024)
        assert source.units == "HU" and source.axes == ("frame", "y", "x")[3 - stored.ndim :]
        # C.11.2.1.2.1: from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2
        assert source.window == (-160.0, 239.0)
        assert "Nobody" not in str(source.facts)

    def test_a_stated_type_of_rescaling_counts(self, tmp_path: Path) -> None:
        assert open_source(write_dicom(tmp_path, RescaleType="US")).units is None
        assert open_source(write_dicom(tmp_path, RescaleType="OD")).units == "OD"

    def test_dicom_is_known_by_its_content(self, tmp_path: Path) -> None:
        path = write_dicom(tmp_path).rename(tmp_path / "IM0001")
        assert is_dicom(path) and source_format(path) == "DICOM"

    def test_nifti_keeps_the_axes_of_nibabel(self, tmp_path: Path) -> None:
        """No turning: the affine matrix says where each axis points."""
        import nibabel

        source = open_source(write_nifti(tmp_path))
        image = nibabel.load(source.path)
        assert np.array_equal(source.read(), image.get_fdata(dtype=np.float32))
        assert source.facts["orientation"] == "LAS" and source.facts["voxel"] == [2, 3, 4]

    def test_matlab_of_version_7_3(self, tmp_path: Path) -> None:
        """As a source, and as the file of a mask or kernel."""
        path = write_matlab(tmp_path)
        source = open_source(path, "x")
        assert source.shape == VOLUME.shape and np.array_equal(source.read(), VOLUME)
        corner = (slice(1, 2), slice(0, 5), slice(2, 3))
        assert np.array_equal(source.read(corner), VOLUME[corner])
        assert np.array_equal(open_source(path, "k").read(), KSPACE)
        assert np.array_equal(read_array_file(path, "x"), VOLUME)
        with pytest.raises(ValueError, match=r"several arrays.*x \(6, 5, 4\).*the argument key"):
            read_array_file(path)

    def test_older_zarr_and_groups(self, tmp_path: Path) -> None:
        import zarr

        assert open_source(write_zarr(tmp_path, 2)).axes == ("z", "y", "x")
        group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
        for name in ("a", "b"):
            group.create_array(name, shape=(2, 3), dtype="i2")[:] = 7
        assert open_source(tmp_path / "g.zarr", "b").read().tolist() == [[7] * 3] * 2
        with pytest.raises(ValueError, match=r"a \(2, 3\), b \(2, 3\); name one with --array"):
            open_source(tmp_path / "g.zarr", option="--array NAME")

    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_pages_of_tiff(self, tmp_path: Path, photometric: str, compression: str) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, COUNTS, photometric=photometric, compression=compression)
        right = COUNTS if photometric == "minisblack" else 65535 - COUNTS
        source = open_source(path)
        assert source.axes == ("page", "y", "x") and np.array_equal(source.read(), right)
        assert np.array_equal(
            source.read((slice(2, 3), slice(1, 5), slice(0, 2))), right[2:3, 1:, :2]
        )

    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
    def test_pages_of_one_bit(self, tmp_path: Path, photometric: str) -> None:
        """White is True, as in a single page, also where the file stores it as 0."""
        pages = RNG.integers(0, 2, (3, 5, 8)).astype(bool)
        tifffile.imwrite(tmp_path / "a.tif", pages, photometric=photometric)
        right = pages if photometric == "minisblack" else ~pages
        assert np.array_equal(open_source(tmp_path / "a.tif").read(), right)
        tifffile.imwrite(tmp_path / "one.tif", pages[0], photometric=photometric)
        assert np.array_equal(read_picture(tmp_path / "one.tif").values > 0, right[0])

    def test_hyperstacks_and_colours_of_tiff(self, tmp_path: Path) -> None:
        hyper = COUNTS.reshape(2, 2, 5, 6)
        tifffile.imwrite(tmp_path / "h.tif", hyper, imagej=True, metadata={"axes": "ZCYX"})
        colour = RNG.integers(0, 256, (3, 5, 6, 3), np.uint8)
        tifffile.imwrite(tmp_path / "c.ome.tif", colour, photometric="rgb")
        for name, values, axes in (
            ("h.tif", hyper, ("z", "c", "y", "x")),
            ("c.ome.tif", colour, ("page", "y", "x", "sample")),
        ):
            source = open_tiff_stack(tmp_path / name)
            assert source.axes[-2:] == axes[-2:] and np.array_equal(source.read(), values)
        tifffile.imwrite(tmp_path / "one.tif", COUNTS[0])
        assert source_format(tmp_path / "one.tif") is None

    def test_npy_is_mapped(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", KSPACE)
        assert np.array_equal(open_source(tmp_path / "a.npy").read(), KSPACE)


class TestSelection:
    def test_slices_and_crops(self, tmp_path: Path) -> None:
        source = open_source(write_nifti(tmp_path))  # x, y, z
        one = pictures(source, select(source, ["z=2"]))
        assert np.array_equal(one.values[0, 0], VOLUME.T[:, :, 2]) and one.names == ()
        some = pictures(source, select(source, ["z=1:3", "0=2:5"]))
        assert np.array_equal(some.values[:, 0], np.moveaxis(VOLUME.T[2:5, :, 1:3], 2, 0))
        assert (some.names, some.shape, some.places) == (("z",), (2,), ((1,), (2,)))
        assert np.array_equal(some.in_file_order(some.values), VOLUME.T[2:5, :, 1:3])
        side = pictures(source, select(source, ["x=-1"]))
        assert np.array_equal(side.values[0, 0], VOLUME.T[5])
        assert np.array_equal(side.in_file_order(side.values), VOLUME.T[5:6])

    def test_kspace_becomes_channels(self, tmp_path: Path) -> None:
        source = open_source(write_fastmri(tmp_path))
        stack = measurements(source, select(source, ["slice=1:"]))
        assert stack.values.shape == (3, 4, 5, 6) and stack.names == ("slice",)
        assert np.array_equal(stack.values[:, 0::2], KSPACE[1:].real)
        assert np.array_equal(stack.values[:, 1::2], KSPACE[1:].imag)

    def test_axes_without_names_are_asked_for(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", VOLUME)
        source = open_source(tmp_path / "a.npy")
        with pytest.raises(ValueError, match=r"float32, shape \(4, 5, 6\), .*--select 0=:"):
            pictures(source, select(source, []))
        assert pictures(source, select(source, ["0=:"])).values.shape == (4, 1, 5, 6)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("q=1", "no axis 'q'; its axes are freq, y, x, or 0 to 2"),
            ("freq=4", "axis freq of .* has the places 0 to 3"),
            ("freq=3:2", "has the places"),
            ("freq", "takes AXIS=PLACE or AXIS=FIRST:END, got 'freq'"),
            ("freq=", "takes AXIS=PLACE"),
            ("freq=1.5", "takes AXIS=PLACE"),
            ("freq=-", "takes AXIS=PLACE"),
        ],
    )
    def test_wrong_selections(self, tmp_path: Path, text: str, message: str) -> None:
        source = open_source(write_fits(tmp_path))
        with pytest.raises(ValueError, match=message):
            select(source, [text])


WRITERS: dict[str, Write] = {
    "fits": write_fits,
    "dicom": write_dicom,
    "nifti": write_nifti,
    "hdf5": write_fastmri,
    "tiff": write_ome,
}


class TestRefusals:
    @pytest.mark.parametrize("left", [0, 3, 200, 0.6, 0.97])
    @pytest.mark.parametrize("name", WRITERS)
    def test_truncated_files(self, tmp_path: Path, name: str, left: float) -> None:
        """One line that names the file, never other values."""
        path = WRITERS[name](tmp_path)
        whole = open_source(path).read()
        content = path.read_bytes()
        size = left if isinstance(left, int) else int(left * len(content))
        path.write_bytes(content[:size])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = open_source(path).read()
            except ValueError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                return
        # what was cut off may be the padding at the end of a file
        assert np.array_equal(found, whole)

    @pytest.mark.parametrize("big", [False, True])
    def test_a_stack_without_its_last_pages(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], big: bool
    ) -> None:
        """The first page is whole; alone it would pass for a picture."""
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, COUNTS, photometric="minisblack", bigtiff=big)
        assert open_source(path).shape == COUNTS.shape
        content = path.read_bytes()
        for cut in (30, 300, len(content) // 2):
            path.write_bytes(content[:-cut])
            for read in (read_picture, open_source):
                with pytest.raises(ValueError, match=r"a\.tif.* it ends before page [234] of"):
                    read(path)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("astropy.io.fits", "fits"),
            ("pydicom", "dicom"),
            ("nibabel", "nifti"),
            ("h5py", "hdf5"),
        ],
    )
    def test_a_missing_library(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
    ) -> None:
        path = WRITERS[name](tmp_path)
        monkeypatch.setitem(sys.modules, module, None)
        package = module.split(".")[0]
        message = rf'needs {package}: pip install "scoresde\[science\]"'
        with pytest.raises(ValueError, match=message):
            open_source(path)

    def test_several_images_and_none(self, tmp_path: Path) -> None:
        from astropy.io import fits

        two = [fits.ImageHDU(VOLUME[0], name=name) for name in ("SCI", "ERR")]
        fits.HDUList([fits.PrimaryHDU(), *two]).writeto(tmp_path / "two.fits")
        assert np.array_equal(open_source(tmp_path / "two.fits", "ERR").read(), VOLUME[0])
        with pytest.raises(ValueError, match=r"1 SCI \(5, 6\), 2 ERR \(5, 6\); name one with"):
            open_source(tmp_path / "two.fits")
        fits.PrimaryHDU().writeto(tmp_path / "none.fits")
        with pytest.raises(ValueError, match="no image of two axes"):
            open_source(tmp_path / "none.fits")

    def test_a_shape_that_no_memory_holds(self, tmp_path: Path) -> None:
        """A file of a few kB may claim 40 TB; a part of it is read."""
        import h5py

        for name in ("a.h5", "a.mat"):
            with h5py.File(tmp_path / name, "w") as file:
                file.create_dataset("x", (10_000_000, 1_000_000), "f4", chunks=(100, 100))
        source = open_source(tmp_path / "a.h5")
        assert source.read((slice(0, 2), slice(0, 3))).tolist() == [[0.0] * 3] * 2
        for read in (source.read, lambda: read_array_file(tmp_path / "a.mat")):
            with pytest.raises(ValueError, match=r"takes 4e\+04 GB of memory, and .* GB are free"):
                read()

    def test_what_is_no_array_of_numbers(self, tmp_path: Path) -> None:
        import h5py

        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["text"], file["line"] = "words", np.ones(3)
        with pytest.raises(ValueError, match=r"no array of numbers with two axes.*line \(3,\)"):
            open_source(tmp_path / "a.h5")
        with pytest.raises(ValueError, match="there is no file"):
            open_source(tmp_path / "missing.nii")


def test_numbers_in_other_files_are_not_read(tmp_path: Path) -> None:
    """A file that one is sent must not show others."""
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("x", (8, 8), "u1", external=[(str(tmp_path / "secret"), 0, 64)])
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["x"] = np.ones((8, 8))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((8, 8), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "part.h5", "x", (8, 8))
        file.create_virtual_dataset("x", layout)
    for name in ("external.h5", "virtual.h5"):
        with pytest.raises(ValueError, match="lie in other files"):
            open_source(tmp_path / name)
