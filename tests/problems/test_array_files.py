"""Array files: what is read is what was written; what cannot be read is one sentence."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from problems.reading.arrays import read_array_file

VALUES = np.arange(12.0).reshape(3, 4)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header_of(shape: str, descr: str = "<f8") -> bytes:
    """A .npy header that claims a shape, by the format's specification."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


class TestGoodFiles:
    @pytest.mark.parametrize("suffix", [".npy", ".NPY"])
    @pytest.mark.parametrize(
        "array",
        [
            VALUES,
            VALUES.astype(">f4"),
            np.asfortranarray(VALUES),
            VALUES.astype("<u2"),
            VALUES > 3,
            VALUES * 1j,
            np.float32(3),
        ],
        ids=lambda a: f"{a.dtype}{a.shape}",
    )
    def test_npy(self, tmp_path: Path, suffix: str, array: np.ndarray) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(npy(array))
        found = read_array_file(path)
        assert found.dtype == array.dtype.newbyteorder("=") and found.dtype.isnative
        assert np.array_equal(found, array) and found.shape == array.shape

    def test_extended_precision_becomes_double(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(npy(VALUES.astype(np.longdouble)))
        found = read_array_file(tmp_path / "a.npy")
        assert found.dtype == np.float64 and np.array_equal(found, VALUES)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_npz(self, tmp_path: Path, save) -> None:  # type: ignore[no-untyped-def]
        save(tmp_path / "a.npz", x=VALUES, names=np.array(["left", "right"]))
        # text does not count, so that one array is left
        assert np.array_equal(read_array_file(tmp_path / "a.npz"), VALUES)
        assert np.array_equal(read_array_file(str(tmp_path / "a.npz"), "x"), VALUES)

    @pytest.mark.parametrize("form", ["4", "5"])
    @pytest.mark.parametrize("compressed", [False, True])
    def test_mat(self, tmp_path: Path, form: str, compressed: bool) -> None:
        if form == "4" and compressed:
            pytest.skip("version 4 has no compression")
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, {"x": VALUES}, format=form, do_compression=compressed)
        assert np.array_equal(read_array_file(path), VALUES)

    def test_a_mat_file_that_shrinks_well(self, tmp_path: Path) -> None:
        """Constants compress to 1/700: no bomb."""
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, {"x": np.ones((1000, 400))}, do_compression=True)
        assert path.stat().st_size < 1000 * 400 * 8 / 600
        assert read_array_file(path).sum() == 400_000

    def test_what_is_no_array_of_numbers_in_a_mat_file_does_not_count(self, tmp_path: Path) -> None:
        content = {
            "x": VALUES,
            "sparse": scipy.sparse.eye(3),
            "cells": np.array([1, "a"], object),
            "note": "text",
            "settings": {"a": 1.0},
        }
        scipy.io.savemat(tmp_path / "a.mat", content)
        assert np.array_equal(read_array_file(tmp_path / "a.mat"), VALUES)
        for name in ("sparse", "cells", "note", "settings"):
            with pytest.raises(ValueError, match=f"its array {name} holds .* dense array"):
                read_array_file(tmp_path / "a.mat", name)


def broken() -> dict[str, tuple[bytes, str]]:
    """File name -> content, and words of the error."""
    whole = npy(VALUES)
    archive = io.BytesIO()
    np.savez_compressed(archive, x=VALUES)
    zipped = archive.getvalue()
    strange = io.BytesIO()
    with zipfile.ZipFile(strange, "w") as file:
        file.writestr("notes.txt", "no array")
    lying = io.BytesIO()
    with zipfile.ZipFile(lying, "w") as file:
        file.writestr("x.npy", header_of("(1000000000000000,)") + b"12345678")
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"x": VALUES})
    text = b"a note, no numbers: longer than any magic number"
    return {
        "empty.npy": (b"", "0 bytes"),
        "empty.npz": (b"", "0 bytes"),
        "empty.mat": (b"", "0 bytes"),
        "text.npy": (text, "is no .npy file"),
        "text.npz": (text, "is no .npz file"),
        "text.mat": (text, "damaged"),
        "one byte.npy": (whole[:1], "is no .npy file"),
        "magic alone.npy": (whole[:6], "damaged"),
        "half a header.npy": (whole[:40], "damaged"),
        "header alone.npy": (whole[:128], "96 bytes, but 0 bytes follow"),
        "cut.npy": (whole[:-1], "but 95 bytes follow"),
        "twice.npy": (whole + whole, "bytes follow"),
        "bomb.npy": (header_of("(1000000000000000,)") + b"12345678", "but 8 bytes follow"),
        "negative.npy": (header_of("(-1, 8)") + b"12345678", r"shape \(-1, 8\)"),
        "code.npy": (header_of("(exit(),)"), "damaged"),
        "pickled.npy": (npy(np.array([{"a": 1}], object)), "pickled"),
        "words.npy": (npy(np.array(["a", "b"])), "text; real numbers"),
        "fields.npy": (npy(np.zeros(3, [("a", "f4")])), "structured array"),
        "dates.npy": (npy(np.zeros(3, "M8[s]")), "dates"),
        "no entries.npy": (npy(np.zeros((3, 0, 4))), r"shape \(3, 0, 4\), without entries"),
        "renamed.npz": (whole, "it is a .npy file"),
        "renamed.npy": (zipped, "it is a zip archive"),
        "renamed.mat": (whole, "file of NumPy"),
        "cut.npz": (zipped[:150], "damaged"),
        "bomb.npz": (lying.getvalue(), "but 8 bytes follow"),
        "foreign zip.npz": (strange.getvalue(), "without arrays"),
        "hdf.mat": (b"MATLAB 7.3 MAT-file" + bytes(500), "-v7"),
        "cut.mat": (mat.getvalue()[:150], "damaged"),
    }


BROKEN = broken()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path: Path, name: str) -> None:
    """Also with a bomb nothing is allocated: 8 PB would be a MemoryError, another sentence."""
    content, message = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_array_file(path)
    assert str(error.value).startswith(f"cannot read {path}: ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(path))


def test_a_damaged_byte_in_the_middle_of_an_archive(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(50, 50)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="the file is damaged"):
        read_array_file(tmp_path / "a.npz")


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    """No length of a truncated file gives numbers."""
    archive = io.BytesIO()
    np.savez(archive, x=VALUES)
    for suffix, content in ((".npy", npy(VALUES)), (".npz", archive.getvalue())):
        path = tmp_path / f"a{suffix}"
        for length in range(0, len(content), 7):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match="cannot read"):
                read_array_file(path)


def test_several_arrays_are_named_with_their_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=VALUES, y=np.zeros(5))
    scipy.io.savemat(tmp_path / "a.mat", {"x": VALUES, "y": np.zeros((1, 5))})
    for name, shape in (("a.npz", r"\(5,\)"), ("a.mat", r"\(1, 5\)")):
        with pytest.raises(ValueError, match=rf"x \(3, 4\), y {shape}; name one with --array NAME"):
            read_array_file(tmp_path / name, option="--array NAME")
        with pytest.raises(ValueError, match=rf"no array 'z'; it holds x \(3, 4\), y {shape}"):
            read_array_file(tmp_path / name, "z")


def test_a_name_for_a_file_without_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(ValueError, match="without a name, but 'x' is asked for; leave out --array"):
        read_array_file(tmp_path / "a.npy", "x", "--array")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    for path, message in (
        (tmp_path / "none.npy", "there is no file"),
        (tmp_path / "folder.npy", "a folder"),
        (tmp_path / "a.txt", "ends in .npy, .npz or .mat"),
        (tmp_path / ("x" * 300 + ".npy"), "too long"),
    ):
        with pytest.raises(ValueError, match=message):
            read_array_file(path)
