"""posterior.npz: the numbers of a restoration, of which its pictures are views."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from problems.storage import release
from scoresde.errors import InputError
from scoresde.files import json_safe, write_atomically
from solvers import Posterior

__all__ = ["FORMAT", "POSTERIOR", "read_posterior", "write_posterior"]

FORMAT = "scoresde.posterior/1"
"""Name and version of the format."""

POSTERIOR = "posterior.npz"
"""Name of the file in the folder of a run."""

_AXES = ["channel", "row", "column"]

_NAME_LENGTH = 26  # place of the lengths of name and extra field in the header of a zip member


def write_posterior(
    path: Path,
    posterior: Posterior,
    ends: tuple[Tensor, Tensor] | None,
    header: dict[str, Any],
    *,
    draws: bool = True,
    slices: tuple[Sequence[str], Sequence[int]] | None = None,
) -> None:
    """Write mean, standard deviation, interval and draws of one measurement or stack, float32.

    Args:
        path: Path of the file.
        posterior: Draws (n, N, C, H, W) on [-1, 1]; N is 1 except of a stack.
        ends: Lower and upper ends (N, C, H, W) of the interval of every value; None for one draw.
        header: What else is known, in plain values.
        draws: Whether the draws are written too.
        slices: Names and lengths of the axes of the slices, of product N; None without a stack.

    Raises:
        InputError: If the file cannot be written.
    """
    arrays = {"mean": posterior.mean}
    if len(posterior.draws) > 1:
        arrays["std"] = posterior.std
    if ends is not None:
        arrays |= {"lower": ends[0], "upper": ends[1]}
    if draws:
        arrays["draws"] = posterior.draws
    names, lengths = ([], []) if slices is None else slices
    arrays = {
        name: one.reshape(*one.shape[: one.ndim - 4], *lengths, *one.shape[-3:])
        for name, one in arrays.items()
    }
    axes = {name: ["draw"] * (name == "draws") + [*names, *_AXES] for name in arrays}
    whole = {"format": FORMAT, "units": "-1 is black, 1 is white", "axes": axes, **header}
    text = json.dumps(json_safe(whole), ensure_ascii=True)
    numbers: dict[str, Any] = {
        name: one.detach().cpu().float().numpy() for name, one in arrays.items()
    }

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
            _write_member(file, "header", np.array(text))
            for name, values in numbers.items():
                _write_member(file, name, values, arrays[name])

    write_atomically(path, write)


def _write_member(
    file: zipfile.ZipFile, name: str, values: np.ndarray, tensor: Tensor | None = None
) -> None:
    """Write an array as numpy.savez does, along its first axis: draws may lie in a file."""
    values = np.asarray(values, order="C")
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = np.lib.format.header_data_from_array_1_0(values)
        np.lib.format.write_array_header_1_0(member, header)
        for part in values if values.ndim else [values]:
            member.write(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
            if tensor is not None:
                release(tensor)


def read_posterior(
    path: str | Path, values: Literal["picture", "file"] = "picture", *, lazily: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a posterior.npz.

    Args:
        path: Path of the file.
        values: "picture" for the numbers as they are stored, on [-1, 1]; "file" for the values of
            the restored file, in the unit `file_units` of the header if it is known.
        lazily: Leave the arrays in the file, of which parts are read where they are used
            (:class:`numpy.memmap`, read-only): draws of large pictures need not fit the memory.

    Returns:
        The arrays, float32 on [-1, 1]: "mean" (C, H, W), and where the file has them "std",
        "lower", "upper" (C, H, W) and "draws" (n, C, H, W); and the header. Of a stack the axes of
        the slices come before C; the header names all axes. A value v is
        ``black + (v + 1) / 2 * (white - black)`` in the units of the restored file, with `black`
        and `white` of the header.

    Raises:
        InputError: If the file is missing, damaged, or no posterior of a version that is known.
        ValueError: If values of the file are asked for lazily: they have to be computed.
    """
    if lazily and values == "file":
        raise ValueError("read lazily, the arrays have the values of the picture, on [-1, 1]")
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            names = [name for name in file.files if name != "header"]
            arrays = {name: _mapped(path, name) if lazily else file[name] for name in names}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no posterior.npz of a restoration ({reason})") from None
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        raise InputError(f"{path} has the format {found!r}, this version reads {FORMAT!r}")
    if values == "file":
        low, half = header["black"], (header["white"] - header["black"]) / 2
        arrays = {
            name: (half * one if name == "std" else low + (one.astype(np.float64) + 1) * half)
            for name, one in arrays.items()
        }
        arrays = {name: one.astype(np.float32) for name, one in arrays.items()}
    return arrays, header


def _mapped(path: Path, name: str) -> np.ndarray:
    """An array of a .npz, left in the file, where it lies in one piece."""
    with zipfile.ZipFile(path) as file:
        place = file.getinfo(f"{name}.npy")
    if place.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, read it without lazily=True")
    with path.open("rb") as raw:
        raw.seek(place.header_offset + _NAME_LENGTH)
        raw.seek(sum(struct.unpack("<HH", raw.read(4))), os.SEEK_CUR)
        if np.lib.format.read_magic(raw) != (1, 0):
            raise ValueError(f"{name} is no array of version 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(raw)
        return np.memmap(raw, dtype, "r", raw.tell(), shape, "F" if fortran else "C")
