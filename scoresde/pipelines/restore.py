"""Restore one photograph: read, measure if asked to, draw from the posterior, write the results."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from problems.storage import release
from scoresde.data.figures import write_map
from scoresde.errors import InputError
from scoresde.files import check_writable
from scoresde.pipelines.content_hash import prior_key, restoration_key
from scoresde.pipelines.cost import LARGE, check_memory, estimate_seconds
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.estimated_blur import is_unknown, without_unknown_blur
from scoresde.pipelines.estimated_photons import without_unknown_photons
from scoresde.pipelines.inputs import Input, on_unit_range, read_input
from scoresde.pipelines.intervals import open_intervals
from scoresde.pipelines.kept_slices import KEPT, KeptSlices
from scoresde.pipelines.kspace import prepare_kspace
from scoresde.pipelines.own_format import own_format_name, write_own_format
from scoresde.pipelines.picture_format import choose_format, destination
from scoresde.pipelines.plan import Measurement, Plan, make_plan
from scoresde.pipelines.protocol import protocol
from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.restoration import Restoration, panels, scores
from scoresde.pipelines.run_files import write_run
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
from scoresde.pipelines.task import Solved, Task, solve
from scoresde.pipelines.workers import Workers
from scoresde.priors.base import Prior

__all__ = ["Restoration", "panels", "restore", "scores"]

_COLOURS, _COMPLEX = (1, 3), 2


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
    ready: Callable[[Measurement], None] | None = None,
    arrived: Callable[[Tensor], None] | None = None,
    named: RestoreCall | None = None,
    prior: Prior | None = None,
    workers: Workers | None = None,
) -> Restoration:
    """Restore a photograph and write the results.

    Writes posterior.npz, the pictures mean, draw_1, draw_2, ..., std.png, sheet.png, report.html,
    problem.json and report.json into `out`; with a calibration also the pictures lower and upper,
    and interval.png. Of complex images the pictures show magnitudes, and zero_filled the start.
    FITS and NIfTI files are also answered by mean.fits and mean.nii.gz. Of a
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
        progress: Called with the finished fraction of the work; with 0 as long as noise or kernel
            are being estimated.
        say: Called with a line that tells how long a large picture will take.
        ready: Called with the measurement when its noise and kernel are known, before the first
            draw; not of a stack.
        arrived: Called with finished draws (k, C, H, W), see
            :meth:`solvers.PosteriorSampler.sample`. A `progress` that raises
            :class:`solvers.posterior.records.Enough` ends the drawing there.
        named: What the report calls the files; None for their paths.
        prior: The prior, already open; None to open the one that the options name.
        workers: Who makes the draws of a picture; None for this process alone. They are the same.

    Returns:
        The result.

    Raises:
        InputError: If a file or an option cannot be used, or the picture does not fit the memory.
    """
    interval, output = interval or IntervalOptions(), output or OutputOptions()
    folder, file = destination(out)
    asked = options
    if problem.maps is not None:
        if simulate:
            raise InputError(
                "--maps is for measured k-space; where --simulate measures a picture, --set "
                "coils=NUMBER makes coils"
            )
        device = choose_device(options.device)
        prior = prior or _open_prior(options, device)
        _check_channels(prior, options.prior, complex_too=True)
        if interval.calibration is not None:
            raise InputError("a --calibration is for pictures, not for k-space with --maps")
        run = prepare_kspace(image, problem, options, prior.shape[0])
        given, options, plans, zero_filled = run.given, run.options, run.plans, run.zero_filled
        stated, blur = problem, None
    else:
        given = read_input(
            image, problem, simulate=simulate, sigma=known_sigma(options), learned=options.prior
        )
        options = in_picture_units(options, given)
        stated, blur = without_unknown_blur(problem, simulate=simulate, interval=interval)
        stated = without_unknown_photons(stated, simulate=simulate, interval=interval)
        plan = make_plan(
            stated,
            options,
            size=given.size,
            simulate=simulate,
            seed=options.seed,
            file=given.file,
            source=str(image),
        )
        plans, zero_filled = (plan,) * len(given.x), None
        device = choose_device(options.device)
        prior = prior or _open_prior(options, device)
        _check_channels(prior, options.prior)
    plan = plans[0]
    size = plan.picture_size(given.x)
    try:
        check_memory(size, prior.shape[0], options, device)
    except InputError as error:
        raise InputError(f"{error}, or restore a TIFF or zarr in --windows 1024") from None
    work = replace(options, samples=options.samples * len(given.x))
    if say and math.prod(size) * work.samples > LARGE:
        say(_announcement(size, work, estimate_seconds(prior, size, work)))
    form = choose_format(output.format, given, plan.operator, size, file)
    intervals = open_intervals(interval, protocol(stated, plan.noise, options, plan.description))
    if given.is_stack and blur is not None:
        raise InputError(f"--{blur.kind} auto is for one picture, not for a stack; state the blur")
    if given.is_stack and workers is not None and not workers.alone:
        raise InputError("--workers share the draws of one picture, and this is a stack of several")
    if given.is_stack:
        form = check_stack(given, form, output.format, options.samples, size)
    if zero_filled is not None and form.dtype.kind == "f":
        form = replace(form, black=0.0, white=given.range.high)
    measurements = [
        _measure(one, given, index, options.seed, prior, options.prior)
        for index, one in enumerate(plans)
    ]
    if file is not None and file.resolve() == image.resolve():
        raise InputError(f"--out {file} is the picture that is restored; choose another name")
    folder = check_writable(folder)
    # the call has the noise level as it was given
    call = RestoreCall(image, problem, asked, out, simulate, interval, output)
    task = Task(
        call if named is None else replace(named, options=asked),
        options,
        given,
        tuple(measurements),
        plan.description,
        prior,
        intervals,
        form,
        out,
        _files_read(image, problem, interval),
        zero_filled,
        workers or Workers(),
    )
    if given.is_stack:
        key = restoration_key(
            image,
            problem,
            asked,
            prior_key(asked.prior),
            simulate=simulate,
            interval=interval,
            output=output,
        )
        return restore_stack(task, KeptSlices(folder / KEPT, key), progress, say)
    solved = solve(task, 0, progress, ready=ready, arrived=arrived, blur=blur)
    remove_former_run(folder, task.reads)
    result = Restoration(solved.posterior, solved.y, solved.truth, solved.report)
    write_run(task, solved, result, _write_pictures(task, solved))
    return result


def _open_prior(options: RestoreOptions, device: torch.device) -> Prior:
    return open_prior(options.prior, device, options.precision, options.average, recompute=True)


def _check_channels(prior: Prior, name: str, *, complex_too: bool = False) -> None:
    """Check that the draws of a prior can be written."""
    channels = prior.shape[0]
    if channels in _COLOURS or (complex_too and channels == _COMPLEX):
        return
    more = "; complex k-space takes --maps" if channels == _COMPLEX else ""
    raise InputError(
        f"the prior {name!r} has {channels} channels, and pictures of 1 or 3 are written{more}; "
        "use it from Python, by solvers.solve"
    )


def _files_read(
    image: Path, problem: ProblemOptions, interval: IntervalOptions
) -> tuple[Path | None, ...]:
    maps = None if problem.maps == "estimate" else problem.maps
    kernel = None if is_unknown("kernel", problem) else problem.kernel
    return image, problem.mask, kernel, maps, problem.noise_scan, interval.calibration


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


def _write_pictures(task: Task, solved: Solved) -> list[str]:
    """Write the pictures, and say which: the mean first."""
    posterior, out, form = task.pictures(solved.posterior), task.folder, task.form
    given, report = task.of_pictures(), solved.report
    names: list[str] = []

    def write(name: str, x: Tensor) -> None:
        form.write(x, out / f"{name}{form.suffix}")
        names.append(f"{name}{form.suffix}")

    write("mean", posterior.mean[0])
    for number, one in enumerate(posterior.draws if task.draws_written else (), 1):
        write(f"draw_{number}", one[0])
        release(one)
    own = own_format_name(given, "mean", (posterior.draws.shape[-2], posterior.draws.shape[-1]))
    if own is not None and write_own_format(given, posterior.mean, out / own):
        names.append(own)
    if solved.truth is not None:
        write("measurement", solved.problem.operator.preview(solved.y)[0])
    if task.zero_filled is not None:
        write("zero_filled", task.zero_filled[0])
    if len(posterior.draws) > 1:
        report["std_map_white"] = write_map(posterior.std[0].mean(0), out / "std.png")
        names += ["std.png", *task.intervals.write(posterior, out, form)]
    return names
