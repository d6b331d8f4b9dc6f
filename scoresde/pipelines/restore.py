"""Restore one photograph: read, measure if asked to, draw from the posterior, write the results."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.data.figures import sheet, write_map
from scoresde.errors import InputError
from scoresde.files import check_writable, write_json
from scoresde.pipelines.cost import LARGE, check_memory, estimate_seconds
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.estimated_blur import with_estimated_blur, without_unknown_blur
from scoresde.pipelines.estimated_noise import with_estimated_noise
from scoresde.pipelines.inputs import Input, on_unit_range, read_input
from scoresde.pipelines.intervals import Intervals, open_intervals
from scoresde.pipelines.own_format import own_format_name, write_own_format
from scoresde.pipelines.picture_format import PictureFormat, choose_format, destination
from scoresde.pipelines.plan import Measurement, Plan, draw, make_plan
from scoresde.pipelines.posterior_file import POSTERIOR, write_posterior
from scoresde.pipelines.protocol import protocol
from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.restoration import (
    Restoration,
    panels,
    posterior_header,
    report_of,
    residual_of,
    scores,
    write_array,
)
from scoresde.pipelines.restoration_report import (
    PAGE,
    recorded_warnings,
    write_restoration_page,
)
from scoresde.pipelines.run_folder import remove_former_run
from scoresde.pipelines.settings import (
    IntervalOptions,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
)
from scoresde.pipelines.sigma_units import in_picture_units, known_sigma
from scoresde.pipelines.stack_results import check_stack, slice_name
from scoresde.pipelines.stacks import restore_stack
from scoresde.priors.base import Prior
from solvers.posterior.path import DenoisingPath, recording_path

__all__ = ["Restoration", "panels", "restore", "scores"]

_COLOURS = (1, 3)


def restore(
    image: Path,
    problem: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    *,
    simulate: bool = False,
    interval: IntervalOptions | None = None,
    output: OutputOptions | None = None,
    progress: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
    arrived: Callable[[Tensor], None] | None = None,
    named: RestoreCall | None = None,
    prior: Prior | None = None,
) -> Restoration:
    """Restore a photograph and write the results.

    Writes posterior.npz, the pictures mean, draw_1, draw_2, ..., std.png, sheet.png, report.html,
    problem.json and report.json into `out`; with a calibration also the pictures lower and upper,
    and interval.png. FITS and NIfTI files are also answered by mean.fits and mean.nii.gz. Of a
    stack the pictures are TIFF files with a page for each slice
    (:func:`scoresde.pipelines.stacks.restore_stack`).

    Args:
        image: The photograph; a measurement (C, ...) as .npy; or the file of an instrument, see
            :func:`problems.reading.sources.open_source`.
        problem: How it was measured.
        options: How it is restored.
        out: Folder to write into, made if need be. Or a file that ends in .png, .tif or .tiff: the
            mean is written to it, and all files into the folder of its name without the suffix.
        simulate: The picture is the truth and is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.
        progress: Called with the finished fraction of the work.
        say: Called with a line that tells how long a large picture will take.
        arrived: Called with finished draws (k, C, H, W), see
            :meth:`solvers.PosteriorSampler.sample`. A `progress` that raises
            :class:`solvers.posterior.records.Enough` ends the drawing there.
        named: What the report calls the files; None for their paths.
        prior: The prior, already open; None to open the one that the options name.

    Returns:
        The result.

    Raises:
        InputError: If a file or an option cannot be used, or the picture does not fit the memory.
    """
    interval, output = interval or IntervalOptions(), output or OutputOptions()
    folder, file = destination(out)
    asked = options
    given = read_input(
        image, problem, simulate=simulate, sigma=known_sigma(options), learned=options.prior
    )
    options = in_picture_units(options, given)
    stated, blur = without_unknown_blur(problem, simulate=simulate, interval=interval)
    plan = make_plan(
        stated,
        options,
        size=given.size,
        simulate=simulate,
        seed=options.seed,
        file=given.file,
        source=str(image),
    )
    device = choose_device(options.device)
    if prior is None:
        prior = open_prior(
            options.prior, device, options.precision, options.average, recompute=True
        )
    if prior.shape[0] not in _COLOURS:
        raise InputError(
            f"the prior {options.prior!r} has {prior.shape[0]} channels, and pictures of 1 or 3 "
            "are written; use it from Python, by solvers.solve"
        )
    size = plan.picture_size(given.x)
    check_memory(size, prior.shape[0], options, device)
    work = replace(options, samples=options.samples * len(given.x))
    if say and math.prod(size) * work.samples > LARGE:
        say(_announcement(size, work, estimate_seconds(prior, size, work)))
    form = choose_format(output.format, given, plan.operator, size, file)
    intervals = open_intervals(interval, protocol(stated, plan.noise, options, plan.description))
    if given.is_stack and blur is not None:
        raise InputError(f"--{blur} auto is for one picture, not for a stack; give it a number")
    if given.is_stack:
        form = check_stack(given, form, output.format, options.samples, size)
    measurements = [
        _measure(plan, given, index, options.seed, prior, options.prior)
        for index in range(len(given.x))
    ]
    if file is not None and file.resolve() == image.resolve():
        raise InputError(f"--out {file} is the picture that is restored; choose another name")
    folder = check_writable(folder)
    # the call has the noise level as it was given
    call = RestoreCall(image, problem, asked, out, simulate, interval, output)
    call = call if named is None else replace(named, options=asked)
    reads = [image, problem.mask, problem.kernel, interval.calibration]
    if given.is_stack:
        return restore_stack(
            call,
            options,
            given,
            measurements,
            plan.description,
            prior,
            intervals,
            form,
            out,
            progress,
            reads,
        )
    own = replace(options, seed=given.slice_seed(0, options.seed))
    measured, kernel = with_estimated_blur(blur, prior, measurements[0], own)
    measured, noise = with_estimated_noise(prior, measured, own, interval)
    with recorded_warnings() as warned, recording_path(DenoisingPath()) as path:
        posterior = draw(prior, measured, own, progress, arrived)
    call = replace(call, options=replace(asked, samples=len(posterior.draws)))
    result = Restoration(posterior, measured.y, measured.truth, {})
    result.report.update(
        report_of(call.image, given, plan.description, call.options, measured.problem, result)
    )
    if kernel is not None:
        result.report["blur_estimate"] = kernel.report()
    if noise is not None:
        result.report["sigma_estimate"] = noise.report()
    result.report["residual"] = residual_of(call, given, measured, posterior)
    remove_former_run(folder, reads)
    result.report["pictures"] = form.report()
    _write(folder, measured.problem, intervals, result, form, given, draws=not output.no_draws)
    header = posterior_header(call, given, result.report)
    ends = intervals.ends(posterior) if len(posterior.draws) > 1 else None
    write_posterior(folder / POSTERIOR, posterior, ends, header, draws=not output.no_draws)
    if file is not None:
        form.write(posterior.mean[0], file)
    tensors = (posterior, measured.y, measured.truth)
    said = tuple(warned)
    write_restoration_page(
        call, result.report, measured.problem, tensors, intervals, prior, said, folder, path
    )
    return result


def _measure(
    plan: Plan, given: Input, index: int, seed: int, prior: Prior, name: str
) -> Measurement:
    """Measure a slice with random numbers of its own, or take it as the measurement."""
    if given.stack is not None and given.stack.places[index]:
        generator = torch.Generator().manual_seed(given.slice_seed(index, seed))
        source = plan.source
        if given.is_stack:
            source += f" at {slice_name(given.stack, index)}"
        plan = replace(plan, generator=generator, source=source)
    x = given.x[index : index + 1]
    if given.of_picture:
        x = on_unit_range(plan.operator, x, given.range)
    return plan.measure(x, prior, name)


def _announcement(size: tuple[int, int], options: RestoreOptions, seconds: float | None) -> str:
    """How long a large picture will take, in a line."""
    what = f"{options.samples} x {math.prod(size) / 1e6:.1f} megapixels by {options.solver}"
    if seconds is None:
        return f"{what}: the time is not known beforehand"
    unit, number = next(
        (unit, seconds / length)
        for unit, length in (("hours", 3600), ("minutes", 60), ("seconds", 1))
        if seconds >= 2 * length or length == 1
    )
    return f"{what}: about {number:.0f} {unit}"


def _write(
    out: Path,
    problem: InverseProblem,
    intervals: Intervals,
    result: Restoration,
    form: PictureFormat,
    given: Input,
    *,
    draws: bool,
) -> None:
    posterior, report, truth = result.posterior, result.report, result.truth
    view = problem.operator.preview(result.y)
    mean = f"mean{form.suffix}"
    form.write(posterior.mean[0], out / mean)
    names = [f"draw_{i + 1}{form.suffix}" for i in range(len(posterior.draws) if draws else 0)]
    for name, one in zip(names, posterior.draws, strict=False):
        form.write(one[0], out / name)
    files = [mean, *names, POSTERIOR, "sheet.png", PAGE, "report.json", "problem.json"]
    own = own_format_name(given, "mean", (posterior.draws.shape[-2], posterior.draws.shape[-1]))
    if own is not None and write_own_format(given, posterior.mean, out / own):
        files.append(own)
    if truth is not None:
        shown = f"measurement{form.suffix}"
        form.write(view[0], out / shown)
        write_array(out / "measurement.npy", result.y[0].numpy())
        files += [shown, "measurement.npy"]
    if len(posterior.draws) > 1:
        report["std_map_white"] = write_map(posterior.std[0].mean(0), out / "std.png")
        report["interval"] = intervals.report(posterior, truth)
        files += ["std.png", *intervals.write(posterior, out, form)]
    report["files"] = files
    sheet([panels(posterior, view, truth, report)], out / "sheet.png")
    write_json(problem.describe(), out / "problem.json")
    write_json(report, out / "report.json")
