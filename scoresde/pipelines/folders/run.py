"""All pictures of a folder: what is done is kept, what is bad is listed, a second run refused."""

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scoresde.errors import InputError
from scoresde.files import check_writable, write_atomically, write_json
from scoresde.pipelines.folders.content import prior_key
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.folders.one import Row, Settings, perform
from scoresde.pipelines.folders.workers import perform_on_workers
from scoresde.pipelines.settings import IntervalOptions, OutputOptions
from scoresde.pipelines.workers import Workers

__all__ = ["SUMMARY", "FolderOptions", "FolderResult", "Row", "alone", "restore_folder"]

SUMMARY = "summary"
"""Name of the table of a run, as .csv and as .json."""

FORMAT = "scoresde.folder-report/1"

_LOCK = ".lock"
_EVERY = 10.0  # seconds between writings of the summary


@dataclass(frozen=True)
class FolderOptions:
    """Who restores the pictures.

    Args:
        workers: Processes on this machine; 1 for this process alone.
        scheduler: Address of a scheduler of Dask, such as "tcp://head:8786".
    """

    workers: int = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class FolderResult:
    """What became of the pictures.

    Args:
        rows: A line for each, in the order of the jobs. Pictures that an interruption left are
            missing.
        report: The same in plain values, with the counts.
    """

    rows: tuple[Row, ...]
    report: dict[str, Any]

    def of(self, status: str) -> tuple[Row, ...]:
        """Select rows.

        Args:
            status: "restored", "kept" or "failed".

        Returns:
            The rows of this status.
        """
        return tuple(row for row in self.rows if row.status == status)


def restore_folder(
    jobs: list[Job],
    out: Path,
    *,
    simulate: bool = False,
    interval: IntervalOptions | None = None,
    output: OutputOptions | None = None,
    options: FolderOptions | None = None,
    progress: Callable[[float], None] | None = None,
    say: Callable[[Row], None] | None = None,
) -> FolderResult:
    """Restore pictures, each into a folder of its own, and write summary.csv and summary.json.

    Results that are whole and made of the same content (picture, mask, kernel, options, weights,
    version) are kept. A picture that cannot be restored is listed, and the others go on. After an
    interruption the same call goes on with what is missing. Results do not depend on the number of
    workers.

    Args:
        jobs: The pictures, see :func:`list_jobs`.
        out: Folder of the results.
        simulate: Each picture is the truth and is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.
        options: Who does the work.
        progress: Called with the finished fraction of all pictures.
        say: Called with each row, as it is finished.

    Returns:
        The rows and the report.

    Raises:
        InputError: If the folder cannot be written to, another process works in it, or an option
            cannot be used.
    """
    options = options or FolderOptions()
    if options.workers < 1:
        raise InputError(f"--workers must be at least 1, got {options.workers}")
    check_writable(out)
    start = time.perf_counter()
    settings = Settings(
        out,
        prior_key(jobs[0].options.prior) if jobs else "",
        simulate,
        interval or IntervalOptions(),
        output or OutputOptions(),
    )
    done: dict[str, Row] = {}
    with alone(out):
        written = time.monotonic()
        try:
            for row in _rows(jobs, settings, options, progress):
                done[row.folder] = row
                if say:
                    say(row)
                if progress:
                    progress(len(done) / len(jobs))
                if time.monotonic() - written > _EVERY:
                    _write(jobs, done, out, start)
                    written = time.monotonic()
        finally:
            result = _write(jobs, done, out, start)
    return result


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from restoring into a folder; the system frees the lock of dead ones.

    Args:
        out: The folder.

    Yields:
        Nothing.

    Raises:
        InputError: If another process restores into it.
    """
    lock = FileLock(out / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is restoring into {out}; wait for it, or choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _rows(
    jobs: list[Job],
    settings: Settings,
    options: FolderOptions,
    progress: Callable[[float], None] | None,
) -> Iterable[Row]:
    workers = Workers(options.workers, options.scheduler)
    if not workers.alone:
        yield from perform_on_workers(jobs, settings, workers)
        return
    for i, job in enumerate(jobs):

        def part(fraction: float, i: int = i) -> None:
            if progress:
                progress((i + fraction) / len(jobs))

        yield perform(job, settings, part)


def _write(jobs: list[Job], done: dict[str, Row], out: Path, start: float) -> FolderResult:
    """Write the summary of what is finished."""
    rows = tuple(done[job.name] for job in jobs if job.name in done)
    counts = {s: sum(row.status == s for row in rows) for s in ("restored", "kept", "failed")}
    report = {
        "format": FORMAT,
        "pictures": len(jobs),
        **counts,
        "left": len(jobs) - len(rows),
        "seconds": round(time.perf_counter() - start, 2),
        "rows": [asdict(row) | {"warnings": list(row.warnings)} for row in rows],
    }
    table = io.StringIO()
    names = list(Row.__dataclass_fields__)
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = asdict(row) | {"warnings": " | ".join(row.warnings)}
        writer.writerow(["" if values[name] is None else values[name] for name in names])
    # names of files may be any bytes
    content = table.getvalue().encode(errors="surrogateescape")
    write_atomically(out / f"{SUMMARY}.csv", lambda path: path.write_bytes(content))
    write_json(report, out / f"{SUMMARY}.json")
    return FolderResult(rows, report)
