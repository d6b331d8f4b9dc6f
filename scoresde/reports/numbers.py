"""The numbers of a restoration, each with what it means in a sentence."""

import math
from dataclasses import dataclass
from typing import Any

from scoresde.reports.headline import usual_residual
from scoresde.reports.views import LEVELS_PER_UNIT

__all__ = ["Number", "cost_numbers", "readable_bytes", "restoration_numbers"]


@dataclass(frozen=True)
class Number:
    """One row of a table of numbers.

    Args:
        key: Where it stands in report.json, such as "mean.psnr".
        name: What it is called.
        value: The number with all its digits.
        shown: The number as it is shown, with its unit.
        meaning: What it means, one sentence.
    """

    key: str
    name: str
    value: float
    shown: str
    meaning: str


def restoration_numbers(report: dict[str, Any]) -> list[Number]:
    """Collect the results of a restoration.

    Args:
        report: Content of report.json.

    Returns:
        The numbers that the report has, in the order in which a reader asks for them.
    """
    return [*_interval(report), *_residual(report), *_scores(report), *_settings(report)]


def _interval(report: dict[str, Any]) -> list[Number]:
    rows = []
    if math.isfinite(report["mean_std"] if report["mean_std"] is not None else math.nan):
        std = report["mean_std"]
        rows.append(
            Number(
                "mean_std",
                "standard deviation of the draws",
                std,
                f"{std * LEVELS_PER_UNIT:.2f} grey levels ({std:.4f} on [−1, 1])",
                "How far a draw lies from the mean at a pixel, on average over the picture.",
            )
        )
    found = report.get("interval")
    if found is None:
        return rows
    width, level = found["mean_width"], found["level"]
    kind = (
        f"calibrated on {found['calibration_pictures']} pictures"
        if found["calibrated"]
        else "not calibrated: from the standard deviation of the draws, as of a Gaussian"
    )
    rows.append(
        Number(
            "interval.mean_width",
            f"width of the {level:.0%} intervals",
            width,
            f"{width * LEVELS_PER_UNIT:.2f} grey levels",
            f"In {level:.0%} of the pixels the truth should lie in the interval; {kind}.",
        )
    )
    if "coverage" in found:
        rows.append(
            Number(
                "interval.coverage",
                "truth within its interval",
                found["coverage"],
                f"{found['coverage']:.1%}",
                f"Share of the pixels of this picture, whose truth is known; {level:.0%} were "
                "aimed at.",
            )
        )
    return rows


def _residual(report: dict[str, Any]) -> list[Number]:
    found = report.get("residual")
    if not found or found["ratio"] is None:
        return []
    rows = [
        Number(
            "residual.ratio",
            "residual of a draw",
            found["ratio"],
            f"{found['ratio']:.3g} × the noise",
            "Squared difference between the measurement and what a draw predicts, over that of "
            f"the noise; {usual_residual(report)}.",
        )
    ]
    if found["mean_ratio"] is not None and report["samples"] > 1:
        expected = found["mean_expected"]
        rows.append(
            Number(
                "residual.mean_ratio",
                "residual of the mean",
                found["mean_ratio"],
                f"{found['mean_ratio']:.3g} × the noise",
                "The mean lies closer to the measurement than a draw"
                + ("." if expected is None else f"; {expected:.3g} is expected here."),
            )
        )
    return rows


_SCORED = {
    "mean": "mean of the draws",
    "draw": "first draw",
    "measurement": "measurement",
}


def _scores(report: dict[str, Any]) -> list[Number]:
    rows = []
    for name, title in _SCORED.items():
        if name not in report:
            continue
        psnr, ssim = report[name]["psnr"], report[name]["ssim"]
        title = "estimate" if name == "mean" and report["samples"] == 1 else title
        if name == "draw" and report["samples"] == 1:
            continue
        rows.append(
            Number(
                f"{name}.psnr",
                f"PSNR of the {title}",
                psnr,
                f"{psnr:.2f} dB",
                "Closeness to the truth by squared error; 6 dB more is half the error.",
            )
        )
        rows.append(
            Number(
                f"{name}.ssim",
                f"SSIM of the {title}",
                ssim,
                f"{ssim:.3f}",
                "Likeness of local structure to the truth; 1 for equal pictures.",
            )
        )
    return rows


def _settings(report: dict[str, Any]) -> list[Number]:
    sigma = report.get("sigma")
    if sigma is None:
        return []
    origin = "as stated" if report["sigma_given"] else "assumed, since none was stated"
    errors = []
    if "sigma_estimate" in report:
        errors = report["sigma_estimate"]["standard_error"]
    elif "photons_estimate" in report:
        errors = [report["photons_estimate"]["read_noise_error"]]
    if errors and errors[0] is not None:
        origin = f"estimated from the measurement, with a standard error of {errors[0]:g}"
    return [
        *_blur(report),
        *_photons(report),
        Number(
            "sigma",
            "noise of the measurement",
            sigma,
            f"{sigma * LEVELS_PER_UNIT:.2f} grey levels ({sigma:g} on [−1, 1])",
            f"Standard deviation, {origin}.",
        ),
    ]


def _photons(report: dict[str, Any]) -> list[Number]:
    """The photons of a white pixel that were estimated."""
    found = report.get("photons_estimate")
    if found is None:
        return []
    return [
        Number(
            "photons",
            "photons of a white pixel",
            found["photons"],
            f"{found['photons']:g}",
            "Estimated from the measurement, with a standard error of "
            f"{found['standard_error']:g}.",
        )
    ]


def _blur(report: dict[str, Any]) -> list[Number]:
    """The width of a kernel that was estimated."""
    found = report.get("blur_estimate")
    if found is None:
        return []
    units = (("blur", "pixels"), ("blur_angle", "degrees"))
    return [
        Number(
            key,
            name,
            value,
            f"{value:g} {unit}",
            f"Estimated from the picture, with a standard error of {error:g}.",
        )
        for (key, unit), name, value, error in zip(
            units, found["names"], found["values"], found["standard_error"], strict=False
        )
    ]


def cost_numbers(report: dict[str, Any], memory: dict[str, Any] | None) -> list[Number]:
    """Collect what a restoration cost.

    Args:
        report: Content of report.json.
        memory: Answer of :func:`scoresde.reports.environment.peak_memory`.

    Returns:
        The numbers.
    """
    seconds, nfe, vjps = report["seconds"], report["nfe"], report["vjps"]
    rows = [
        Number(
            "seconds",
            "time",
            seconds,
            f"{seconds:.1f} s",
            "Wall time of all draws together, without reading and writing.",
        ),
        Number("nfe", "evaluations", nfe, str(nfe), "Runs of the network for each draw."),
        Number(
            "vjps",
            "products",
            vjps,
            str(vjps),
            "Products with the transposed Jacobian of the network for each draw; one costs about "
            "as much as two evaluations.",
        ),
    ]
    if memory is not None:
        rows.append(
            Number(
                "memory",
                "memory",
                memory["bytes"],
                readable_bytes(memory["bytes"]),
                f"Largest memory in use: {memory['of']}.",
            )
        )
    return rows


def readable_bytes(size: int) -> str:
    """Write a size in memory with a unit.

    Args:
        size: Bytes.

    Returns:
        The size in MB, or in GB from 1000 MB on.

    Example:
        >>> readable_bytes(5_500_000), readable_bytes(2_340_000_000)
        ('5.5 MB', '2.3 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
