"""A hash of all that a restoration depends on: files by their content, options, version."""

import errno
import hashlib
import json
import stat
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoresde.pipelines.settings import (
    IntervalOptions,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
)
from scoresde.priors.checkpoint import embedded_priors

__all__ = ["content_hash", "file_hash", "prior_key", "restoration_key"]

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
    return content_hash(path) if path.exists() else name


def restoration_key(
    image: Path,
    problem: ProblemOptions,
    options: RestoreOptions,
    prior: str,
    *,
    simulate: bool = False,
    interval: IntervalOptions | None = None,
    output: OutputOptions | None = None,
) -> str:
    """Hash all that the results of a restoration depend on.

    Args:
        image: The file that is restored.
        problem: How it was measured.
        options: How it is restored.
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
    own = asdict(options)
    for name in _WITHOUT_EFFECT:
        del own[name]
    content = {
        "version": version("scoresde"),
        "image": content_hash(image),
        "problem": asdict(problem) | {"file": _of_file(problem.problem)},
        "options": own | {"prior": prior},
        "simulate": simulate,
        "interval": asdict(interval),
        "output": asdict(output),
    }
    text = json.dumps(content, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Hash a file, or a folder with the names in it, such as an array of zarr.

    Args:
        path: Path of the file or folder.

    Returns:
        The hash.

    Raises:
        OSError: If a file cannot be read.
    """
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
    if not stat.S_ISREG(state.st_mode):  # a pipe or a device may have no end
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
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
        return content_hash(value)
    raise TypeError(f"{type(value).__name__} has no key")
