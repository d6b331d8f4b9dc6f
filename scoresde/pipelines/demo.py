"""Three photographs, three measurements, one prior: what `make demo` shows."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import (
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearOperator,
    MotionBlur,
    SuperResolution,
    box_mask,
)
from scoresde.data.figures import sheet
from scoresde.data.images import from_bytes
from scoresde.files import check_writable, write_json
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.plan import check_options, restore_tensor
from scoresde.pipelines.restore import panels, scores
from scoresde.pipelines.settings import RestoreOptions

__all__ = ["SCENES", "demo", "photograph"]

SIGMA = 0.05
SIDE = 160

Scene = tuple[str, str, LinearOperator, tuple[int, int]]

_HOLE = Inpainting(box_mask(SIDE, SIDE, 96, 20, 40, 40))

SCENES: list[Scene] = [
    (
        "astronaut",
        "box inpainting, 40×40",
        Inpainting(box_mask(SIDE, SIDE, 96, 20, 40, 40)),
        (0, 130),
    ),
    ("chelsea", "motion deblurring, 15 taps", MotionBlur(15, 30.0), (60, 130)),
    ("coffee", "super-resolution ×4", SuperResolution(4), (60, 230)),
]
"""Picture of scikit-image (public domain or CC0), title, operator, top left corner of the crop."""


def photograph(name: str, corner: tuple[int, int]) -> Tensor:
    """Crop a picture that scikit-image ships.

    Args:
        name: Name of a function of `skimage.data`.
        corner: Top and left of the crop, in pixels.

    Returns:
        The crop (1, 3, SIDE, SIDE) on [-1, 1].
    """
    import skimage.data  # slow to import

    picture = from_bytes(torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1))
    top, left = corner
    return picture[None, :, top : top + SIDE, left : left + SIDE].contiguous()


def demo(
    out: Path,
    options: RestoreOptions,
    say: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Restore the three scenes and write `sheet.png` and `report.json`.

    Args:
        out: Folder to write into, made if need be.
        options: Prior, solver, draws and seed.
        say: Called with a line for each picture.
        progress: Called with the finished fraction of the work.

    Returns:
        The report.

    Raises:
        InputError: If the folder cannot be written or an option cannot be used.
    """
    check_options(options)
    check_writable(out)
    device = choose_device(options.device)
    prior = open_prior(options.prior, device, options.precision, options.average, recompute=True)
    rows, reports, start = [], [], time.perf_counter()
    for index, (name, title, operator, corner) in enumerate(SCENES):
        truth = photograph(name, corner)
        problem = InverseProblem(operator, GaussianNoise(SIGMA))
        y = problem.measure(truth, torch.Generator().manual_seed(options.seed + index))
        share = None if progress is None else _share(progress, index)
        posterior = restore_tensor(prior, problem, y, options, share)
        report: dict[str, Any] = {"picture": name, "problem": title}
        report |= scores(posterior, y, truth)
        report |= {"nfe": posterior.nfe, "seconds": round(posterior.seconds, 1)}
        first, *others = panels(options.solver, posterior, y, truth, report)
        rows.append([replace(first, caption=f"{first.caption}\n{title}"), *others])
        reports.append(report)
        if say:
            mean, before = report["mean"], report.get("measurement")
            measured = f" (measurement {before['psnr']:.2f} dB)" if before else ""
            say(
                f"{name:10s} {title:27s} mean {mean['psnr']:.2f} dB{measured}, "
                f"SSIM {mean['ssim']:.3f}, {report['seconds']} s"
            )
    total = {
        "format": "scoresde.demo-report/1",
        "sigma": SIGMA,
        "sigma_units": "standard deviation on [-1, 1]",
        "solver": options.solver,
        "samples": options.samples,
        "seed": options.seed,
        "restoration_seconds": round(time.perf_counter() - start, 1),
        "scenes": reports,
    }
    sheet(rows, out / "sheet.png")
    write_json(total, out / "report.json")
    return total


def _share(progress: Callable[[float], None], scene: int) -> Callable[[float], None]:
    """Progress of one scene as progress of all of them."""
    return lambda fraction: progress((scene + fraction) / len(SCENES))
