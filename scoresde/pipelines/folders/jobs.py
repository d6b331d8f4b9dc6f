"""Which pictures are to be restored, and where each result goes."""

import csv
import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from problems.checks import unknown
from problems.reading.sources import INSTRUMENT_SUFFIXES
from problems.reading.zarr_arrays import is_zarr
from scoresde.data.datasets import SUFFIXES
from scoresde.errors import InputError
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions

__all__ = ["Job", "list_jobs", "names_many"]

_ARRAYS = frozenset({".npy", ".npz", ".mat"})
_MANIFEST = ".csv"
_OF_ALL = frozenset({"prior", "device", "precision", "average", "tile", "batch"})
"""Options of the one model in memory: not for a single row."""


@dataclass(frozen=True)
class Job:
    """A picture to be restored.

    Args:
        image: File of the picture or measurement.
        name: Folder of its results, below that of the run.
        problem: How it was measured.
        options: How it is restored.
    """

    image: Path
    name: str
    problem: ProblemOptions
    options: RestoreOptions


def names_many(source: str | Path) -> bool:
    """Tell whether a name stands for many pictures.

    Args:
        source: Path of a file or folder, or a pattern such as ``"photos/*.png"``.

    Returns:
        True for folders, manifests (.csv), and patterns that are no file of this name.

    Example:
        >>> names_many("photos/*.png"), names_many("photo.png")
        (True, False)
    """
    path = Path(source)
    if path.is_dir() or path.suffix.lower() == _MANIFEST:
        return True
    return glob.has_magic(str(source)) and not path.exists()


def list_jobs(
    source: str | Path,
    problem: ProblemOptions,
    options: RestoreOptions,
    outside: Path | None = None,
) -> list[Job]:
    """List the pictures of a folder, a pattern or a manifest, sorted by path.

    A manifest is a CSV file with a line of headings. The column ``image`` has the paths, relative
    to the manifest. Further columns are options of ``scoresde restore`` by name, such as ``mask``,
    ``kernel``, ``sigma`` or ``scale``; an empty cell leaves the option as it is for all.

    Args:
        source: Path of a folder, with its subfolders; a pattern such as ``"photos/**/*.png"``; or
            the path of a manifest.
        problem: How the pictures were measured, where a row does not say otherwise.
        options: How they are restored, likewise.
        outside: Folder of the results. Pictures in it are not restored again.

    Returns:
        A job for each picture. Its results go to the path of the picture below the folder, without
        the suffix; with it where two pictures differ in the suffix alone.

    Raises:
        InputError: If nothing is found, or a manifest cannot be read.
    """
    path = Path(source)
    if path.suffix.lower() == _MANIFEST and not path.is_dir():
        rows = list(_manifest_rows(path, problem, options))
        base = path.parent
    elif path.is_dir():
        rows = [(one, problem, options) for one in _pictures(path, outside)]
        base = path
    else:
        found = sorted(map(Path, glob.glob(str(source), recursive=True)))
        rows = [(one, problem, options) for one in found if one.is_file() or is_zarr(one)]
        base = Path(_fixed_part(str(source)))
    if not rows:
        raise InputError(f"no pictures in {source}; check the path, or put a pattern in quotes")
    names = _names([image for image, _, _ in rows], base)
    return [
        Job(image, name, task, how) for (image, task, how), name in zip(rows, names, strict=True)
    ]


def _pictures(folder: Path, outside: Path | None) -> list[Path]:
    """Files of pictures and arrays below a folder, hidden ones excepted."""
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"cannot read the folder {folder}: change its permissions")
    apart = outside.resolve() if outside is not None else None
    if apart == folder.resolve():
        raise InputError(f"--out {outside} is the folder of the pictures; choose another one")
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        known = path.suffix.lower() in SUFFIXES | _ARRAYS
        known = known or path.name.lower().endswith(INSTRUMENT_SUFFIXES)
        if not known or hidden or not (path.is_file() or is_zarr(path)):
            continue
        if apart is not None and apart in path.resolve().parents:
            continue
        found.append(path)
    return found


def _fixed_part(pattern: str) -> str:
    """The folder of a pattern above its first wildcard."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:fixed])) if fixed else "."


def _names(images: list[Path], base: Path) -> list[str]:
    """Where the results of each picture go."""
    inside = [_below(image, base) for image in images]
    for image, path in zip(images, inside, strict=True):
        if not path.name:
            raise InputError(f"{image} is the folder itself; name the pictures in it")
    count = Counter(str(path.with_suffix("")) for path in inside)
    names = [
        str(path.with_suffix("")) if count[str(path.with_suffix(""))] == 1 else str(path)
        for path in inside
    ]
    again = [name for name, n in Counter(names).items() if n > 1]
    if again:
        raise InputError(f"{again[0]} is named twice; name every picture once")
    return names


def _below(image: Path, base: Path) -> Path:
    """The path of a picture relative to a folder; its name alone if it lies elsewhere."""
    try:
        return image.resolve().relative_to(base.resolve())
    except ValueError:
        return Path(image.name)


def _manifest_rows(
    path: Path, problem: ProblemOptions, options: RestoreOptions
) -> Iterator[tuple[Path, ProblemOptions, RestoreOptions]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _columns(path, reader.fieldnames)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise InputError(f"{where} has more cells than there are headings")
                cells = {name: (row[name] or "").strip() for name in columns}
                if any("\0" in cell for cell in cells.values()):
                    raise InputError(f"{where} has a cell with a character of code 0")
                image = cells.pop("image")
                if not image:
                    raise InputError(f"{where} names no image")
                given = {
                    name: _value(name, cell, path.parent, where)
                    for name, cell in cells.items()
                    if cell
                }
                task = {name: one for name, one in given.items() if name in _types(ProblemOptions)}
                how = {name: one for name, one in given.items() if name not in task}
                yield path.parent / image, replace(problem, **task), replace(options, **how)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the manifest {path}: {reason}") from None


def _columns(path: Path, found: Any) -> list[str]:
    names = [name.strip() for name in found or ()]
    if "image" not in names:
        raise InputError(f"{path} needs a line of headings with the column image, got {names}")
    known = ["image", *_types(ProblemOptions), *_types(RestoreOptions)]
    for name in names:
        if name in _OF_ALL:
            raise InputError(f"{path}: --{name} is for all pictures; give it on the command line")
        if name not in known:
            allowed = [one for one in known if one not in _OF_ALL]
            raise InputError(f"{path}: {unknown('column', name, allowed)}")
    if list(found) != names or len(set(names)) < len(names):
        raise InputError(f"{path}: write each heading once, without blanks around it")
    return names


def _types(options: type) -> dict[str, Any]:
    """Type of each option, without "or None" and single words; str where only words are known."""
    hints = get_type_hints(options)
    return {
        one.name: next(
            (t for t in _parts(hints[one.name]) if t is not NoneType and get_origin(t) != Literal),
            str,
        )
        for one in fields(options)
    }


def _words(name: str) -> list[str]:
    """The words that an option takes, such as "auto"; none if it takes any text, or numbers."""
    hints = get_type_hints(ProblemOptions) | get_type_hints(RestoreOptions)
    return [word for t in _parts(hints[name]) if get_origin(t) == Literal for word in get_args(t)]


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _value(name: str, cell: str, folder: Path, where: str) -> Any:
    """A cell as the type of its option."""
    kind = (_types(ProblemOptions) | _types(RestoreOptions))[name]
    words = _words(name)
    if cell in words:
        return cell
    if kind is Path:
        return folder / cell
    if words and kind is str:
        raise InputError(f"{where}: {unknown(name, cell, words)}")
    if kind is bool:
        if cell.lower() not in ("yes", "no", "true", "false", "1", "0"):
            raise InputError(f"{where}: {name} must be yes or no, got {cell!r}")
        return cell.lower() in ("yes", "true", "1")
    if name in ("set", "select"):
        return tuple(cell.split())
    try:
        return kind(cell)
    except ValueError:
        what = " or ".join(["a whole number" if kind is int else "a number", *words])
        raise InputError(f"{where}: {name} must be {what}, got {cell!r}") from None
