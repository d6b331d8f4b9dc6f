"""Part (a) of benchmarks/science.py: MRI with eight coils, in the units of the scanner."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from science_parts import Restored, intervals, seeded
from torch import Tensor

from problems import (
    MRI,
    GaussianNoise,
    InverseProblem,
    birdcage_maps,
    cartesian_mask,
    channels_of,
    coil_covariance,
    complex_of,
    espirit_maps,
    magnitude,
    prewhiten,
    root_sum_of_squares,
)
from scoresde.data.phantoms import head_phantoms
from scoresde.priors.base import Prior
from solvers import make_solver

SIDE, COILS = 64, 8
BRIGHT = 1000.0
"""Units of the scanner for each unit of the phantom."""
NOISE = 15.0
"""Standard deviation of the complex noise of a coil, in units of the scanner."""
CALIBRATION = 24
CENTRES = {4: 0.08, 8: 0.06}
WAVELET = (1.0, 2.0, 4.0, 8.0)
TV = (1.0, 2.0, 4.0, 8.0)
SENSE = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Scan:
    """What a scanner gives, and the truth.

    Args:
        kspace: k-space (coils, H, W), zero where it was not measured.
        calibration: Another scan, of the middle of k-space alone.
        silence: Noise without excitation (coils, samples).
        mask: Mask (H, W) of k-space.
        truth: Magnitudes (H, W) of the image.
    """

    kspace: Tensor
    calibration: Tensor
    silence: Tensor
    mask: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Prepared:
    """What the restorations start from.

    Args:
        problem: White noise, maps that turn images of the prior into white k-space.
        y: White k-space as channels (1, 2 coils, H, W).
        maps: Sensitivities (coils, H, W) in the units of the scanner.
        gain: Units of the scanner for each unit of the prior.
        object: Pixels (H, W) in which ESPIRiT finds an object.
    """

    problem: InverseProblem
    y: Tensor
    maps: Tensor
    gain: float
    object: Tensor


def covariance() -> Tensor:
    """The covariance of the coils: neighbours share noise, and one coil is noisier than others."""
    ring = torch.arange(COILS)
    apart = (ring[:, None] - ring[None]).remainder(COILS)
    share = 0.4 * (apart == 1) - 0.4 * (apart == COILS - 1)
    levels = torch.ones(COILS, dtype=torch.complex128)
    levels[2] = 1.8
    mixed = torch.eye(COILS, dtype=torch.complex128) + 1j * share * 0.9
    return NOISE**2 * levels[:, None] * mixed * levels[None]


def coil_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Complex noise (coils, ...) of this covariance."""
    white = torch.randn(COILS, *shape, dtype=torch.complex128, generator=generator)
    root = torch.linalg.cholesky(covariance())
    return (root @ white.flatten(1)).reshape(white.shape).to(torch.complex64)


def scan(image: Tensor, acceleration: int, seed: int) -> Scan:
    """Simulate the scans of an image (1, 1, H, W), complex."""
    g = seeded(seed)
    truth = BRIGHT * image
    mask = cartesian_mask(SIDE, SIDE, acceleration, CENTRES[acceleration], g)
    full = MRI(torch.ones(SIDE, SIDE), birdcage_maps(COILS, SIDE, SIDE), complex_image=True)
    clean = complex_of(full.apply(channels_of(truth)))[0]
    middle = torch.zeros(SIDE, SIDE)
    part = slice(SIDE // 2 - CALIBRATION // 2, SIDE // 2 + CALIBRATION // 2)
    middle[part, part] = 1
    return Scan(
        (clean + coil_noise((SIDE, SIDE), g)) * mask,
        (clean + coil_noise((SIDE, SIDE), g)) * middle,
        coil_noise((4096,), g),
        mask,
        truth[0, 0].abs(),
    )


def images(kspace: Tensor) -> Tensor:
    """The image of each coil (coils, H, W)."""
    one = MRI(torch.ones(SIDE, SIDE), complex_image=True)
    return complex_of(one.adjoint(channels_of(kspace[:, None])))[:, 0]


def prepare(one: Scan) -> Prepared:
    """Estimate covariance, maps and brightness, and make the noise white.

    The maps are estimated before the noise is made white, so that the image has the brightness of
    the root of the sum of squares of the coils as they are.
    """
    psi = coil_covariance(one.silence)
    maps = espirit_maps(one.calibration, CALIBRATION)
    gain = float(root_sum_of_squares(images(one.calibration)).max())
    operator = MRI(one.mask, prewhiten(gain * maps, psi), complex_image=True)
    y = channels_of(prewhiten(one.kspace, psi)[None]) * one.mask
    found = maps.abs().sum(0) > 0
    return Prepared(InverseProblem(operator, GaussianNoise(math.sqrt(0.5))), y, maps, gain, found)


def zero_filled(one: Scan, made: Prepared) -> Tensor:
    """The magnitudes (H, W) of the combined coils, with zeros for what was not measured."""
    return (made.maps.conj() * images(one.kspace)).sum(0).abs()


def sense(made: Prepared, std: float) -> Tensor:
    """Least squares with the maps and a penalty for bright pixels (Pruessmann et al. 2001)."""
    start = torch.zeros(1, 2, SIDE, SIDE)
    x = made.problem.linear_operator.prox(start, made.y, 0.5, std**2)
    return made.gain * magnitude(x)[0, 0]


def by_sigpy(name: str, made: Prepared, weight: float) -> Tensor:
    """A restoration of sigpy by its name, from white k-space and white maps."""
    from sigpy.mri import app

    operator = made.problem.linear_operator
    assert isinstance(operator, MRI)
    assert operator.sensitivities is not None
    x = getattr(app, name)(
        complex_of(made.y)[0].numpy().astype(np.complex64),
        operator.sensitivities.numpy().astype(np.complex64),
        weight,
        weights=operator.mask.numpy().astype(np.float32),
        show_pbar=False,
    ).run()
    return made.gain * torch.from_numpy(np.abs(x))


def decibels(estimates: list[Tensor], scans: list[Scan]) -> float:
    """Mean PSNR of magnitudes; the peak is the brightest true pixel of each slice."""
    values = [
        20 * math.log10(float(s.truth.max() / (x - s.truth).square().mean().sqrt()))
        for x, s in zip(estimates, scans, strict=True)
    ]
    return sum(values) / len(values)


def best(
    scans: list[Scan], made: list[Prepared], restore: Callable[[Prepared, float], Tensor], grid: Any
) -> dict[str, Any]:
    """The row of a method with one parameter, at its best value for these slices."""
    rows = []
    for value in grid:
        start = time.perf_counter()
        found = [restore(one, value) for one in made]
        seconds = (time.perf_counter() - start) / len(made)
        rows.append({"psnr": decibels(found, scans), "seconds": seconds, "parameter": value})
    return max(rows, key=lambda row: row["psnr"])


def ours(prior: Prior, solver: str, one: Scan, made: Prepared, n: int, seed: int) -> Restored:
    """Draws of the magnitude in units of the prior, at all pixels."""
    posterior = make_solver(solver).sample(prior, made.problem, made.y, n, generator=seeded(seed))
    draws = torch.stack([magnitude(x)[0, 0] for x in posterior.draws])
    return Restored(draws.flatten(1), one.truth.flatten() / made.gain, posterior.seconds)


def judged(found: list[Restored], scans: list[Scan], made: list[Prepared]) -> dict[str, Any]:
    """The row of a solver: errors of the whole slices, intervals at the pixels of the object."""
    sides = (SIDE, SIDE)
    pairs = list(zip(found, made, strict=True))
    kept = []
    for one, ready in pairs:
        there = ready.object.flatten()
        kept.append(Restored(one.draws[:, there], one.truth[there], one.seconds))
    return {
        "psnr": decibels([p.gain * one.draws.mean(0).reshape(sides) for one, p in pairs], scans),
        "one draw": decibels([p.gain * one.draws[0].reshape(sides) for one, p in pairs], scans),
        "seconds": sum(one.seconds for one in found) / len(found),
        **intervals(kept, sum(p.gain for p in made) / len(made)),
    }


def run(
    prior: Prior, solvers: list[str], accelerations: list[int], n: int, draws: int
) -> dict[str, Any]:
    """All rows of the part, of n slices."""
    cells: dict[str, Any] = {}
    classical: dict[str, tuple[Callable[[Prepared, float], Tensor], tuple[float, ...]]] = {
        "SENSE, Tikhonov": (sense, SENSE),
        "l1-wavelet (sigpy)": (partial(by_sigpy, "L1WaveletRecon"), WAVELET),
        "TV (sigpy)": (partial(by_sigpy, "TotalVariationRecon"), TV),
    }
    heads = head_phantoms(n, SIDE, seeded(11))
    for acceleration in accelerations:
        scans = [scan(image[None], acceleration, 100 + k) for k, image in enumerate(heads)]
        made = [prepare(one) for one in scans]
        pairs = list(zip(scans, made, strict=True))
        start = time.perf_counter()
        plain = [zero_filled(*pair) for pair in pairs]
        seconds = (time.perf_counter() - start) / n
        rows: dict[str, Any] = {"zero-filled": {"psnr": decibels(plain, scans), "seconds": seconds}}
        for name, (method, grid) in classical.items():
            rows[name] = best(scans, made, method, grid)
            print(acceleration, name, rows[name], flush=True)
        for solver in solvers:
            found = [ours(prior, solver, *pair, draws, 1000 + k) for k, pair in enumerate(pairs)]
            rows[f"ours, {solver}"] = judged(found, scans, made)
            print(acceleration, solver, rows[f"ours, {solver}"], flush=True)
        cells |= {f"{acceleration}/{name}": row for name, row in rows.items()}
    return cells
