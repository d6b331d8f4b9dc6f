"""Part (c) of benchmarks/science.py: deconvolution of a stack of 16 bits, in photons."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from classical import tv_deconvolution
from science_parts import Restored, intervals, rms, seeded
from skimage.restoration import richardson_lucy, wiener
from torch import Tensor

from problems import DiffractionBlur, InverseProblem, PoissonGaussianNoise
from scoresde.data.phantoms import filaments
from scoresde.priors.base import Prior
from solvers import make_solver

SIDE = 64
PEAK = 100.0
"""Photons of the brightest pixel without blur."""
GAIN, OFFSET, READ = 8.0, 100.0, 1.5
"""Units of the camera per photon, its zero, and its read noise in photons."""
LENS = DiffractionBlur(
    wavelength=0.52, aperture=1.2, index=1.33, pixel=0.1, size=31, boundary="reflect"
)
"""Green light in water, lengths in micrometres."""
PROBLEM = InverseProblem(LENS, PoissonGaussianNoise(PEAK, 2 * READ / PEAK))
MARGIN = 32
FEW = 4
"""Planes that are restored with the prior of photographs, which is a large network."""
ITERATIONS = (2, 3, 5, 7, 10, 20)
BALANCES = (0.003, 0.01, 0.03, 0.1, 0.3)
WEIGHTS = (0.01, 0.02, 0.04, 0.08)


def photons_of(x: Tensor) -> Tensor:
    """Photons of values on [-1, 1]."""
    return PEAK * (x + 1) / 2


def stack(planes: int, seed: int) -> tuple[Tensor, Tensor]:
    """A stack of a camera, written as a TIFF of 16 bits and read again.

    Returns:
        Measurements and truth, both (planes, 1, H, W) on [-1, 1]: -1 for no light.
    """
    truth = 2 * filaments(planes, SIDE, seeded(seed)) - 1
    electrons = photons_of(PROBLEM.measure(truth, seeded(seed + 1)))
    units = (GAIN * electrons + OFFSET).round().clamp(0, 2**16 - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        tifffile.imwrite(path, units[:, 0].numpy().astype(np.uint16), photometric="minisblack")
        read = torch.from_numpy(tifffile.imread(path).astype(np.float32))[:, None]
    return 2 * (read - OFFSET) / GAIN / PEAK - 1, truth


def _padded(y: Tensor) -> np.ndarray:
    """Photons of a plane, continued by reflection, as the blur continues it."""
    return np.pad(photons_of(y)[0].double().numpy(), MARGIN, mode="symmetric")


def _cropped(photons: np.ndarray) -> Tensor:
    inner = photons[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return torch.from_numpy(np.ascontiguousarray(inner))[None].float()


def by_richardson_lucy(y: Tensor, iterations: float) -> Tensor:
    """Photons by the iterations of Richardson (1972) and Lucy (1974), without clipping above."""
    kernel = LENS.kernel.numpy()
    found = richardson_lucy(_padded(y).clip(1e-3), kernel, int(iterations), clip=False)
    return _cropped(found)


def by_wiener(y: Tensor, balance: float) -> Tensor:
    """Photons by scikit-image's Wiener filter."""
    return _cropped(wiener(_padded(y), LENS.kernel.numpy(), balance, clip=False))


def by_total_variation(y: Tensor, weight: float) -> Tensor:
    """Photons by least squares with total variation, `classical.tv_deconvolution`."""
    return photons_of(tv_deconvolution(LENS, y[None], weight)[0])


def run(
    priors: dict[str, Prior], few: tuple[str, ...], solver: str, planes: int, draws: int
) -> dict[str, Any]:
    """All rows of the part, of a stack; errors and widths in photons.

    Args:
        priors: Priors by their labels.
        few: Labels of the priors that restore the first planes alone.
        solver: Name of a solver.
        planes: Number of planes.
        draws: Number of draws of each plane.
    """
    y, truth = stack(planes, 31)
    wanted = photons_of(truth)

    def row(found: list[Tensor], seconds: float) -> dict[str, Any]:
        pairs = [x - t for x, t in zip(found, wanted, strict=False)]
        error = rms(pairs)
        first = {"rmse": error, "psnr": 20 * math.log10(PEAK / error)} if found[FEW:] else {}
        return {**first, "few": rms(pairs[:FEW]), "seconds": seconds}

    cells: dict[str, Any] = {"measured": row(list(photons_of(y)), 0.0)}
    methods: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
        "Wiener (scikit-image)": (by_wiener, BALANCES),
        "Richardson-Lucy (scikit-image)": (by_richardson_lucy, ITERATIONS),
        "TV": (by_total_variation, WEIGHTS),
    }
    for name, (method, grid) in methods.items():
        rows = []
        for value in grid:
            start = time.perf_counter()
            found = [method(one, value) for one in y]
            seconds = (time.perf_counter() - start) / planes
            rows.append(row(found, seconds) | {"parameter": value})
        cells[name] = min(rows, key=lambda one: one["rmse"])
        print(name, cells[name], flush=True)
    for label, prior in priors.items():
        kept, some = [], y[:FEW] if label in few else y
        for k, one in enumerate(some):
            post = make_solver(solver).sample(prior, PROBLEM, one[None], draws, generator=seeded(k))
            kept.append(Restored(post.draws.flatten(1), truth[k].flatten(), post.seconds))
        means = [photons_of(x.draws.mean(0)).reshape(1, SIDE, SIDE) for x in kept]
        singles = [photons_of(x.draws[0]).reshape(1, SIDE, SIDE) for x in kept]
        cells[f"ours, {label}"] = {
            **row(means, sum(x.seconds for x in kept) / len(kept)),
            "one draw": row(singles, 0.0)["few"],
            **(intervals(kept, PEAK / 2) if some is y else {}),
        }
        print(label, cells[f"ours, {label}"], flush=True)
    return cells
