"""Restore one photograph: read, measure if asked to, draw from the posterior, write what a person and a program need."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import GaussianNoise, Grey, InverseProblem
from scoresde.checkpoint import load_prior
from scoresde.errors import InputError, check_writable
from scoresde.evaluation import psnr, ssim
from scoresde.images import read_image, write_image, write_via_rename
from scoresde.options import ProblemOptions, as_input_error, build_operator
from scoresde.prior import Prior
from scoresde.report import Panel, colour_map, sheet, write_json
from scoresde.tiling import TiledPrior
from solvers import Posterior, make_solver

__all__ = [
    "DEFAULT_SOLVER",
    "RestoreOptions",
    "Restoration",
    "choose_device",
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
    device: str = "auto"
    precision: str = "auto"
    tile: int = _TILE

    def noise_level(self, simulate: bool) -> float:
        sigma = self.sigma if self.sigma is not None else (0.05 if simulate else 0.02)
        if not sigma > 0:
            raise InputError(f"--sigma must be above 0 (a standard deviation on [-1, 1]), got {sigma:g}; for a clean picture use 0.01")
        return sigma


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
        raise InputError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def open_prior(name: str, device: torch.device, precision: str) -> Prior:
    """A prior by name or path. precision "auto": bfloat16 inside the network where the processor has it, float32 elsewhere."""
    if precision not in ("auto", "bf16", "fp32"):
        raise InputError(f"--precision must be auto, bf16 or fp32, got {precision!r}")
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    use_bf16 = precision == "bf16" or (precision == "auto" and fast)
    return load_prior(name, device, torch.bfloat16 if use_bf16 else None)


def restore_tensor(
    prior: Prior, problem: InverseProblem, y: Tensor, options: RestoreOptions, progress: Callable[[float], None] | None = None
) -> Posterior:
    """Posterior draws for one measurement y (1, C, h, w), in memory that the size of the picture does not raise above a tile's."""
    with as_input_error():
        solver = make_solver(options.solver, options.steps, options.sampler)
        pixels = torch.Size(problem.input_shape(y)[-2:]).numel()
        tiled = TiledPrior(prior, options.tile, min(48, options.tile // 4))
        batch = max(1, min(_PIXELS_AT_ONCE // pixels, options.samples))
        generator = torch.Generator().manual_seed(options.seed)
        return solver.sample(tiled, problem, y, options.samples, generator=generator, batch=batch, progress=progress)


def restore(
    image: Path,
    damage: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    *,
    simulate: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Restoration:
    """Restore ``image`` and write mean.png, std.png, draw_*.png, sheet.png and report.json into ``out``.

    simulate: the picture is the truth and is damaged first; otherwise it is the measurement.
    """
    sigma = options.noise_level(simulate)
    picture = read_image(image)[None]
    generator = torch.Generator().manual_seed(options.seed)
    base, description = build_operator(damage, image, picture.shape[-2], picture.shape[-1], simulate, generator)
    if options.samples < 1:
        raise InputError(f"--samples must be at least 1, got {options.samples}")
    with as_input_error():
        make_solver(options.solver, options.steps, options.sampler)
    out = check_writable(out)
    device = choose_device(options.device)
    prior = open_prior(options.prior, device, options.precision)
    grey = picture.shape[1] == 1 and prior.shape[0] > 1
    if not grey and picture.shape[1] != prior.shape[0]:
        raise InputError(f"{image} has {picture.shape[1]} channels, the prior {options.prior!r} is for {prior.shape[0]}")
    operator = Grey(base, prior.shape[0]) if grey else base
    with as_input_error():
        problem = InverseProblem(operator, GaussianNoise(sigma))
        y = (
            problem.measure(picture.expand(-1, prior.shape[0], -1, -1) if grey else picture, generator)
            if simulate
            else operator.observed(picture)
        )

    posterior = restore_tensor(prior, problem, y, options, progress)
    draws = posterior.draws.float().cpu()
    posterior = replace(posterior, draws=draws.mean(2, keepdim=True) if grey else draws)
    truth = picture if simulate else None
    report = _report(image, description, options, sigma, posterior, truth, y)
    _write(out, posterior, y, truth, report, simulate)
    return Restoration(posterior, y, truth, report)


def scores(posterior: Posterior, y: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """PSNR and SSIM of the posterior mean, of one draw, and of the measurement where it has the shape of the truth (1, C, H, W)."""
    images = {"mean": posterior.mean, "draw": posterior.draws[0]} | ({"measurement": y} if y.shape == truth.shape else {})
    return {name: {"psnr": float(psnr(x, truth)), "ssim": float(ssim(x, truth))} for name, x in images.items()}


def _report(
    image: Path, description: dict[str, Any], options: RestoreOptions, sigma: float, posterior: Posterior, truth: Tensor | None, y: Tensor
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "image": str(image),
        **description,
        "sigma": sigma,
        "sigma_units": "standard deviation on [-1, 1]",
        "prior": options.prior,
        "solver": options.solver,
        "samples": len(posterior.draws),
        "seed": options.seed,
        "size": list(posterior.draws.shape[-2:]),
        "network_evaluations_per_draw": posterior.nfe,
        "vector_jacobian_products_per_draw": posterior.vjps,
        "seconds": round(posterior.seconds, 2),
        "mean_std": float(posterior.std.mean()),
    }
    return report | (scores(posterior, y, truth) if truth is not None else {})


def _caption(title: str, scores: dict[str, float] | None) -> str:
    if not scores:
        return title
    return f"{title}\n{scores['psnr']:.2f} dB · SSIM {scores['ssim']:.3f}"


def panels(posterior: Posterior, y: Tensor, truth: Tensor | None, report: dict[str, Any]) -> list[Panel]:
    """truth | measurement | one draw | posterior mean | posterior standard deviation."""
    row = [Panel(truth[0], "truth")] if truth is not None else []
    row.append(Panel(y[0], _caption("measurement", report.get("measurement"))))
    row.append(Panel(posterior.draws[0, 0], _caption("one draw", report.get("draw"))))
    if len(posterior.draws) > 1:
        std = posterior.std[0].mean(0)
        row.append(Panel(posterior.mean[0], _caption(f"posterior mean of {len(posterior.draws)}", report.get("mean"))))
        row.append(Panel(std, "posterior standard deviation\non [−1, 1]", top=_nice_top(std)))
    return row


def _nice_top(values: Tensor) -> float:
    return float(f"{max(float(values.flatten().double().quantile(0.995)) if values.numel() < 1 << 23 else float(values.max()), 1e-3):.1g}")


def _write(out: Path, posterior: Posterior, y: Tensor, truth: Tensor | None, report: dict[str, Any], simulate: bool) -> None:
    from PIL import Image

    for i, draw in enumerate(posterior.draws):
        write_image(draw[0], out / f"draw_{i + 1}.png")
    write_image(posterior.mean[0], out / "mean.png")
    files = ["mean.png", "draw_1.png", "sheet.png", "report.json"]
    if simulate:
        write_image(y[0], out / "measurement.png")
        files.append("measurement.png")
    if len(posterior.draws) > 1:
        std = posterior.std[0].mean(0)
        top = _nice_top(std)
        report["std_map_white"] = top
        view = Image.fromarray(colour_map(std, top))
        write_via_rename(out / "std.png", lambda temporary: view.save(temporary, format="PNG"))
        files.append("std.png")
    report["files"] = files
    sheet([panels(posterior, y, truth, report)], out / "sheet.png")
    write_json(report, out / "report.json")
