"""What is found of a restoration: scores, residual, panels, and the entries of its report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from problems import InverseProblem
from scoresde.data.figures import Panel, nice_top
from scoresde.evaluation import psnr, ssim
from scoresde.evaluation.residual import check_residual
from scoresde.files import write_atomically
from scoresde.pipelines.inputs import Input
from scoresde.pipelines.plan import Measurement, prior_for, solver_of
from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.settings import RestoreOptions
from scoresde.pipelines.sigma_units import stds_in_file_values
from scoresde.priors.base import Prior
from solvers import Posterior
from solvers.registry import SOLVERS

__all__ = [
    "Restoration",
    "panels",
    "posterior_header",
    "report_of",
    "residual_of",
    "scores",
    "write_array",
]


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


def residual_of(
    measured: Measurement,
    posterior: Posterior,
    options: RestoreOptions,
    *,
    range_known: bool,
    sigma_stated: bool,
    prior: Prior | None,
    window: bool = False,
) -> dict[str, Any]:
    """Compare the residual of the draws with the noise.

    Args:
        measured: The measurement.
        posterior: Draws (n, 1, C, H, W).
        options: Solver, sampler, steps and starts that made them.
        range_known: Whether the range of the values is known.
        sigma_stated: Whether the noise level is a statement of the user.
        prior: Prior that tells whether noise and kernel are as stated; None if that is certain.
        window: Whether the measurement is a window of a larger picture.

    Returns:
        The entry of the report.
    """
    return check_residual(
        measured.problem,
        measured.y,
        posterior.draws,
        range_known=range_known,
        sigma_stated=sigma_stated,
        faithful=SOLVERS[options.solver].exactness in ("gaussian", "asymptotic"),
        balanced=solver_of(options).balanced,
        prior=None if prior is None else prior_for(measured, prior),
        window=window,
    ).report()


def report_of(
    image: Path,
    given: Input,
    description: dict[str, Any],
    options: RestoreOptions,
    problem: InverseProblem,
    result: Restoration,
) -> dict[str, Any]:
    """Collect what a report says of a restoration.

    Args:
        image: Path of the file, for the report.
        given: The file that is restored.
        description: The problem in plain values.
        options: How it was restored.
        problem: Operator and noise.
        result: Draws (n, 1, C, H, W), measurement and truth.

    Returns:
        Entries of report.json.
    """
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
    report["in_file_values"] = stds_in_file_values(
        given, sigma=report["sigma"], mean_std=report["mean_std"]
    )
    if "starts" in posterior.diagnostics:
        report["starts"] = {
            "runs": posterior.diagnostics["starts"][0],
            "residuals": posterior.diagnostics["start_residuals"][0],
            "ambiguities": posterior.diagnostics.get("ambiguities", [[]])[0],
        }
    if result.truth is None:
        return report
    align = getattr(problem.operator, "align", None)
    if align is not None:  # y does not tell equivalent pictures apart, and no score should
        posterior = replace(posterior, draws=align(posterior.draws, result.truth.cpu()))
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
    solver: str, posterior: Posterior, view: Tensor, truth: Tensor | None, report: dict[str, Any]
) -> list[Panel]:
    """Lay out a row of pictures: truth, measurement, one draw or estimate, posterior mean, std.

    Args:
        solver: Name of the solver, which says whether its result is a draw or an estimate.
        posterior: Draws (n, 1, C, H, W).
        view: The measurement as a picture (1, C, H, W).
        truth: The picture, None if it is not known.
        report: Scores for the captions, by name.

    Returns:
        The panels.
    """
    row = [Panel(truth[0], "truth")] if truth is not None else []
    row.append(Panel(view[0], _caption("measurement", report.get("measurement"))))
    one = "estimate" if SOLVERS[solver].is_estimate else "one draw"
    row.append(Panel(posterior.draws[0, 0], _caption(one, report.get("draw"))))
    if len(posterior.draws) > 1:
        std, title = posterior.std[0].mean(0), f"posterior mean of {len(posterior.draws)}"
        row.append(Panel(posterior.mean[0], _caption(title, report.get("mean")) + _misfit(report)))
        row.append(Panel(std, "posterior standard deviation\non [−1, 1]", top=nice_top(std)))
    return row


def posterior_header(call: RestoreCall, given: Input, report: dict[str, Any]) -> dict[str, Any]:
    """Collect what posterior.npz says beside its arrays.

    Args:
        call: What was asked for.
        given: The file that is restored.
        report: Content of report.json.

    Returns:
        Its header.
    """
    interval = report.get("interval")
    return {
        "black": given.range.low,
        "white": given.range.high,
        "file_units": given.units,
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


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy.

    Args:
        path: Path of the file.
        array: The array.

    Raises:
        InputError: If the file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.save would append a suffix to the name
            np.save(file, array)

    write_atomically(path, write)
