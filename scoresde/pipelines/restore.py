"""Restore one photograph: read, measure if asked to, draw from the posterior, write the results."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from problems import InverseProblem
from scoresde.data.figures import Panel, nice_top, sheet, write_map
from scoresde.errors import InputError
from scoresde.evaluation import psnr, ssim
from scoresde.evaluation.residual import check_residual
from scoresde.files import check_writable, write_atomically, write_json
from scoresde.pipelines.cost import LARGE, check_memory, estimate_seconds
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.estimated_noise import with_estimated_noise
from scoresde.pipelines.inputs import Input, read_input
from scoresde.pipelines.intervals import Intervals, open_intervals
from scoresde.pipelines.picture_format import PictureFormat, choose_format, destination
from scoresde.pipelines.plan import draw, make_plan
from scoresde.pipelines.posterior_file import POSTERIOR, write_posterior
from scoresde.pipelines.protocol import protocol
from scoresde.pipelines.repeat import RestoreCall
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
from scoresde.priors.base import Prior
from solvers import Posterior
from solvers.posterior.path import DenoisingPath, recording_path
from solvers.registry import SOLVERS

__all__ = ["Restoration", "panels", "restore", "scores"]


@dataclass(frozen=True)
class Restoration:
    """The result of a restoration.

    Args:
        posterior: Draws, grey if the picture was.
        y: The measurement (1, ...).
        truth: The picture (1, C, H, W) on [-1, 1] if it is known, else None.
        report: What was done and found, in plain values.
    """

    posterior: Posterior
    y: Tensor
    truth: Tensor | None
    report: dict[str, Any]


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
    and interval.png.

    Args:
        image: The photograph; or a measurement (C, ...) as .npy.
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
    given = read_input(image, problem, simulate=simulate, sigma=options.stated_sigma)
    plan = make_plan(
        problem,
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
    size = plan.picture_size(given.x)
    check_memory(size, prior.shape[0], options, device)
    if say and math.prod(size) * options.samples > LARGE:
        say(_announcement(size, options, estimate_seconds(prior, size, options)))
    form = choose_format(output.format, given, plan.operator, size, file)
    intervals = open_intervals(interval, protocol(problem, plan.noise, options, plan.description))
    measured = plan.measure(given.x, prior, options.prior)
    if file is not None and file.resolve() == image.resolve():
        raise InputError(f"--out {file} is the picture that is restored; choose another name")
    folder = check_writable(folder)
    measured, noise = with_estimated_noise(prior, measured, options, interval)
    with recorded_warnings() as warned, recording_path(DenoisingPath()) as path:
        posterior = draw(prior, measured, options, progress, arrived)
    options = replace(options, samples=len(posterior.draws))
    call = RestoreCall(image, problem, options, out, simulate, interval, output)
    if named is not None:
        call = replace(named, options=options)
    result = Restoration(posterior, measured.y, measured.truth, {})
    result.report.update(
        _report(call.image, given, plan.description, options, measured.problem, result)
    )
    if noise is not None:
        result.report["sigma_estimate"] = noise.report()
    result.report["residual"] = check_residual(
        measured.problem,
        measured.y,
        posterior.draws,
        range_known=simulate or given.range.certain,
        sigma_stated=options.stated_sigma is not None,
        faithful=SOLVERS[options.solver].exactness in ("gaussian", "asymptotic"),
    ).report()
    remove_former_run(folder, [image, problem.mask, problem.kernel, interval.calibration])
    result.report["pictures"] = form.report()
    _write(folder, measured.problem, intervals, result, form, draws=not output.no_draws)
    header = _header(call, given, result.report)
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


def scores(posterior: Posterior, y: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """Score the posterior mean, one draw, and the measurement where it is a picture of that shape.

    Args:
        posterior: Draws (n, 1, C, H, W).
        y: The measurement (1, ...).
        truth: The picture (1, C, H, W) on [-1, 1].

    Returns:
        PSNR in dB and SSIM of each, by name.
    """
    images = {"mean": posterior.mean, "draw": posterior.draws[0]}
    if y.shape == truth.shape:
        images["measurement"] = y
    return {
        name: {"psnr": float(psnr(x, truth)), "ssim": float(ssim(x, truth))}
        for name, x in images.items()
    }


def _report(
    image: Path,
    given: Input,
    description: dict[str, Any],
    options: RestoreOptions,
    problem: InverseProblem,
    result: Restoration,
) -> dict[str, Any]:
    posterior = result.posterior
    report: dict[str, Any] = {
        "format": "scoresde.restore-report/1",
        "image": str(image),
        "read": given.report(),
        **description,
        "operator": repr(problem.operator),
        "noise": repr(problem.noise),
        "sigma": getattr(problem.noise, "std", None),
        "sigma_units": "standard deviation on [-1, 1]",
        "sigma_given": options.sigma is not None,
        "prior": options.prior,
        "average": options.average,
        "solver": options.solver,
        "samples": len(posterior.draws),
        "seed": options.seed,
        "size": list(posterior.draws.shape[-2:]),
        "nfe": posterior.nfe,
        "vjps": posterior.vjps,
        "seconds": round(posterior.seconds, 2),
        "mean_std": float(posterior.std.mean()),
    }
    if result.truth is None:
        return report
    return report | scores(posterior, result.y, result.truth)


def _caption(title: str, found: dict[str, float] | None) -> str:
    if not found:
        return title
    return f"{title}\n{found['psnr']:.2f} dB · SSIM {found['ssim']:.3f}"


def _misfit(report: dict[str, Any]) -> str:
    """A line on the residual, for a caption."""
    residual = report.get("residual")
    if residual is None or residual["ratio"] is None:
        return ""
    line = f"\nresidual {residual['ratio']:.2g} × the noise"
    return f"{line}: see report.json" if residual["warnings"] else line


def panels(
    posterior: Posterior, view: Tensor, truth: Tensor | None, report: dict[str, Any]
) -> list[Panel]:
    """Lay out a row of pictures: truth, measurement, one draw, posterior mean, std.

    Args:
        posterior: Draws (n, 1, C, H, W).
        view: The measurement as a picture (1, C, H, W).
        truth: The picture, None if it is not known.
        report: Scores for the captions, by name.

    Returns:
        The panels.
    """
    row = [Panel(truth[0], "truth")] if truth is not None else []
    row.append(Panel(view[0], _caption("measurement", report.get("measurement"))))
    row.append(Panel(posterior.draws[0, 0], _caption("one draw", report.get("draw"))))
    if len(posterior.draws) > 1:
        std, title = posterior.std[0].mean(0), f"posterior mean of {len(posterior.draws)}"
        row.append(Panel(posterior.mean[0], _caption(title, report.get("mean")) + _misfit(report)))
        row.append(Panel(std, "posterior standard deviation\non [−1, 1]", top=nice_top(std)))
    return row


def _header(call: RestoreCall, given: Input, report: dict[str, Any]) -> dict[str, Any]:
    """What posterior.npz says beside its arrays."""
    interval = report.get("interval")
    return {
        "black": given.range.low,
        "white": given.range.high,
        "level": None if interval is None else interval["level"],
        "calibrated": None if interval is None else interval["calibrated"],
        "image": str(call.image),
        "problem": report["problem"],
        "prior": report["prior"],
        "solver": report["solver"],
        "samples": report["samples"],
        "seed": report["seed"],
        "command": call.command(),
    }


def _write(
    out: Path,
    problem: InverseProblem,
    intervals: Intervals,
    result: Restoration,
    form: PictureFormat,
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
    if truth is not None:
        shown = f"measurement{form.suffix}"
        form.write(view[0], out / shown)
        array = result.y[0].numpy()
        write_atomically(out / "measurement.npy", lambda temporary: _save(temporary, array))
        files += [shown, "measurement.npy"]
    if len(posterior.draws) > 1:
        report["std_map_white"] = write_map(posterior.std[0].mean(0), out / "std.png")
        report["interval"] = intervals.report(posterior, truth)
        files += ["std.png", *intervals.write(posterior, out, form)]
    report["files"] = files
    sheet([panels(posterior, view, truth, report)], out / "sheet.png")
    write_json(problem.describe(), out / "problem.json")
    write_json(report, out / "report.json")


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would append a suffix to the name
        np.save(file, array)
