"""Arrays of numbers in .npy, .npz and .mat files.

Every array file of a user comes through :func:`read_array_file`. Nothing is unpickled, and no
memory is taken before the size that a header claims is compared with the size of the file. What
cannot be read is an error: nothing is guessed from damaged files.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from problems.reading.hdf5 import is_hdf5, open_hdf5
from problems.reading.matlab import mat_variables, read_mat
from problems.reading.refusal import RefusalError

__all__ = ["SUFFIXES", "map_npy", "read_array_file"]

SUFFIXES = (".npy", ".npz", ".mat")
"""Suffixes of array files, in lower case."""

_MAGIC = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class _Entry:
    """One array of a file.

    Args:
        name: Name of the array; empty in a .npy file.
        shape: Shape.
        kind: Data type in words.
        fault: Why it is no array of numbers; None if it is one.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    fault: str | None

    def __str__(self) -> str:
        return f"{self.name} {self.shape}" if self.fault is None else f"{self.name} ({self.fault})"


def read_array_file(
    path: str | Path, key: str | None = None, option: str = "the argument key"
) -> np.ndarray:
    """Read one array of numbers from a file.

    Args:
        path: Path of a .npy, .npz or .mat file (MATLAB 4 to 7.3, the last by h5py); the suffix
            may be in capitals.
        key: Name of the array in a .npz or .mat file; None if it holds one array of numbers. What
            is no dense array of numbers (text, cells, structs, sparse matrices) does not count.
        option: How the user names an array, for the error, such as "--array NAME".

    Returns:
        The array as it is stored (bool, whole, real or complex numbers, any number of axes), in the
        byte order of this machine. Extended precision becomes double precision, as torch has no
        other.

    Raises:
        ValueError: If the file is missing or damaged, is another kind of file, holds no array of
            numbers or an empty one, or holds several and no key is given.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from problems.reading.arrays import read_array_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "data.npz"
        ...     np.savez(path, kernel=np.ones((3, 3)), mask=np.eye(2))
        ...     read_array_file(path, "mask")
        array([[1., 0.],
               [0., 1.]])
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"cannot read {path}: an array file ends in {', '.join(SUFFIXES[:-1])} or .mat"
        )
    _check_file(path)
    try:
        array = {".npy": _read_npy, ".npz": _read_npz, ".mat": _read_mat}[suffix](path, key, option)
    except RefusalError as refused:
        raise ValueError(f"cannot read {path}: {refused}") from None
    except MemoryError:
        raise ValueError(
            f"cannot read {path}: its array does not fit into the memory; save a part of it"
        ) from None
    # numpy, zipfile and scipy raise errors of many types on damaged files
    except Exception as error:
        raise ValueError(
            f"cannot read {path}: the file is damaged, or no {suffix} file ({_sentence(error)}); "
            "write it again"
        ) from None
    return _native(array)


def _check_file(path: Path) -> None:
    """Refuse what is no file with content, before a parser sees it."""
    try:
        if path.is_dir():
            raise ValueError(f"cannot read {path}: it is a folder; name a file in it")
        if not path.exists():
            raise ValueError(f"there is no file {path}")
        if not path.is_file():
            raise ValueError(f"cannot read {path}: it is no ordinary file; copy its content to one")
        if path.stat().st_size == 0:
            raise ValueError(f"cannot read {path}: the file is empty (0 bytes); write it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None


def _sentence(error: Exception) -> str:
    """The first line of an error without a full stop, or its type if it has no short one."""
    lines = str(error).splitlines()
    readable = bool(lines) and 0 < len(lines[0]) < 200  # some repeat the bytes of the file
    return lines[0].rstrip(". ") if readable else type(error).__name__


def _native(array: np.ndarray) -> np.ndarray:
    """The array in the byte order of the machine; extended precision as double."""
    if array.dtype.kind in "fc" and array.dtype.itemsize > {"f": 8, "c": 16}[array.dtype.kind]:
        return array.astype(np.float64 if array.dtype.kind == "f" else np.complex128)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _fault(dtype: np.dtype, shape: tuple[int, ...]) -> str | None:
    """Why an array of this type and shape holds no numbers."""
    if dtype.hasobject:
        return "pickled Python objects; real numbers are needed"
    if dtype.kind not in "biufc":
        kinds = {"V": "a structured array", "S": "text", "U": "text", "m": "times", "M": "dates"}
        return f"{kinds.get(dtype.kind, str(dtype))}; real numbers are needed"
    if 0 in shape:
        return f"an array of shape {shape}, without entries"
    return None


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an array in NumPy's format and compare it with the bytes that follow.

    Args:
        file: The file at its beginning.
        size: Size of the whole array in NumPy's format, in bytes.

    Returns:
        Shape and type; after it the file is at the first entry.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise RefusalError(f"it has the format version {version}, which is not known")
    # 3.0 differs from 2.0 in names of fields beyond Latin letters alone, and those are refused
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if min(shape, default=1) < 0:
        raise RefusalError(f"its header states the shape {shape}; write the file again")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if not dtype.hasobject and needed != there:  # the size of a pickle is not in the header
        raise RefusalError(
            f"its header states {dtype} {shape}, {needed} bytes, but {there} bytes follow; "
            "copy or write the file again"
        )
    return shape, dtype


def map_npy(path: Path) -> np.ndarray:
    """Map the array of a .npy file into memory, after the same checks as before reading it.

    Args:
        path: Path of the file.

    Returns:
        The array, read-only.

    Raises:
        RefusalError: If the file is no whole .npy file of numbers.
    """
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
        if start != _MAGIC:
            raise RefusalError(_foreign(start, ".npy"))
        file.seek(0)
        shape, dtype = _header(file, path.stat().st_size)
    if fault := _fault(dtype, shape):
        raise RefusalError(f"it holds {fault}")
    mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _read_npy(path: Path, key: str | None, option: str) -> np.ndarray:
    """Read a .npy file, which holds one array without a name."""
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
        if start != _MAGIC:
            raise RefusalError(_foreign(start, ".npy"))
        if key is not None:
            raise RefusalError(
                f"a .npy file holds one array without a name, but {key!r} is asked for; "
                f"leave out {option}"
            )
        file.seek(0)
        shape, dtype = _header(file, path.stat().st_size)
        if fault := _fault(dtype, shape):
            raise RefusalError(f"it holds {fault}")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: Path, key: str | None, option: str) -> np.ndarray:
    """Read one array of a .npz file, a zip archive of .npy files."""
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if not start.startswith((_ZIP, b"PK\x05\x06")):  # the second is an empty archive
        raise RefusalError(_foreign(start, ".npz"))
    with zipfile.ZipFile(path) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        if not members:
            raise RefusalError("it is a zip archive without arrays; write it with numpy.savez")
        entries = []
        for name, info in members.items():
            with archive.open(info) as member:
                shape, dtype = _header(member, info.file_size)
            entries.append(_Entry(name, shape, str(dtype), _fault(dtype, shape)))
        chosen = _choose(entries, key, option)
        with archive.open(members[chosen.name]) as member:
            return np.lib.format.read_array(member, allow_pickle=False)


def _read_mat(path: Path, key: str | None, option: str) -> np.ndarray:
    """Read one variable of a .mat file; that of MATLAB 7.3 is HDF5."""
    if is_hdf5(path):
        source = open_hdf5(path, key, option)
        source.check_memory()
        return source.load(tuple(slice(None) for _ in source.shape))
    entries = []
    for name, shape, kind in mat_variables(path):
        numeric = kind in ("double", "single", "logical") or kind.lstrip("u").startswith("int")
        fault = f"{kind}; a dense array of numbers is needed" if not numeric else None
        if numeric and 0 in shape:
            fault = f"an array of shape {shape}, without entries"
        entries.append(_Entry(name, shape, kind, fault))
    if not entries:
        raise RefusalError("it holds no variables")
    return read_mat(path, _choose(entries, key, option).name)


def _foreign(start: bytes, suffix: str) -> str:
    """Say what a file is that is not what its suffix says."""
    if start.startswith(_ZIP):
        return f"it is a zip archive, no {suffix} file; if it is a .npz file, give it that suffix"
    if start.startswith(_MAGIC):
        return f"it is a .npy file, no {suffix} file; give it that suffix"
    return f"it is no {suffix} file; write it with numpy.save{'z' if suffix == '.npz' else ''}"


def _choose(entries: list[_Entry], key: str | None, option: str) -> _Entry:
    """Choose the array of a name, or the only one."""
    listed = ", ".join(map(str, entries))
    if key is not None:
        for entry in entries:
            if entry.name == key:
                if entry.fault:
                    raise RefusalError(f"its array {key} holds {entry.fault}")
                return entry
        raise RefusalError(f"it has no array {key!r}; it holds {listed}")
    sound = [entry for entry in entries if entry.fault is None]
    if not sound:
        raise RefusalError(f"it holds no array of numbers, only {listed}")
    if len(sound) > 1:
        raise RefusalError(f"it holds several arrays, {listed}; name one with {option}")
    return sound[0]
