"""FITS, DICOM, NIfTI, HDF5, zarr and stacks of TIFF: right by value, damaged, or with odd parts."""

import functools
import json
import shutil

import numpy as np

from tests.odd_inputs.case import Case, Desk, Expectation, Outcome, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.damage import damaged, flipped
from tests.odd_inputs.instrument_files import STACK_AXES, WRITERS, counts

__all__ = ["RECIPES"]

_RANGE = "--range=0,4000"
_FILES = tuple(suffix for suffix in WRITERS if suffix != "zarr")


def _shown(values: np.ndarray, suffix: str) -> np.ndarray:
    """Grey levels; a slice of NIfTI has x along its rows."""
    grey = values * (255 / 4000)
    return grey.T if suffix.startswith("nii") else grey


def _flat(suffix: str, desk: Desk) -> Case:
    """A single picture."""
    values = counts(desk, *desk.size())
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    check = picture_is(desk.out, _shown(values, suffix))
    return Case(desk.restore(path, _RANGE), "right", (path.name,), check)


def _slice(suffix: str, form: str, desk: Desk) -> Case:
    """One place of a volume, counted from the start or the end, by name or number."""
    values = counts(desk, 4, *desk.size())
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    place = int(desk.rng.integers(4))
    named = STACK_AXES[suffix]
    axis = {"name": named, "capital": named.upper(), "number": "2" if "nii" in suffix else "0"}
    select = f"{axis.get(form, named)}={place - 4 if form == 'negative' else place}"
    check = picture_is(desk.out, _shown(values[place], suffix))
    return Case(desk.restore(path, _RANGE, "--select", select), "right", (path.name,), check)


def _volume(suffix: str, selected: str, desk: Desk) -> Case:
    """A range of a volume; all of it only where the file says which axis the slices have."""
    values = counts(desk, 4, *desk.size())
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    axis = STACK_AXES[suffix]
    more = {"all": (), "colon": ("--select", f"{axis}=:"), "part": ("--select", f"{axis}=1:")}
    count = 3 if selected == "part" else 4

    def check(outcome: Outcome) -> str | None:
        found = len(json.loads((desk.out / "report.json").read_text())["slices"])
        return None if found == count else f"{found} slices, must be {count}"

    unnamed = axis == "0" and selected == "all"
    expect: Expectation = "either" if unnamed else "right"
    command = desk.restore(path, _RANGE, *more[selected])
    return Case(command, expect, (path.name, "--select"), check, outputs=(desk.out,))


def _damaged(suffix: str, kind: str, desk: Desk) -> Case:
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", counts(desk, *desk.size()))
    path.write_bytes(damaged(desk, path.read_bytes(), kind))
    return Case(desk.restore(path, _RANGE), "refused", (path.name,), outputs=(desk.out,))


def _flipped(suffix: str, desk: Desk) -> Case:
    shape = (3, *desk.size()) if desk.rng.random() < 0.3 else desk.size()
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", counts(desk, *shape))
    path.write_bytes(flipped(desk, path.read_bytes()))
    names = (path.name, "--range", "--select", "measurement")
    return Case(desk.restore(path, _RANGE), "clean", names, outputs=(desk.out,))


def _renamed(suffix: str, other: str, desk: Desk) -> Case:
    """A file under the suffix of another format."""
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", counts(desk, *desk.size()))
    path = path.rename(desk.folder / f"scan.{other}")
    values = (path.name, "--range")
    return Case(desk.restore(path, _RANGE), "clean", values, outputs=(desk.out,))


def _folder(suffix: str, desk: Desk) -> Case:
    """A folder under the suffix of a file."""
    path = desk.folder / f"scan.{suffix}"
    path.mkdir()
    (path / "notes.txt").write_text("none")
    return Case(desk.restore(path, _RANGE), "refused", (path.name,), outputs=(desk.out,))


def _missing(suffix: str, desk: Desk) -> Case:
    path = desk.folder / f"scan.{suffix}"
    return Case(desk.restore(path, _RANGE), "refused", (path.name,), outputs=(desk.out,))


def _without_range(suffix: str, desk: Desk) -> Case:
    """Whole numbers of 16 bits have a full scale; what is read must be that, or refused."""
    values = counts(desk, *desk.size())
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    grey = values.T if suffix.startswith("nii") else values
    check = picture_is(desk.out, grey * (255 / 65535))
    names = ("--range", path.name)
    return Case(desk.restore(path), "either", names, check, outputs=(desk.out,))


_CONTENTS = ("nan", "all-nan", "inf", "constant", "negative", "one-pixel", "one-row", "empty")


def _content(suffix: str, kind: str, desk: Desk) -> Case:
    """Values that no picture has."""
    values = counts(desk, *desk.size()).astype(np.float32)
    values = {
        "constant": np.full_like(values, 7),
        "negative": -values,
        "one-pixel": values[:1, :1],
        "one-row": values[:1],
        "empty": values[:0],
    }.get(kind, values)
    if kind in ("nan", "inf"):
        values[3, 4] = float(kind)
    elif kind == "all-nan":
        values[:] = np.nan
    path = desk.folder / f"scan.{suffix}"
    if kind == "empty" and suffix in ("fits", "nii", "tif"):
        path.write_bytes(b"")
    else:
        WRITERS[suffix](path, values)
    expect: Expectation = "refused" if kind in ("nan", "all-nan", "inf", "empty") else "clean"
    names = (path.name, "measurement", "--range")
    return Case(desk.restore(path, _RANGE), expect, names, outputs=(desk.out,))


def _simulated(suffix: str, desk: Desk) -> Case:
    values = counts(desk, *desk.size())
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    check = picture_is(desk.out, _shown(values, suffix), 3.0)
    return Case(desk.restore(path, _RANGE, "--simulate"), "right", (path.name,), check)


def _as_mask(suffix: str, desk: Desk) -> Case:
    """A file of an instrument as the mask of a photograph."""
    values = counts(desk, 14, 17)
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    mask = WRITERS[suffix](desk.folder / f"mask.{suffix}", (values > 1000).astype(np.uint16))
    command = desk.restore(path, _RANGE, "--mask", mask, problem="inpaint")
    return Case(command, "clean", (mask.name, "--mask"), outputs=(desk.out,))


def _in_file_units(suffix: str, text: str, desk: Desk) -> Case:
    """--sigma in the values of the file."""
    values = counts(desk, *desk.size())
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", values)
    more = (_RANGE, "--sigma", text, "--sigma-units", "file")
    expect: Expectation = "right" if text == "4" else "refused"
    check = picture_is(desk.out, _shown(values, suffix))
    names = ("--sigma",)
    return Case(desk.restore(path, *more), expect, names, check, outputs=(desk.out,))


def _chunks(kind: str, desk: Desk) -> Case:
    """The folder of zarr without a part of it."""
    path = WRITERS["zarr"](desk.folder / "scan.zarr", counts(desk, *desk.size()))
    chunk = next(one for one in sorted(path.rglob("*")) if one.is_file() and one.parent != path)
    if kind == "missing":
        chunk.unlink()
    elif kind == "folder":
        chunk.unlink()
        chunk.mkdir()
    elif kind == "metadata":
        (path / "zarr.json").unlink()
    elif kind == "link":
        chunk.unlink()
        chunk.symlink_to("/etc/passwd")
    elif kind == "loop":
        chunk.unlink()
        chunk.symlink_to(chunk.name)
    elif kind == "nested":
        shutil.copytree(path, desk.folder / "more.zarr")
        shutil.move(desk.folder / "more.zarr", path / "c" / "more.zarr")
    else:
        chunk.write_bytes(damaged(desk, chunk.read_bytes(), kind))
    # what is not there has the fill value, as zarr says
    expect: Expectation = "clean" if kind in ("missing", "nested", "folder") else "refused"
    names = (path.name, "--range")
    return Case(desk.restore(path, _RANGE), expect, names, outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{f"flat-{suffix}": functools.partial(_flat, suffix) for suffix in WRITERS},
    **{
        f"slice-{form}-{suffix}": functools.partial(_slice, suffix, form)
        for suffix in WRITERS
        for form in ("name", "capital", "number", "negative")
    },
    **{
        f"volume-{selected}-{suffix}": functools.partial(_volume, suffix, selected)
        for suffix in WRITERS
        for selected in ("all", "colon", "part")
    },
    **{
        f"{kind}-{suffix}": functools.partial(_damaged, suffix, kind)
        for suffix in _FILES
        for kind in ("empty", "cut", "garbage", "zeros", "text", "page")
    },
    **{
        f"flipped-{number}-{suffix}": functools.partial(_flipped, suffix)
        for suffix in _FILES
        for number in range(3)
    },
    **{
        f"renamed-{suffix}-to-{other}": functools.partial(_renamed, suffix, other)
        for suffix in ("fits", "nii", "dcm", "h5", "zarr.zip", "tif")
        for other in ("fits", "nii.gz", "dcm", "h5", "zarr.zip", "zarr", "tif", "png", "npy", "mat")
        if other != suffix
    },
    **{
        f"folder-{suffix}": functools.partial(_folder, suffix)
        for suffix in ("fits", "nii.gz", "dcm", "h5", "zarr", "zarr.zip")
    },
    **{f"missing-{suffix}": functools.partial(_missing, suffix) for suffix in WRITERS},
    **{f"without-range-{suffix}": functools.partial(_without_range, suffix) for suffix in WRITERS},
    **{
        f"content-{kind}-{suffix}": functools.partial(_content, suffix, kind)
        for suffix in ("fits", "nii", "h5", "zarr")
        for kind in _CONTENTS
        if (suffix, kind) not in (("h5", "empty"), ("zarr", "empty"))
    },
    **{f"simulated-{suffix}": functools.partial(_simulated, suffix) for suffix in WRITERS},
    **{f"as-mask-{suffix}": functools.partial(_as_mask, suffix) for suffix in WRITERS},
    **{
        f"sigma-{text}-in-{suffix}": functools.partial(_in_file_units, suffix, text)
        for suffix in ("fits", "dcm", "h5")
        for text in ("4", "nan", "-4", "x", "inf")
    },
    **{
        f"zarr-chunk-{kind}": functools.partial(_chunks, kind)
        for kind in (
            *("missing", "folder", "metadata", "link", "loop", "nested"),
            *("empty", "cut", "garbage", "text"),
        )
    },
}
"""Recipes by name."""
