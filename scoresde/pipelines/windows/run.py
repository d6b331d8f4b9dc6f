"""Restore a picture that does not fit the memory, window by window, from file to file.

Windows overlap, and each is restored with what it sees; its core is kept. All draw their random
numbers from the same fields (:mod:`problems.random_fields`), so that draws of neighbours fit each
other, and the result depends on neither order nor number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from problems.random_fields import PlacedNoise, placed_noise
from scoresde.errors import InputError, as_input_error
from scoresde.files import check_writable, write_json
from scoresde.memory import available_bytes
from scoresde.pipelines.content_hash import prior_key, restoration_key
from scoresde.pipelines.cost import estimate_seconds, memory_bytes
from scoresde.pipelines.devices import choose_device, kept_prior, open_prior
from scoresde.pipelines.folders.run import alone
from scoresde.pipelines.picture_format import PictureFormat, destination
from scoresde.pipelines.plan import draw
from scoresde.pipelines.restoration import residual_of
from scoresde.pipelines.restoration_report import recorded_warnings
from scoresde.pipelines.run_folder import remove_former_run
from scoresde.pipelines.settings import (
    PICTURE_FORMATS,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
    WindowOptions,
)
from scoresde.pipelines.windows.opened import Opened, WindowTask, opened
from scoresde.pipelines.windows.output import Target, open_target, put_in_place, target_name
from scoresde.pipelines.windows.record import Done, Record
from scoresde.pipelines.windows.report import seam_ratio, windows_report
from scoresde.pipelines.workers import Workers, device_of_worker
from scoresde.priors.base import Prior

__all__ = ["WORK", "restore_windows"]

WORK = ".windows"
"""Folder of what is not finished, in the folder of the results."""

_WORTH_TELLING = 2.0  # seconds


@dataclass(frozen=True)
class _Part:
    """A window and how it is written, for any process."""

    task: WindowTask
    form: PictureFormat
    index: int


@dataclass(frozen=True, eq=False)
class _Result:
    """The core of a window: pixels (h, w) or (h, w, 3) of mean and standard deviation."""

    mean: np.ndarray
    std: np.ndarray | None
    done: Done


def restore_windows(
    image: Path,
    problem: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    windows: WindowOptions,
    *,
    output: OutputOptions | None = None,
    progress: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
    prior: Prior | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Restore a TIFF or zarr in windows, in memory that a window bounds.

    Writes the mean and, of several draws, their standard deviation in the values of the file, as
    BigTIFF or zarr like the picture, problem.json and report.json. An interrupted run goes on where
    it was, with the same result bit for bit.

    Args:
        image: A TIFF of one page, or an array of zarr.
        problem: How it was measured. The operator must be local.
        options: How it is restored.
        out: Folder of the results.
        windows: Size and overlap of the windows.
        output: Format of a TIFF.
        progress: Called with the finished fraction of all windows.
        say: Called with a line on what is kept, or how long it will take.
        prior: The prior, already open; None to open the one that the options name.
        workers: Who restores the windows; None for this process alone.

    Returns:
        The report.

    Raises:
        InputError: If a file or an option cannot be used.
    """
    workers, say = workers or Workers(), say or (lambda _: None)
    folder, single = destination(out)
    if single is not None:
        raise InputError(f"--windows write into a folder, and {out} is a file; give a folder")
    task = WindowTask(image, problem, options, windows)
    opened.cache_clear()  # files may have changed since
    state = _state(image)
    picture = opened(task)
    picture.check_holes()
    form = _format(picture, (output or OutputOptions()).format)
    if workers.alone:
        device = choose_device(options.device)
        prior = prior or open_prior(
            options.prior, device, options.precision, options.average, recompute=True
        )
    _check_memory(picture)
    check_writable(folder)
    _check_not_overwritten(folder, picture)
    with alone(folder):
        work = check_writable(folder / WORK)
        record = Record(work / "done.jsonl", _key(task, output))
        names = _names(picture)
        known = record.read() if all((work / name).exists() for name in names) else None
        mean, std = _targets(work, picture, form, fresh=known is None)
        if known is None:
            record.begin()
        known, total = known or {}, len(picture.windows)
        kept = len(known)
        if kept:
            say(f"{kept} of {total} windows are done already and kept")
        todo = [index for index in range(total) if index not in known]
        if prior is not None and todo:
            whole = estimate_seconds(prior, picture.size, picture.options)
            seconds = None if whole is None else whole * len(todo) / total
            if seconds is not None and seconds > _WORTH_TELLING:
                say(f"{total} windows: about {seconds:.0f} seconds")
        begin = time.perf_counter()

        def advance(fraction: float) -> None:
            if progress is not None:
                progress((len(known) + fraction) / total)

        for result in _results(task, form, todo, prior, workers, advance):
            window = picture.windows[result.done.index]
            rows, columns = slice(*window.core_rows), slice(*window.core_columns)
            mean.write(rows, columns, result.mean)
            if std is not None and result.std is not None:
                std.write(rows, columns, result.std)
            record.add(result.done)
            known[result.done.index] = result.done
            advance(0.0)
        if _state(image) != state:
            raise InputError(f"{image} changed while it was read; restore it again")
        report = windows_report(picture, form, [known[i] for i in range(total)], kept)
        report["seconds"] = round(time.perf_counter() - begin, 2)
        report["seam"] = seam_ratio(mean, picture)
        return _finish(folder, picture, record, report)


def _results(
    task: WindowTask,
    form: PictureFormat,
    todo: list[int],
    prior: Prior | None,
    workers: Workers,
    advance: Callable[[float], None],
) -> Iterator[_Result]:
    """The windows in the order in which they are finished."""
    parts = [_Part(task, form, index) for index in todo]
    if workers.alone:
        assert prior is not None
        for part in parts:
            yield _solve(part, prior, advance)
        return
    with closing(workers.finished(_on_worker, parts)) as each:
        for one in each:
            yield one.unwrap()


def _on_worker(part: _Part) -> _Result:
    options = part.task.options
    device = device_of_worker(options.device)
    return _solve(part, kept_prior(options.prior, device, options.precision, options.average))


def _solve(part: _Part, prior: Prior, progress: Callable[[float], None] | None = None) -> _Result:
    """Restore a window."""
    picture = opened(part.task)
    measured = picture.measurement(part.index, prior)
    noise = PlacedNoise(picture.sites(part.index, measured.y))
    with recorded_warnings() as warned, placed_noise(noise):
        posterior = draw(prior, measured, picture.options, progress)
    with as_input_error():
        checked = residual_of(
            measured,
            posterior,
            picture.options,
            range_known=picture.range.certain,
            sigma_stated=picture.options.stated_sigma is not None,
            prior=prior,
            window=True,
        )
    window = picture.windows[part.index]
    core = (..., *window.core())
    std = None
    if len(posterior.draws) > 1:
        own = posterior.std[0][core].double() * (picture.range.high - picture.range.low) / 2
        std = own.permute(1, 2, 0).float().numpy()
        std = std[..., 0] if std.shape[-1] == 1 else std
    done = Done(
        part.index,
        window.name,
        round(posterior.seconds, 3),
        posterior.nfe,
        posterior.vjps,
        checked["ratio"],
        float(posterior.std[0][core].mean()) if std is not None else 0.0,
        tuple(dict.fromkeys([*warned, *(one["message"] for one in checked["warnings"])])),
    )
    return _Result(part.form.pixels(posterior.mean[0][core]), std, done)


def _format(picture: Opened, name: str | None) -> PictureFormat:
    """Number type and values of the mean: those of the file where it can be."""
    if name is not None and (picture.file.container, PICTURE_FORMATS.get(name, ("",))[0]) != (
        "TIFF",
        ".tif",
    ):
        raise InputError(
            f"--format {name} does not go with --windows on {picture.file.container}; TIFF takes "
            "tiff, tiff16 or tiff32, zarr has the number type of the picture"
        )
    dtype = picture.file.source.dtype
    like = {"|u1": "tiff", "u1": "tiff", "u2": "tiff16"}.get(dtype.str.lstrip("<>=|"), "tiff32")
    chosen = name or like
    kind = np.dtype(PICTURE_FORMATS[chosen][1])
    own = kind.kind == "f" or kind == dtype
    ends = (picture.range.low, picture.range.high) if own else (0.0, float(np.iinfo(kind).max))
    return PictureFormat(chosen, *ends)


def _names(picture: Opened) -> list[str]:
    """Files of the results: the mean, and of several draws the standard deviation."""
    names = ["mean"] if picture.options.samples == 1 else ["mean", "std"]
    return [target_name(name, picture.file) for name in names]


def _targets(
    work: Path, picture: Opened, form: PictureFormat, *, fresh: bool
) -> tuple[Target, Target | None]:
    """The files of :func:`_names`."""
    single = np.dtype(np.float32)
    kinds = [(form.dtype, (form.black, form.white)), (single, None)]
    mean, *std = [
        open_target(
            work / name, picture.file, picture.size, picture.channels, dtype, ends, fresh=fresh
        )
        for name, (dtype, ends) in zip(_names(picture), kinds, strict=False)
    ]
    return mean, std[0] if std else None


def _finish(
    folder: Path, picture: Opened, record: Record, report: dict[str, Any]
) -> dict[str, Any]:
    """Give the finished files their names, and write the report."""
    problem = picture.task.problem
    remove_former_run(folder, (picture.task.image, problem.mask, problem.kernel))
    names = _names(picture)
    for name in names:
        put_in_place(folder / WORK / name, folder / name)
    report["files"] = [*names, "report.json", "problem.json"]
    write_json(picture.problem.describe(), folder / "problem.json")
    write_json(report, folder / "report.json")
    record.path.unlink(missing_ok=True)
    if not any((folder / WORK).iterdir()):
        (folder / WORK).rmdir()
    return report


def _key(task: WindowTask, output: OutputOptions | None) -> str:
    own = restoration_key(
        task.image, task.problem, task.options, prior_key(task.options.prior), output=output
    )
    return f"{own}/{task.windows.side}/{task.windows.overlap}"


def _check_memory(picture: Opened) -> None:
    sides = tuple(max(one.sides[axis] for one in picture.windows) for axis in (0, 1))
    needed = memory_bytes((sides[0], sides[1]), picture.channels, picture.options.samples)
    available = available_bytes(torch.device("cpu"))
    if needed > available:
        raise InputError(
            f"windows of {sides[1]}x{sides[0]} pixels take about {needed / 1e9:.3g} GB of memory, "
            f"and {available / 1e9:.3g} GB are free; give smaller --windows"
        )


def _check_not_overwritten(folder: Path, picture: Opened) -> None:
    read = [picture.task.image, picture.task.problem.mask]
    for name in ("mean", "std"):
        path = folder / target_name(name, picture.file)
        if any(one is not None and one.resolve() == path.resolve() for one in read):
            raise InputError(f"{path} is read; choose another folder for --out")


def _state(path: Path) -> tuple[int, int]:
    """Size and time of the last change, of a folder those of all files in it."""
    files = [path, *path.rglob("*")] if path.exists() else []
    found = [one.stat() for one in files]
    return sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=0)
