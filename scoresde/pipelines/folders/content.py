"""What a result was made of, so that it is not made again."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoresde.files import write_json
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.settings import IntervalOptions, OutputOptions
from scoresde.priors.checkpoint import embedded_priors

__all__ = ["DONE", "content_key", "is_done", "mark_done", "prior_key"]

DONE = "done.json"
"""Name of the file that is written last. It tells what the results were made of."""

FORMAT = "scoresde.done/1"

_WITHOUT_EFFECT = ("device", "batch")
"""Options that change no result beyond rounding."""


def prior_key(name: str) -> str:
    """Hash the weights behind the name of a prior.

    Args:
        name: As in :class:`scoresde.pipelines.settings.RestoreOptions`.

    Returns:
        The hash; the name itself if it stands for no file.
    """
    embedded = embedded_priors()
    path = Path(embedded[name]) if name in embedded else Path(name.partition(":")[2] or name)
    return _hash(path) if path.exists() else name


def content_key(
    job: Job,
    prior: str,
    *,
    simulate: bool = False,
    interval: IntervalOptions | None = None,
    output: OutputOptions | None = None,
) -> str:
    """Hash all that the results of a job depend on: files by their content, options, version.

    Args:
        job: The job.
        prior: Key of its prior, see :func:`prior_key`.
        simulate: Whether the picture is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.

    Returns:
        The hash.

    Raises:
        OSError: If a file cannot be read.
    """
    interval, output = interval or IntervalOptions(), output or OutputOptions()
    options = asdict(job.options)
    for name in _WITHOUT_EFFECT:
        del options[name]
    content = {
        "version": version("scoresde"),
        "image": _hash(job.image),
        "problem": asdict(job.problem) | {"file": _of_file(job.problem.problem)},
        "options": options | {"prior": prior},
        "simulate": simulate,
        "interval": asdict(interval),
        "output": asdict(output),
    }
    text = json.dumps(content, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def is_done(folder: Path, key: str) -> bool:
    """Tell whether a folder holds whole results of this key.

    Args:
        folder: Folder of the results.
        key: See :func:`content_key`.

    Returns:
        True if every file is there and as long as it was written.
    """
    try:
        done = json.loads((folder / DONE).read_text())
        if done["format"] != FORMAT or done["key"] != key:
            return False
        return all((folder / name).stat().st_size == size for name, size in done["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def mark_done(folder: Path, key: str, files: list[str]) -> None:
    """Write down that the results of a folder are whole.

    Args:
        folder: Folder of the results.
        key: See :func:`content_key`.
        files: Names of the files.
    """
    sizes = {name: (folder / name).stat().st_size for name in files}
    write_json({"format": FORMAT, "key": key, "files": sizes}, folder / DONE)


def _hash(path: Path) -> str:
    """Hash a file, or a folder with the names in it, such as an array of zarr."""
    if not path.is_dir():
        return file_hash(path)
    files = [one for one in sorted(path.rglob("*")) if one.is_file()]
    parts = [f"{one.relative_to(path).as_posix()}\0{file_hash(one)}\n" for one in files]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Hash the content of a file; that of one that has not changed since is remembered.

    Args:
        path: Path of the file.

    Returns:
        The hash.

    Raises:
        OSError: If it cannot be read.
    """
    state = path.stat()
    return _file_hash(path, state.st_size, state.st_mtime_ns, state.st_ino)


@cache
def _file_hash(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_file(problem: str) -> str | None:
    """Hash of a problem.json."""
    return file_hash(Path(problem)) if Path(problem).is_file() else None


def _plain(value: Any) -> str:
    """A path as the content of its file: masks, kernels, calibrations."""
    if isinstance(value, Path):
        return file_hash(value)
    raise TypeError(f"{type(value).__name__} has no key")
