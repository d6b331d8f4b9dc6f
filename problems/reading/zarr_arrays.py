"""Arrays of zarr, versions 2 and 3, by zarr-python: a folder, or a .zip of one."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from problems.reading.array_source import ArraySource, library, numbers_only
from problems.reading.refusal import RefusalError

__all__ = ["is_zarr", "open_zarr"]

_MARKS = ("zarr.json", ".zarray", ".zgroup")
_MOST_TEXT = 64 << 20
"""Bytes of a description of an array; those of whole hierarchies are a few megabytes."""


def is_zarr(path: Path) -> bool:
    """Whether a path is an array or group of zarr: a folder with its marks, or a .zarr.zip."""
    if path.is_dir():
        return any((path / mark).is_file() for mark in _MARKS)
    return path.name.lower().endswith(".zarr.zip") and path.is_file()


def open_zarr(path: Path, key: str | None = None, option: str = "--array NAME") -> ArraySource:
    """Open an array of zarr.

    Args:
        path: Path of the folder or .zarr.zip.
        key: Path of the array in a group; None for the only one.
        option: How the user names an array, for the error.

    Returns:
        The array. Its axes have the names of version 3, of xarray, or of OME-NGFF.

    Raises:
        RefusalError: If zarr is missing, or there is no such array. zarr raises errors of many
            types on damaged files.
    """
    zarr = library("zarr", "zarr")
    if path.is_file():
        _check_archive(path)
    store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path)
    root = zarr.open(store, mode="r")
    found: dict[str, Any] = {"": root} if isinstance(root, zarr.Array) else _arrays(zarr, root)
    listed = ", ".join(f"{name} {one.shape}" for name, one in found.items()) or "nothing"
    name = "" if key is None else key.strip("/")
    if key is None and "" not in found:
        # of a pyramid of OME-NGFF the first one has the full resolution
        levels = _multiscales(root)
        name = levels["datasets"][0]["path"] if levels else next(iter(found), "")
        if levels is None and len(found) != 1:
            few = f"it holds several arrays, {listed}; name one with {option}"
            raise RefusalError(few if found else "it holds no array")
    if name not in found:
        raise RefusalError(f"it has no array {name!r}; it holds {listed}")
    data = found[name]
    shape, dtype = tuple(int(n) for n in data.shape), np.dtype(data.dtype)
    numbers_only(dtype, shape)
    unit = data.attrs.get("units")
    return ArraySource(
        path,
        f"zarr, {dtype}",
        shape,
        dtype.newbyteorder("="),
        lambda block: np.asarray(data[block]),
        _axes(data, root, len(shape)),
        unit if isinstance(unit, str) and unit else None,
        facts={"array": name},
    )


def _check_archive(path: Path) -> None:
    """Refuse an archive whose entries do not fit into the memory; none is read whole before."""
    import psutil

    free = psutil.virtual_memory().available
    with zipfile.ZipFile(path) as file:
        for entry in file.infolist():
            description = Path(entry.filename).name in (*_MARKS, ".zattrs", ".zmetadata")
            limit = min(_MOST_TEXT, free) if description else free
            if entry.file_size > limit:
                raise RefusalError(
                    f"its entry {entry.filename!r:.80} takes {entry.file_size / 1e9:.3g} GB when "
                    "it is unpacked"
                )


def _arrays(zarr: Any, group: Any) -> dict[str, Any]:
    members = sorted(group.members(max_depth=None), key=lambda member: member[0])
    return {name: one for name, one in members if isinstance(one, zarr.Array)}


def _multiscales(root: Any) -> Any:
    attributes = dict(root.attrs)
    levels = attributes.get("ome", attributes).get("multiscales")
    return levels[0] if isinstance(levels, list) and levels else None


def _axes(data: Any, root: Any, count: int) -> tuple[str, ...]:
    stated = getattr(data.metadata, "dimension_names", None) or data.attrs.get("_ARRAY_DIMENSIONS")
    levels = _multiscales(root)
    if stated is None and levels is not None:
        stated = [one["name"] if isinstance(one, dict) else one for one in levels.get("axes", ())]
    names = tuple(str(one).lower() for one in stated or () if one)
    return names if len(names) == count == len(set(names)) else ()
