"""Restore one photograph: read, measure if asked to, draw from the posterior, write what a person and a program need."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems import Grayscale, InverseProblem, Noise, Operator
from scoresde.data.figures import Panel, nice_top, sheet, write_map
from scoresde.data.images import read_image, write_image
from scoresde.errors import InputError
from scoresde.evaluation import psnr, ssim
from scoresde.files import check_writable, write_atomically, write_json
from scoresde.pipelines.intervals import IntervalOptions, Intervals
from scoresde.pipelines.named_problems import (
    ImageContext,
    ProblemOptions,
    build_noise,
    build_operator,
)
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.protocol import procedure
from scoresde.priors.averaged import EquivariantPrior
from scoresde.priors.base import Prior
from scoresde.priors.checkpoint import load_prior
from scoresde.priors.tiled import TiledPrior
from solvers import EFFORTS, Posterior, make_solver

__all__ = [
    "DEFAULT_SOLVER",
    "Measurement",
    "RestoreOptions",
    "Restoration",
    "budget",
    "check_options",
    "choose_device",
    "choose_noise",
    "draw",
    "make_measurement",
    "open_prior",
    "panels",
    "restore",
    "restore_tensor",
    "scores",
]

DEFAULT_SOLVER = "mmps"
_PIXELS_AT_ONCE = 1 << 18  # of all draws together: about 1 GB of activations with gradients
_TILE = 384


@dataclass(frozen=True)
class RestoreOptions:
    """sigma: noise on [-1, 1], None for 0.05 when simulating and 0.02 otherwise. samples: posterior draws. tile: largest side the
    network sees at once."""

    sigma: float | None = None
    solver: str = DEFAULT_SOLVER
    sampler: str | None = None
    steps: int | None = None
    samples: int = 8
    seed: int = 0
    prior: str = "natural"
    average: str | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int = _TILE

    def procedure(self, damage: ProblemOptions, noise: Noise) -> dict[str, Any]:
        """What a calibration of these restorations is tied to."""
        return procedure(
            damage, noise, prior=self.prior, average=self.average, solver=self.solver, sampler=self.sampler, steps=self.steps,
            samples=self.samples,
        )  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """A measurement y of the prior's channels. grey: the picture behind it is grey, the mean of the prior's colours."""

    problem: InverseProblem
    y: Tensor
    grey: bool


@dataclass(frozen=True)
class Restoration:
    """The posterior (grey again if the picture was), the measurement y, the truth if known, the report."""

    posterior: Posterior
    y: Tensor
    truth: Tensor | None
    report: dict[str, Any]


def choose_device(name: str) -> torch.device:
    """ "auto" is the first GPU, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from None
    return device


def open_prior(
    name: str,
    device: torch.device,
    precision: str,
    average: str | None = None,
    *,
    recompute: bool = False,
) -> Prior:
    """A prior by name or path, averaged over the group of that name if one is given; recompute: of :class:`EquivariantPrior`.

    precision "auto": bfloat16 inside the network where the processor has it, float32 elsewhere.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise InputError(f"--precision must be auto, bf16 or fp32, got {precision!r}")
    fast = (
        torch.cuda.is_bf16_supported()
        if device.type == "cuda"
        else torch.cpu._is_avx512_bf16_supported()
    )
    use_bf16 = precision == "bf16" or (precision == "auto" and fast)
    prior = load_prior(name, device, torch.bfloat16 if use_bf16 else None)
    if average is None:
        return prior
    with as_input_error():
        return EquivariantPrior(prior, average, recompute=recompute)


def restore_tensor(
    prior: Prior,
    problem: InverseProblem,
    y: Tensor,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
) -> Posterior:
    """Posterior draws for one measurement y (1, C, h, w), in memory that the size of the picture does not raise above a tile's."""
    with as_input_error():
        solver = make_solver(options.solver, options.steps, options.sampler)
        pixels = torch.Size(problem.input_shape(y)[-2:]).numel()
        tiled = TiledPrior(prior, options.tile, min(48, options.tile // 4))
        batch = max(1, min(_PIXELS_AT_ONCE // pixels, options.samples))
        generator = torch.Generator().manual_seed(options.seed)
        return solver.sample(
            tiled, problem, y, options.samples, generator=generator, batch=batch, progress=progress
        )


def budget(
    effort: str, solver: str, steps: int | None, samples: int | None
) -> tuple[int | None, int]:
    """steps and samples, decided by a budget's name where they are None; InputError for an unknown one."""
    if effort not in EFFORTS:
        raise InputError(f"unknown effort {effort!r}; known: {', '.join(EFFORTS)}")
    chosen = EFFORTS[effort]
    if steps is None and chosen.steps != 1:
        with as_input_error():
            steps = chosen.scaled_steps(solver)
    return steps, chosen.draws if samples is None else samples


def check_options(options: RestoreOptions) -> None:
    """InputError if no solver can be made of them."""
    if options.samples < 1:
        raise InputError(f"--samples must be at least 1, got {options.samples}")
    with as_input_error():
        make_solver(options.solver, options.steps, options.sampler)


def choose_noise(
    damage: ProblemOptions, sigma: float | None, base: Operator, simulate: bool
) -> Noise:
    """The noise asked for, or the default of the operator."""
    return build_noise(damage, sigma, 0.1 if base.quantises else 0.05 if simulate else 0.02)


def make_measurement(
    base: Operator,
    noise: Noise,
    picture: Tensor,
    simulate: bool,
    prior: Prior,
    name: str,
    generator: torch.Generator,
) -> Measurement:
    """picture (1, C, ...): the truth, which is measured here, or the measurement. name: the prior's, for errors."""
    with as_input_error():
        operator = _for_prior(base, picture, simulate, prior.shape[0], name)
        problem = InverseProblem(operator, noise)
        grey = operator is not base
        truth = (
            (picture.expand(-1, prior.shape[0], -1, -1) if grey else picture) if simulate else None
        )
        y = (
            operator.mask_unobserved(picture)
            if truth is None
            else operator.apply(truth)
            if base.quantises
            else problem.measure(truth, generator)
        )
    return Measurement(problem, y, grey)


def draw(
    prior: Prior,
    of: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
) -> Posterior:
    """Posterior draws on the CPU, grey again if the picture was."""
    posterior = restore_tensor(prior, of.problem, of.y, options, progress)
    draws = posterior.draws.float().cpu()
    return replace(posterior, draws=draws.mean(2, keepdim=True) if of.grey else draws)


def restore(
    image: Path,
    damage: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    *,
    simulate: bool = False,
    interval: IntervalOptions | None = None,
    progress: Callable[[float], None] | None = None,
) -> Restoration:
    """Restore ``image`` and write mean.png, std.png, draw_*.png, sheet.png, problem.json and report.json into ``out``; with a
    calibration also lower.png, upper.png and interval.png.

    simulate: the picture is the truth and is damaged first; otherwise it is the measurement, which may also be a .npy file (C, ...).
    """
    picture = _read(image, simulate)
    generator = torch.Generator().manual_seed(options.seed)
    height, width = picture.shape[-2:]
    base, description = build_operator(
        damage, ImageContext(image, height, width, simulate, generator)
    )
    noise = choose_noise(damage, options.sigma, base, simulate)
    check_options(options)
    out = check_writable(out)
    device = choose_device(options.device)
    prior = open_prior(options.prior, device, options.precision, options.average, recompute=True)
    intervals = (interval or IntervalOptions()).open(options.procedure(damage, noise))
    measurement = make_measurement(base, noise, picture, simulate, prior, options.prior, generator)
    posterior = draw(prior, measurement, options, progress)
    truth = picture if simulate else None
    report = _report(
        image, description, options, measurement.problem, posterior, truth, measurement.y
    )
    _write(out, posterior, measurement.problem, measurement.y, truth, intervals, report)
    return Restoration(posterior, measurement.y, truth, report)


def _read(path: Path, simulate: bool) -> Tensor:
    """The picture, or the measurement in a .npy file, (1, C, ...)."""
    if path.suffix != ".npy":
        return read_image(path)[None]
    if simulate:
        raise InputError(f"--simulate damages a picture; {path} is a measurement already")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"cannot read the measurement {path}: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}"
        ) from None
    if array.dtype.kind not in "fiub" or array.ndim < 1 or not np.isfinite(array).all():
        raise InputError(
            f"a measurement must be an array of finite real numbers, got {array.dtype} {array.shape} in {path}"
        )
    return torch.from_numpy(array.astype(np.float32))[None]


def _for_prior(
    base: Operator, picture: Tensor, simulate: bool, channels: int, name: str
) -> Operator:
    """The operator on the prior's channels: a grey picture is the mean of the prior's colours."""
    shape = tuple(picture.shape[1:])
    given = shape[0] if simulate else base.input_shape(shape)[0]
    if given == channels:
        return base
    if given != 1:
        raise InputError(f"the picture has {given} channels, the prior {name!r} is for {channels}")
    return base @ Grayscale((1 / channels,) * channels)


def scores(posterior: Posterior, y: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """PSNR and SSIM of the posterior mean, of one draw, and of the measurement where it has the shape of the truth (1, C, H, W)."""
    images = {"mean": posterior.mean, "draw": posterior.draws[0]} | (
        {"measurement": y} if y.shape == truth.shape else {}
    )
    return {
        name: {"psnr": float(psnr(x, truth)), "ssim": float(ssim(x, truth))}
        for name, x in images.items()
    }


def _report(
    image: Path,
    description: dict[str, Any],
    options: RestoreOptions,
    problem: InverseProblem,
    posterior: Posterior,
    truth: Tensor | None,
    y: Tensor,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "image": str(image),
        **description,
        "operator": repr(problem.operator),
        "noise": repr(problem.noise),
        "sigma": getattr(problem.noise, "std", None),
        "sigma_units": "standard deviation on [-1, 1]",
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
    return report | (scores(posterior, y, truth) if truth is not None else {})


def _caption(title: str, scores: dict[str, float] | None) -> str:
    if not scores:
        return title
    return f"{title}\n{scores['psnr']:.2f} dB · SSIM {scores['ssim']:.3f}"


def panels(
    posterior: Posterior, view: Tensor, truth: Tensor | None, report: dict[str, Any]
) -> list[Panel]:
    """truth | measurement | one draw | posterior mean | posterior standard deviation. view: the measurement as a picture."""
    row = [Panel(truth[0], "truth")] if truth is not None else []
    row.append(Panel(view[0], _caption("measurement", report.get("measurement"))))
    row.append(Panel(posterior.draws[0, 0], _caption("one draw", report.get("draw"))))
    if len(posterior.draws) > 1:
        std = posterior.std[0].mean(0)
        row.append(
            Panel(
                posterior.mean[0],
                _caption(f"posterior mean of {len(posterior.draws)}", report.get("mean")),
            )
        )
        row.append(Panel(std, "posterior standard deviation\non [−1, 1]", top=nice_top(std)))
    return row


def _write(
    out: Path,
    posterior: Posterior,
    problem: InverseProblem,
    y: Tensor,
    truth: Tensor | None,
    intervals: Intervals,
    report: dict[str, Any],
) -> None:
    view = problem.operator.preview(y)
    for i, draw in enumerate(posterior.draws):
        write_image(draw[0], out / f"draw_{i + 1}.png")
    write_image(posterior.mean[0], out / "mean.png")
    files = ["mean.png", "draw_1.png", "sheet.png", "report.json", "problem.json"]
    if truth is not None:
        write_image(view[0], out / "measurement.png")
        write_atomically(out / "measurement.npy", lambda temporary: _save(temporary, y[0].numpy()))
        files += ["measurement.png", "measurement.npy"]
    if len(posterior.draws) > 1:
        report["std_map_white"] = write_map(posterior.std[0].mean(0), out / "std.png")
        report["interval"] = intervals.report(posterior, truth)
        files += ["std.png", *intervals.write(posterior, out)]
    report["files"] = files
    sheet([panels(posterior, view, truth, report)], out / "sheet.png")
    write_json(problem.describe(), out / "problem.json")
    write_json(report, out / "report.json")


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would append a suffix to the name
        np.save(file, array)
