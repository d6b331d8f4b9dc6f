"""What a result was made of, so that it is not made again."""

import json
from pathlib import Path

from scoresde.files import write_json
from scoresde.pipelines.content_hash import prior_key, restoration_key
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.settings import IntervalOptions, OutputOptions

__all__ = ["DONE", "content_key", "is_done", "mark_done", "prior_key"]

DONE = "done.json"
"""Name of the file that is written last. It tells what the results were made of."""

FORMAT = "scoresde.done/1"


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
    return restoration_key(
        job.image,
        job.problem,
        job.options,
        prior,
        simulate=simulate,
        interval=interval,
        output=output,
    )


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
