"""A stack of slices, restored one after another in one run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from problems import InverseProblem
from scoresde.data.figures import sheet
from scoresde.files import write_atomically, write_json
from scoresde.pipelines.estimated_noise import with_estimated_noise
from scoresde.pipelines.inputs import Input
from scoresde.pipelines.intervals import Intervals
from scoresde.pipelines.picture_format import PictureFormat, destination
from scoresde.pipelines.plan import Measurement, draw
from scoresde.pipelines.posterior_file import POSTERIOR, write_posterior
from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.restoration import (
    Restoration,
    panels,
    posterior_header,
    report_of,
    residual_of,
    write_array,
)
from scoresde.pipelines.restoration_report import (
    PAGE,
    recorded_warnings,
    write_restoration_page,
)
from scoresde.pipelines.run_folder import remove_former_run
from scoresde.pipelines.settings import RestoreOptions
from scoresde.pipelines.stack_results import (
    SolvedSlice,
    joined,
    slice_name,
    stack_report,
    write_stack_files,
)
from scoresde.priors.base import Prior
from solvers.posterior.path import DenoisingPath, recording_path

__all__ = ["restore_stack"]


def restore_stack(
    call: RestoreCall,
    options: RestoreOptions,
    given: Input,
    measurements: list[Measurement],
    description: dict[str, Any],
    prior: Prior,
    intervals: Intervals,
    form: PictureFormat,
    out: Path,
    progress: Callable[[float], None] | None,
    reads: Sequence[Path | None],
) -> Restoration:
    """Restore slice by slice, and write one set of files.

    Each slice is a restoration of its own: the prior does not know its neighbours. posterior.npz
    and the TIFF files have an axis of slices. The page, the sheet and problem.json are of the slice
    in the middle.

    Args:
        call: What was asked for.
        options: The same, with the noise level on [-1, 1].
        given: The stack.
        measurements: The measurement of each slice.
        description: The problem in plain values.
        prior: The prior.
        intervals: Level and calibration of the intervals.
        form: How pictures are written, a TIFF.
        out: Folder of the results, or file of the mean.
        progress: Called with the finished fraction of all slices.
        reads: Files that were read, which stay where they are.

    Returns:
        Draws (n, N, C, H, W), measurements and truths of all slices, and the report.

    Raises:
        InputError: If a slice cannot be restored, or a file not be written.
    """
    assert given.stack is not None
    folder, file = destination(out)
    solved: list[SolvedSlice] = []
    number, said, middle = len(given.x), list[str](), (len(given.x) - 1) // 2
    shown: tuple[InverseProblem, DenoisingPath] | None = None
    for index, measured in enumerate(measurements):
        own = replace(options, seed=given.slice_seed(index, options.seed))
        measured, noise = with_estimated_noise(prior, measured, own, call.interval)
        share = None if progress is None else _share(progress, index, number)
        with recorded_warnings() as warned, recording_path(DenoisingPath()) as path:
            posterior = draw(prior, measured, own, share)
        said += warned
        one = Restoration(posterior, measured.y, measured.truth, {})
        report = report_of(call.image, given, description, call.options, measured.problem, one)
        report["residual"] = residual_of(call, given, measured, posterior)
        if noise is not None:
            report["sigma_estimate"] = noise.report()
        if len(posterior.draws) > 1:
            report["interval"] = intervals.report(posterior, measured.truth)
        solved.append(SolvedSlice(posterior, measured.y, measured.truth, report))
        if index == middle:
            shown = measured.problem, path
    assert shown is not None
    problem, path = shown
    posterior, one_slice = joined(solved), solved[middle]
    call = replace(call, options=replace(call.options, samples=len(posterior.draws)))
    known = one_slice.truth is not None
    truth = torch.cat([one.truth for one in solved if one.truth is not None]) if known else None
    y = torch.cat([one.y for one in solved])
    result = Restoration(
        posterior, y, truth, one_slice.report | stack_report(given, solved, posterior, one_slice)
    )
    several = len(posterior.draws) > 1
    ends = intervals.ends(posterior) if several else None
    drawn = not call.output.no_draws
    remove_former_run(folder, reads)
    files = write_stack_files(
        given,
        posterior,
        ends if intervals.calibration is not None else None,
        form,
        folder,
        draws=drawn,
        measured=problem.operator.preview(y) if known else None,
    )
    if known:
        write_array(folder / "measurement.npy", y.numpy())
        files.append("measurement.npy")
    report = result.report
    report["pictures"] = form.report()
    report["shown_slice"] = slice_name(given.stack, middle)
    report["files"] = [*files, POSTERIOR, "sheet.png", PAGE, "report.json", "problem.json"]
    shape = given.stack.names, given.stack.shape
    header = posterior_header(call, given, report)
    write_posterior(folder / POSTERIOR, posterior, ends, header, draws=drawn, slices=shape)
    if file is not None:
        write_atomically(file, lambda temporary: shutil.copyfile(folder / "mean.tif", temporary))
    view = problem.operator.preview(one_slice.y)
    row = panels(one_slice.posterior, view, one_slice.truth, one_slice.report)
    sheet([row], folder / "sheet.png")
    write_json(problem.describe(), folder / "problem.json")
    write_json(report, folder / "report.json")
    tensors = (one_slice.posterior, one_slice.y, one_slice.truth)
    page = one_slice.report | {name: report[name] for name in ("files", "pictures")}
    unique = tuple(dict.fromkeys(said))
    write_restoration_page(call, page, problem, tensors, intervals, prior, unique, folder, path)
    return result


def _share(progress: Callable[[float], None], index: int, number: int) -> Callable[[float], None]:
    """Progress within one slice as that of all."""
    return lambda fraction: progress((index + fraction) / number)
