"""The files of a run: what one picture and a stack of slices have in common."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scoresde.data.figures import sheet
from scoresde.files import write_atomically, write_json
from scoresde.pipelines.picture_format import destination
from scoresde.pipelines.posterior_file import POSTERIOR, write_posterior
from scoresde.pipelines.restoration import Restoration, panels, posterior_header, write_array
from scoresde.pipelines.restoration_report import PAGE, write_restoration_page
from scoresde.pipelines.task import Solved, Task, magnitude_picture

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["write_run"]


def write_run(
    task: Task,
    shown: Solved,
    result: Restoration,
    pictures: list[str],
    slices: tuple[Sequence[str], Sequence[int]] | None = None,
) -> None:
    """Write posterior.npz, sheet.png, report.html, problem.json and report.json.

    Of a simulation also measurement.npy. The names of all files come into the report.

    Args:
        task: The task.
        shown: The picture or slice that sheet, page and problem.json show.
        result: Draws (n, N, C, H, W), measurements, truths, and the report.
        pictures: Names of the pictures, which are written already. The first is the mean, and is
            copied to the file that was asked for in the place of a folder.
        slices: Names and lengths of the axes of the slices; None without a stack.

    Raises:
        InputError: If a file cannot be written.
    """
    folder, file = destination(task.out)
    posterior, report = result.posterior, result.report
    options = replace(task.call.options, samples=len(posterior.draws))
    call = replace(task.call, options=options)
    files = list(pictures)
    if result.truth is not None:
        array = result.y if slices is not None else result.y[0]
        write_array(folder / "measurement.npy", array.numpy())
        files.append("measurement.npy")
    report["pictures"] = task.form.report()
    report["files"] = [*files, POSTERIOR, "sheet.png", PAGE, "report.json", "problem.json"]
    write_posterior(
        folder / POSTERIOR,
        posterior,
        task.intervals.ends(posterior) if len(posterior.draws) > 1 else None,
        posterior_header(call, task.given, report) | {"complex": task.zero_filled is not None},
        draws=task.draws_written,
        slices=slices,
    )
    if file is not None:
        mean = folder / pictures[0]
        write_atomically(file, lambda temporary: shutil.copyfile(mean, temporary))
    drawn = task.pictures(shown.posterior)
    solver = shown.report["solver"]
    row = panels(solver, drawn, _view(task, shown), shown.truth, shown.report)
    sheet([row], folder / "sheet.png")
    write_json(shown.problem.describe(), folder / "problem.json")
    write_json(report, folder / "report.json")
    path = shown.path
    if path is not None and task.zero_filled is not None:
        path = path.mapped(magnitude_picture)
    write_restoration_page(
        call,
        shown.report | {name: report[name] for name in ("files", "pictures")},
        shown.problem,
        (drawn, shown.y, shown.truth),
        task.intervals,
        task.prior,
        shown.warnings,
        folder,
        path,
    )


def _view(task: Task, shown: Solved) -> Tensor:
    """The measurement as a picture (1, C, H, W)."""
    if task.zero_filled is not None:
        return task.zero_filled[task.shown : task.shown + 1]
    return shown.problem.operator.preview(shown.y)
