"""A stack of slices, restored one after another in one run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from scoresde.pipelines.kept_slices import KeptSlices
from scoresde.pipelines.restoration import Restoration
from scoresde.pipelines.run_files import write_run
from scoresde.pipelines.run_folder import remove_former_run
from scoresde.pipelines.stack_results import joined, slice_name, stack_report, write_stack_files
from scoresde.pipelines.task import Solved, Task, solve

__all__ = ["restore_stack"]


def restore_stack(
    task: Task,
    kept: KeptSlices,
    progress: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Restoration:
    """Restore slice by slice, and write one set of files.

    Each slice is a restoration of its own: the prior does not know its neighbours. posterior.npz
    and the TIFF files have an axis of slices. The page, the sheet and problem.json are of the slice
    in the middle. Finished slices are kept until all files are written, so that an interrupted run
    goes on where it was.

    Args:
        task: The stack, and how it is restored.
        kept: Finished slices of the same content.
        progress: Called with the finished fraction of all slices.
        say: Called with a line that tells how many slices were kept.

    Returns:
        Draws (n, N, C, H, W), measurements and truths of all slices, and the report.

    Raises:
        InputError: If a slice cannot be restored, or a file not be written.
    """
    given, folder = task.given, task.folder
    assert given.stack is not None
    solved = _solved(task, kept, progress, say)
    posterior, shown = joined(solved), solved[task.shown]
    truths = [one.truth for one in solved if one.truth is not None]
    y = torch.cat([one.y for one in solved])
    report = shown.report | stack_report(given, solved, posterior, shown)
    report["shown_slice"] = slice_name(given.stack, task.shown)
    result = Restoration(posterior, y, torch.cat(truths) if truths else None, report)
    calibrated = len(posterior.draws) > 1 and task.intervals.calibration is not None
    remove_former_run(folder, task.reads)
    files = write_stack_files(
        task.of_pictures(),
        task.pictures(posterior),
        task.intervals.ends(posterior) if calibrated else None,
        task.form,
        folder,
        draws=task.draws_written,
        measured=shown.problem.operator.preview(y) if truths else None,
        zero_filled=task.zero_filled,
    )
    write_run(task, shown, result, files, (given.stack.names, given.stack.shape))
    kept.remove()
    return result


def _solved(
    task: Task,
    kept: KeptSlices,
    progress: Callable[[float], None] | None,
    say: Callable[[str], None] | None,
) -> list[Solved]:
    """Each slice: kept from an earlier run, or restored."""
    number = len(task.measurements)
    found = [kept.read(task, index) for index in range(number)]
    done = sum(one is not None for one in found)
    if done and say is not None:
        say(f"{done} of {number} slices are done already and kept")
    solved = []
    for index, one in enumerate(found):
        if one is None:
            share = None if progress is None else _share(progress, index, number)
            one = solve(task, index, share)
            if len(one.posterior.draws) == task.options.samples:  # not ended early
                kept.write(index, one)
        elif progress is not None:
            progress((index + 1) / number)
        solved.append(one)
    return solved


def _share(progress: Callable[[float], None], index: int, number: int) -> Callable[[float], None]:
    """Progress within one slice as that of all."""
    return lambda fraction: progress((index + fraction) / number)
