"""`scoresde restore` for a folder, a pattern or a manifest."""

import time
from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import typer

from scoresde.cli.console import echo, print_json, printable, progress_bar
from scoresde.pipelines.settings import (
    IntervalOptions,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
)

__all__ = ["restore_many"]

FAILED = 3
"""Exit status of a run in which some pictures could not be restored."""

_POLL = 2.0  # seconds between two looks at a folder that is watched


def restore_many(
    source: str,
    problem: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    *,
    simulate: bool,
    interval: IntervalOptions,
    output: OutputOptions,
    workers: int,
    scheduler: str | None,
    dry_run: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Restore many pictures and report on them.

    Args:
        source: Folder, pattern or manifest.
        problem: How the pictures were measured.
        options: How they are restored.
        out: Folder of the results.
        simulate: Each picture is the truth and is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.
        workers: Processes on this machine.
        scheduler: Address of a scheduler of Dask.
        dry_run: Tell what the run would take, and end.
        watch: Go on with pictures that come later, until interrupted.
        as_json: Print the report as JSON.

    Raises:
        InputError: If nothing is found, or an option cannot be used.
        typer.Exit: With status 3 if a picture could not be restored.
    """
    from scoresde.errors import InputError
    from scoresde.pipelines.folders import FolderOptions, list_jobs, restore_folder
    from scoresde.pipelines.plan import check_options

    if watch and (dry_run or as_json):
        raise InputError("--watch goes on until it is interrupted; leave out --dry-run and --json")
    check_options(options)
    shared: dict[str, Any] = {"simulate": simulate, "interval": interval, "output": output}
    if watch:
        _watch(source, problem, options, out, shared, FolderOptions(workers, scheduler))
    jobs = list_jobs(source, problem, options, out)
    if dry_run:
        _tell(jobs, out, shared, as_json)
        return
    with progress_bar(f"{len(jobs)} pictures") as progress:
        result = restore_folder(
            jobs,
            out,
            **shared,
            options=FolderOptions(workers, scheduler),
            progress=progress,
            say=None if as_json else _say,
        )
    report = result.report
    if as_json:
        print_json(report)
    else:
        echo(
            f"{report['restored']} restored, {report['kept']} kept, {report['failed']} failed in "
            f"{_duration(report['seconds'])}; see {out / 'summary.csv'}"
        )
    if report["failed"]:
        for row in () if as_json else result.of("failed"):
            typer.echo(printable(f"failed: {row.image}: {row.error}"), err=True)
        raise typer.Exit(FAILED)


def _say(row: Any, only: Container[str] | None = None) -> None:
    """A line for each picture that took time or needs a look."""
    if only is not None and row.folder not in only:
        return
    if row.status == "failed":
        echo(printable(f"failed       {row.image}: {row.error}"))
    elif row.status == "restored":
        scored = "" if row.psnr is None else f", {row.psnr:.2f} dB"
        echo(f"restored     {printable(row.image)} in {_duration(row.seconds)}{scored}")
        for line in row.warnings:
            echo(f"warning      {line}")


def _tell(jobs: list[Any], out: Path, shared: dict[str, Any], as_json: bool) -> None:
    from scoresde.pipelines.folders.dry_run import forecast

    found = forecast(jobs, out, **shared)
    if as_json:
        print_json(
            {
                "format": "scoresde.dry-run-report/1",
                "pictures": found.pictures,
                "kept": found.kept,
                "unreadable": [str(path) for path in found.unreadable],
                "unknown": found.unknown,
                "seconds": round(found.seconds, 1),
                "memory": round(found.memory),
            }
        )
        return
    for path in found.unreadable:
        echo(printable(f"unreadable   {path}"))
    unknown = f", and {found.unknown} whose time is not known" if found.unknown else ""
    echo(
        f"{found.pictures} pictures, {found.kept} of them done: about "
        f"{_duration(found.seconds)} by one process{unknown}, {found.memory / 1e9:.2g} GB of "
        "memory for each process"
    )


def _watch(
    source: str,
    problem: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    shared: dict[str, Any],
    how: Any,
) -> NoReturn:
    """Restore what comes into a folder, as soon as a file has stopped growing."""
    from scoresde.errors import InputError
    from scoresde.pipelines.folders import list_jobs, restore_folder

    seen: dict[Path, tuple[int, int]] = {}  # sizes and times at the last look
    tried: dict[Path, tuple[int, int]] = {}
    echo(f"watching {source}; Ctrl-C ends it")
    while True:
        try:
            jobs = list_jobs(source, problem, options, out)
        except InputError:
            if not Path(source).is_dir():
                raise
            jobs = []  # nothing yet
        states = {job.image: _state(job.image) for job in jobs}
        ready = [
            job for job in jobs if seen.get(job.image) == states[job.image] != tried.get(job.image)
        ]
        seen = states
        if ready:
            tried |= {job.image: states[job.image] for job in ready}
            # the others are kept: the summary has all that was tried
            known = [job for job in jobs if job.image in tried]
            new = {job.name for job in ready}
            say = partial(_say, only=new)
            restore_folder(known, out, **shared, options=how, say=say)
        time.sleep(_POLL)


def _state(path: Path) -> tuple[int, int]:
    """Size and time of the last change; of a zarr folder, of all files in it."""
    try:
        found = [one.stat() for one in (path, *(path.rglob("*") if path.is_dir() else ()))]
    except OSError:
        return (-1, -1)
    return sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)


def _duration(seconds: float) -> str:
    """A time as people say it.

    Example:
        >>> _duration(4.2), _duration(150), _duration(7200)
        ('4.2 s', '2.5 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
