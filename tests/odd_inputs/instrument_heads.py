"""Heads of instruments' files that lie, that point elsewhere, or that would run code."""

import functools
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.instrument_files import WRITERS, counts, write_dicom, write_zarr
from tests.odd_inputs.running import EXECUTED

__all__ = ["RECIPES", "Payload"]

_RANGE = "--range=0,4000"


class Payload:
    """Its pickle creates a file when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (self.folder / EXECUTED,)  # type: ignore[return-value]


def _case(desk: Desk, path: Path, *more: str, expect: Expectation = "refused") -> Case:
    names = (path.name, "--range", "--select", "measurement")
    return Case(desk.restore(path, _RANGE, *more), expect, names, outputs=(desk.out,))


def _card(text: str) -> bytes:
    return text.ljust(80).encode("latin1")


_FITS: dict[str, tuple[tuple[str, str], Expectation]] = {
    # the card that is put in the place of another; None of them must be believed
    "huge": (("NAXIS1", "NAXIS1  =        1000000000000"), "refused"),
    "overflow": (("NAXIS1", "NAXIS1  =  9223372036854775807"), "refused"),
    "negative": (("NAXIS2", "NAXIS2  =                   -5"), "refused"),
    "zero": (("NAXIS2", "NAXIS2  =                    0"), "refused"),
    "text": (("NAXIS2", "NAXIS2  = 'twelve'"), "refused"),
    "axes": (("NAXIS ", "NAXIS   =                  999"), "refused"),
    "many-axes": (("NAXIS ", "NAXIS   =              1000000"), "refused"),
    "bits": (("BITPIX", "BITPIX  =                    7"), "refused"),
    "simple": (("SIMPLE", "SIMPLE  =                    F"), "clean"),
    "zero-point": (("BZERO", "BZERO   =                1E400"), "refused"),
    "zero-point-text": (("BZERO", "BZERO   = 'none'"), "clean"),
    "zero-point-nan": (("BZERO", "BZERO   =                  NAN"), "clean"),
    "scale-zero": (("BSCALE", "BSCALE  =                    0"), "clean"),
    "scale-huge": (("BSCALE", "BSCALE  =               1.E300"), "clean"),
    "no-end": (("END", ""), "refused"),
    "units": (("EXTEND", "BUNIT   = '" + "x" * 60 + "'"), "clean"),
    "units-number": (("EXTEND", "BUNIT   =                    3"), "clean"),
    "units-lines": (("EXTEND", "BUNIT   = 'a\n\x1b[31mb'"), "clean"),
    "range-nan": (("EXTEND", "DATAMIN =                  NAN"), "clean"),
    "not-ascii": (("EXTEND", "OBJECT  = '\xff\xfe\x00'"), "clean"),
}


def _fits(kind: str, desk: Desk) -> Case:
    path = WRITERS["fits"](desk.folder / "scan.fits", counts(desk, *desk.size()))
    content = bytearray(path.read_bytes())
    (name, card), expect = _FITS[kind]
    at = next(i for i in range(0, 2880, 80) if content[i : i + 80].startswith(name.encode()))
    content[at : at + 80] = _card(card)
    path.write_bytes(content)
    return _case(desk, path, expect=expect)


_NIFTI: dict[str, tuple[int, str, tuple[Any, ...], Expectation]] = {
    # offset, form, values
    "dimensions-zero": (40, "h", (0,), "refused"),
    "dimensions-nine": (40, "h", (9,), "refused"),
    "dimensions-negative": (40, "h", (-2,), "refused"),
    "huge": (40, "8h", (7, *[32767] * 7), "refused"),
    "wide": (42, "2h", (32767, 32767), "refused"),
    "side-negative": (42, "h", (-12,), "refused"),
    "side-zero": (42, "h", (0,), "refused"),
    "dtype-unknown": (70, "h", (999,), "refused"),
    "dtype-rgb": (70, "h", (128,), "refused"),
    "dtype-complex": (70, "h", (1792,), "refused"),
    "dtype-binary": (70, "h", (1,), "refused"),
    "slope-nan": (112, "f", (float("nan"),), "clean"),
    "slope-inf": (112, "f", (float("inf"),), "clean"),
    "slope-huge": (112, "f", (1e38,), "clean"),
    "slope-zero": (112, "f", (0.0,), "clean"),
    "intercept-nan": (112, "2f", (1.0, float("nan")), "clean"),
    "offset-far": (108, "f", (1e9,), "refused"),
    "offset-nan": (108, "f", (float("nan"),), "clean"),
    "offset-negative": (108, "f", (-352.0,), "clean"),
    "window-nan": (124, "2f", (float("nan"), float("inf")), "clean"),
    "voxel-zero": (80, "3f", (0.0, float("nan"), float("inf")), "clean"),
    "orientation": (252, "2h", (99, -3), "clean"),
    "affine-nan": (280, "12f", (float("nan"),) * 12, "clean"),
    "magic": (344, "4s", (b"none",), "refused"),
    "length": (0, "i", (540,), "clean"),
    "description": (148, "80s", (b"\x1b[2J\n" * 16,), "clean"),
}


def _nifti(kind: str, desk: Desk) -> Case:
    path = WRITERS["nii"](desk.folder / "scan.nii", counts(desk, *desk.size()))
    content = bytearray(path.read_bytes())
    offset, form, values, expect = _NIFTI[kind]
    struct.pack_into(f"<{form}", content, offset, *values)
    path.write_bytes(content)
    return _case(desk, path, expect=expect)


_DICOM: dict[str, tuple[dict[str, Any], Expectation]] = {
    "rows-huge": ({"Rows": 65535, "Columns": 65535}, "refused"),
    "rows-zero": ({"Rows": 0}, "refused"),
    "rows-missing": ({"Rows": None}, "refused"),
    "columns-missing": ({"Columns": None}, "refused"),
    "frames-huge": ({"NumberOfFrames": 2147483647}, "refused"),
    "frames-negative": ({"NumberOfFrames": -3}, "clean"),
    "bits": ({"BitsAllocated": 7}, "refused"),
    "bits-stored": ({"BitsStored": 99}, "clean"),
    "bits-zero": ({"BitsStored": 0}, "clean"),
    "samples": ({"SamplesPerPixel": 9}, "refused"),
    "samples-zero": ({"SamplesPerPixel": 0}, "refused"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "refused"),
    "colours": ({"PhotometricInterpretation": "MAGIC"}, "clean"),
    "slope-nan": ({"RescaleSlope": "nan", "RescaleIntercept": "0"}, "refused"),
    "slope-huge": ({"RescaleSlope": "1e300", "RescaleIntercept": "1e308"}, "clean"),
    "slope-zero": ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "clean"),
    "slope-alone": ({"RescaleSlope": "2"}, "clean"),
    "window-zero": ({"WindowCenter": "0", "WindowWidth": "0"}, "clean"),
    "window-list": ({"WindowCenter": ["1", "2"], "WindowWidth": []}, "clean"),
    "modality": ({"Modality": "\n\x1b[31m"}, "clean"),
    "no-pixels": ({"PixelData": None}, "refused"),
    "empty-pixels": ({"PixelData": b""}, "refused"),
    "few-pixels": ({"PixelData": b"\0\1"}, "refused"),
    "jpeg": ({"TransferSyntaxUID": "1.2.840.10008.1.2.4.50"}, "refused"),
    "jpeg-2000": ({"TransferSyntaxUID": "1.2.840.10008.1.2.4.90"}, "refused"),
    "run-lengths": ({"TransferSyntaxUID": "1.2.840.10008.1.2.5"}, "refused"),
    "unknown-syntax": ({"TransferSyntaxUID": "1.2.3"}, "refused"),
    "spacing": ({"PixelSpacing": ["0", "-1"]}, "clean"),
}


def _dicom(kind: str, desk: Desk) -> Case:
    import warnings

    given, expect = _DICOM[kind]
    path = desk.folder / "scan.dcm"
    encapsulated = kind in ("jpeg", "jpeg-2000", "run-lengths")
    pixels = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, 8) + desk.rng.bytes(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = counts(desk, *desk.size())
        if encapsulated:
            given = {**given, "PixelData": pixels + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)}
        try:
            write_dicom(path, stored, **given)
        except (ValueError, AttributeError):  # what the library does not write is patched in
            write_dicom(path, stored)
            syntax = str(given.get("TransferSyntaxUID", "1.2.840.10008.1.2.1")).encode()
            content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", syntax.ljust(20, b"\0"))
            path.write_bytes(content)
    return _case(desk, path, expect=expect)


def _deflated(whole: bool, desk: Desk) -> Case:
    """A deflated data set, and one of which the end inflates to much more than the picture."""
    values = counts(desk, *desk.size())
    path = write_dicom(desk.folder / "scan.dcm", values, TransferSyntaxUID="1.2.840.10008.1.2.1.99")
    if whole:
        check = picture_is(desk.out, values * (255 / 4000))
        return Case(desk.restore(path, _RANGE), "right", (path.name,), check)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    squeeze, zeros = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 24)
    packed = [squeeze.compress(zlib.decompress(content[start:], -15))]
    packed += [squeeze.compress(zeros) for _ in range(2)]  # four million elements
    path.write_bytes(content[:start] + b"".join(packed) + squeeze.flush())
    return Case(desk.restore(path, _RANGE), "refused", ("elements",), outputs=(desk.out,))


def _hdf5(kind: str, desk: Desk) -> Case:
    """Arrays that are none, that are elsewhere, or that claim terabytes."""
    import h5py

    path, values = desk.folder / "scan.h5", counts(desk, *desk.size())
    other = desk.folder / "other.bin"
    other.write_bytes(desk.rng.bytes(values.nbytes))
    expect: Expectation = "refused"
    with h5py.File(path, "w") as file:
        if kind == "external":
            file.create_dataset(
                "image", values.shape, "u2", external=[(str(other), 0, values.nbytes)]
            )
        elif kind == "external-link":
            file["image"] = h5py.ExternalLink("/etc/passwd", "/image")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(values.shape, "u2")
            layout[:] = h5py.VirtualSource(str(other), "image", values.shape)
            file.create_virtual_dataset("image", layout)
        elif kind == "soft-loop":
            file["image"], file["other"] = h5py.SoftLink("/other"), h5py.SoftLink("/image")
        elif kind == "hard-loop":
            group = file.create_group("group")
            group["again"] = group
            group["image"] = values
            expect = "clean"
        elif kind == "huge":
            file.create_dataset("image", (10**6, 10**6), "f8", chunks=(1, 10**6))
        elif kind == "huge-chunk":
            file.create_dataset("image", (30000, 30000), "f4", chunks=(30000, 30000))
            expect = "clean"
        elif kind == "many-axes":
            file.create_dataset("image", (1,) * 30 + (12, 13), "u1")
            expect = "clean"
        elif kind == "deep":
            group = file
            for _ in range(500):
                group = group.create_group("g")
            group["image"] = values
            expect = "clean"
        elif kind == "many":
            for number in range(300):
                file[f"image{number}"] = values[:2, :2]
        elif kind == "text":
            file["image"] = [["a", "b"], ["c", "d"]]
        elif kind == "opaque":
            file["image"] = np.zeros(values.shape, "V8")
        elif kind == "enum":
            file.create_dataset("image", values.shape, h5py.enum_dtype({"A": 0, "B": 1}, "u1"))
            expect = "clean"
        elif kind == "references":
            file["x"] = values
            file.create_dataset("image", (4, 5), h5py.ref_dtype)
            expect = "clean"
        elif kind == "lengths":
            file.create_dataset("image", (4, 5), h5py.vlen_dtype(np.uint16))
        elif kind == "empty-space":
            file["image"] = h5py.Empty("f4")
        elif kind == "scalar":
            file["image"] = 3.0
        elif kind == "half":
            file["image"] = (values / 4).astype("f2")
            expect = "clean"
        elif kind == "long-double":
            file["image"] = values.astype(np.longdouble)
            expect = "clean"
        elif kind == "units":
            file["image"] = values
            file["image"].attrs["units"] = np.arange(4)
            file["image"].dims[0].label = "\n\x1b[31m"
            expect = "clean"
        elif kind == "units-not-text":
            file["image"] = values
            file["image"].attrs["unit"] = b"\xff\xfe"
            expect = "clean"
        elif kind == "filter":
            file.create_dataset("image", data=values, compression="gzip")
    if kind == "filter":  # number 1 is deflate; 32001 is of a plugin that is not there
        content = path.read_bytes()
        path.write_bytes(content.replace(b"\1\0\x08", b"\x01\x7d\x08"))
        expect = "clean"
    return _case(desk, path, expect=expect)


_HDF5 = (
    *("external", "external-link", "virtual", "soft-loop", "hard-loop", "huge", "huge-chunk"),
    *("many-axes", "deep", "many", "text", "opaque", "enum", "references", "lengths"),
    *("empty-space", "scalar", "half", "long-double", "units", "units-not-text", "filter"),
)

_ZARR: dict[str, tuple[tuple[str, ...], Any, Expectation]] = {
    "huge": (("shape",), [10**6, 10**6], "refused"),
    "overflow": (("shape",), [2**62, 2**62], "refused"),
    "negative": (("shape",), [-3, 4], "refused"),
    "floats": (("shape",), [3.5, 4], "refused"),
    "no-axes": (("shape",), [], "refused"),
    "shape-text": (("shape",), "12", "refused"),
    "zero": (("shape",), [0, 4], "refused"),
    "dtype": (("data_type",), "magic", "refused"),
    "dtype-text": (("data_type",), "string", "refused"),
    "dtype-object": (("data_type",), {"name": "fixed_length_utf32"}, "refused"),
    "dtype-other": (("data_type",), "float64", "refused"),
    "chunk-huge": (
        ("chunk_grid", "configuration", "chunk_shape"),
        [10**6, 10**6],
        "refused",
    ),
    "chunk-zero": (("chunk_grid", "configuration", "chunk_shape"), [0, 0], "refused"),
    "chunk-negative": (("chunk_grid", "configuration", "chunk_shape"), [-1, 4], "refused"),
    "chunk-one": (("chunk_grid", "configuration", "chunk_shape"), [1], "refused"),
    "grid": (("chunk_grid", "name"), "magic", "refused"),
    "fill": (("fill_value",), "x", "refused"),
    "fill-null": (("fill_value",), None, "clean"),
    "codec": (("codecs",), [{"name": "magic"}], "refused"),
    "codec-empty": (("codecs",), [], "refused"),
    "codec-text": (("codecs",), "gzip", "refused"),
    "codec-pickle": (("codecs",), [{"name": "numcodecs.pickle"}], "refused"),
    "format": (("zarr_format",), 99, "refused"),
    "node": (("node_type",), "magic", "refused"),
    "names": (("dimension_names",), ["x", "x"], "clean"),
    "names-number": (("dimension_names",), [1, None], "clean"),
    "names-many": (("dimension_names",), ["a"] * 9, "refused"),
    "attributes": (("attributes",), [], "clean"),
    "units": (("attributes",), {"units": {"a": 1}}, "clean"),
    "pyramid": (("attributes",), {"ome": {"multiscales": [{"datasets": [{}]}]}}, "clean"),
    "pyramid-text": (("attributes",), {"ome": "x", "multiscales": "x"}, "clean"),
    "key-encoding": (("chunk_key_encoding",), {"name": "magic"}, "refused"),
    "transformers": (("storage_transformers",), [{"name": "magic"}], "refused"),
}


def _zarr(kind: str, desk: Desk) -> Case:
    path = write_zarr(desk.folder / "scan.zarr", counts(desk, *desk.size()))
    keys, value, expect = _ZARR[kind]
    content = json.loads((path / "zarr.json").read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (path / "zarr.json").write_text(json.dumps(content))
    return _case(desk, path, expect=expect)


def _zarr_text(text: bytes, desk: Desk) -> Case:
    path = desk.folder / "scan.zarr"
    path.mkdir()
    (path / "zarr.json").write_bytes(text)
    return _case(desk, path)


def _zarr_group(kind: str, desk: Desk) -> Case:
    """A group whose metadata point to what is not there, or to everything."""
    import zarr

    path = desk.folder / "scan.zarr"
    group = zarr.open_group(str(path), mode="w")
    levels: Any = {
        "missing": [{"datasets": [{"path": "nothing"}]}],
        "up": [{"datasets": [{"path": "../../etc"}]}],
        "no-datasets": [{}],
        "not-a-list": {"a": 1},
        "number": [3],
        "path-number": [{"datasets": [{"path": 3}]}],
        "axes": [{"datasets": [{"path": "a"}], "axes": [{"no": 1}]}],
        "axes-number": [{"datasets": [{"path": "a"}], "axes": 3}],
    }.get(kind)
    if kind != "empty":
        group.create_array("a", data=counts(desk, *desk.size()))
    if levels is not None:
        group.attrs["multiscales"] = levels
    return _case(desk, path, expect="refused" if kind == "empty" else "clean")


def _pickled(form: str, desk: Desk) -> Case:
    """Codecs of zarr 2 that would read a pickle."""
    path = write_zarr(desk.folder / "scan.zarr", counts(desk, 12, 14), version=2)
    head = json.loads((path / ".zarray").read_text())
    pickled = {"id": "pickle", "protocol": 4}
    if form == "filter":
        head |= {"filters": [pickled], "compressor": None}
    elif form == "compressor":
        head |= {"compressor": pickled, "filters": None}
    else:
        head |= {"dtype": "|O", "filters": [pickled], "compressor": None, "fill_value": 0}
    (path / ".zarray").write_text(json.dumps(head))
    chunk = next(one for one in path.rglob("*") if one.is_file() and one.name[0] != ".")
    chunk.write_bytes(pickle.dumps(Payload(desk.folder)))
    return _case(desk, path)


def _zip(kind: str, desk: Desk) -> Case:
    """Archives of zarr that are none, or that hold gigabytes."""
    path = desk.folder / "scan.zarr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        if kind == "bomb":
            with file.open("zarr.json", "w", force_zip64=True) as entry:
                for _ in range(8):
                    entry.write(bytes(1 << 24))
        elif kind == "outside":
            file.writestr("../../zarr.json", "{}")
        elif kind == "absolute":
            file.writestr("/etc/zarr.json", "{}")
        elif kind == "twice":
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(3):
                    file.writestr("zarr.json", "{}")
        elif kind == "many":
            for number in range(2000):
                file.writestr(f"a{number}/zarr.json", "{}")
    return _case(desk, path)


def _gzip(suffix: str, behind: bool, desk: Desk) -> Case:
    """Compressed zeros in the place of a scan or behind one.

    Those of FITS are 320 MB when they are inflated: a search through them passes the time.
    """
    path = desk.folder / f"scan.{suffix}"
    squeeze, zeros = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 24)
    count, start = 20 if suffix.startswith("fits") else 4, b""
    if behind:
        plain = suffix.removesuffix(".gz")
        whole = WRITERS[plain](desk.folder / f"whole.{plain}", counts(desk, *desk.size()))
        start = whole.read_bytes()
    packed = [squeeze.compress(start), *(squeeze.compress(zeros) for _ in range(count))]
    path.write_bytes(b"".join(packed) + squeeze.flush())
    return _case(desk, path, expect="clean" if behind else "refused")


_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))
    + "]><OME>&m;</OME>"
)
_OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'DimensionOrder="XYZCT" ID="Pixels:0" SizeC="1" SizeT="1" SizeX="14" SizeY="12" SizeZ="{z}" '
    'Type="{type}">{more}</Pixels></Image></OME>'
)
_DESCRIPTIONS: dict[str, str] = {
    "entities": _LAUGHS,
    "planes": _OME.format(z=10**9, type="uint16", more="<TiffData/>"),
    "other-file": _OME.format(
        z=3, type="uint16", more='<TiffData><UUID FileName="/etc/passwd">urn:x</UUID></TiffData>'
    ),
    "wrong-type": _OME.format(z=3, type="magic", more="<TiffData/>"),
    "negative": _OME.format(z=-3, type="uint16", more="<TiffData/>"),
    "cut": _OME[:200],
    "imagej": "ImageJ=1.53t\nimages=1000000000\nslices=1000000000\nhyperstack=true\n",
    "imagej-text": "ImageJ=1.53t\nimages=x\nslices=-1\n",
    "shaped": '{"shape": [1000000, 1000000, 14]}',
    "shaped-text": '{"shape": "x"}',
    "deep": "[" * 50_000,
}


def _tiff(kind: str, desk: Desk) -> Case:
    """Descriptions that claim other axes than the file has."""
    import tifffile

    path = desk.folder / ("scan.ome.tif" if "<OME" in _DESCRIPTIONS[kind] else "scan.tif")
    tifffile.imwrite(
        *(path, counts(desk, 3, 12, 14)),
        photometric="minisblack",
        metadata=None,
        description=_DESCRIPTIONS[kind].encode(),
    )
    return _case(desk, path, expect="clean")


def _pages(kind: str, desk: Desk) -> Case:
    """Lists of pages that do not end, or pages that differ."""
    import tifffile

    path, size = desk.folder / "scan.tif", desk.size()
    with tifffile.TiffWriter(path) as file:
        for number in range(3):
            shape = (size[0] + number, size[1]) if kind == "sizes" else size
            dtype = ("u1", "u2", "f4")[number] if kind == "types" else "u2"
            file.write(counts(desk, *shape).astype(dtype), metadata=None, photometric="minisblack")
    if kind == "loop":
        with tifffile.TiffFile(path) as read:
            first, last = read.pages[0].offset, read.pages[2].offset
        content = bytearray(path.read_bytes())
        (entries,) = struct.unpack_from("<H", content, last)
        struct.pack_into("<I", content, last + 2 + 12 * entries, first)
        path.write_bytes(content)
    return _case(desk, path, expect="clean")


def _objects(desk: Desk) -> Case:
    """A pickle under the suffix of an array, which would create a file."""
    path, file = (
        desk.folder / f"measured.{desk.pick('npy', 'npz', 'mat', 'h5', 'dcm')}",
        io.BytesIO(),
    )
    values = np.empty((3, 4), dtype=object)
    values[:] = Payload(desk.folder)
    if path.suffix == ".npz":
        np.savez(file, y=values)
    elif path.suffix == ".npy":
        np.save(file, values)
    else:
        pickle.dump(Payload(desk.folder), file)
    path.write_bytes(file.getvalue())
    return _case(desk, path)


RECIPES: dict[str, Recipe] = {
    **{f"fits-{kind}": functools.partial(_fits, kind) for kind in _FITS},
    **{f"nifti-{kind}": functools.partial(_nifti, kind) for kind in _NIFTI},
    **{f"dicom-{kind}": functools.partial(_dicom, kind) for kind in _DICOM},
    "dicom-deflated": functools.partial(_deflated, True),
    "dicom-deflated-zeros": functools.partial(_deflated, False),
    **{f"hdf5-{kind}": functools.partial(_hdf5, kind) for kind in _HDF5},
    **{f"zarr-{kind}": functools.partial(_zarr, kind) for kind in _ZARR},
    **{
        f"zarr-head-{kind}": functools.partial(_zarr_text, text)
        for kind, text in {
            "empty": b"",
            "list": b"[]",
            "number": b"3",
            "cut": b'{"zarr_format": 3, "node_',
            "object": b"{}",
            "deep": b"[" * 100_000,
            "not-utf8": b"\xff\xfe{}",
            "array-without-rest": b'{"zarr_format": 3, "node_type": "array"}',
        }.items()
    },
    **{
        f"zarr-group-{kind}": functools.partial(_zarr_group, kind)
        for kind in (
            *("missing", "up", "no-datasets", "not-a-list", "number", "path-number", "axes"),
            *("axes-number", "empty"),
        )
    },
    **{
        f"zarr-pickle-{form}": functools.partial(_pickled, form)
        for form in ("filter", "compressor", "object")
    },
    **{
        f"zarr-zip-{kind}": functools.partial(_zip, kind)
        for kind in ("bomb", "outside", "absolute", "twice", "many", "nothing")
    },
    **{
        f"zeros-{'behind-' if behind else ''}{suffix}": functools.partial(_gzip, suffix, behind)
        for suffix in ("nii.gz", "fits.gz")
        for behind in (False, True)
    },
    **{f"tiff-{kind}": functools.partial(_tiff, kind) for kind in _DESCRIPTIONS},
    **{
        f"tiff-pages-{kind}": functools.partial(_pages, kind) for kind in ("sizes", "types", "loop")
    },
    "pickle": _objects,
}
"""Recipes by name."""
