"""Part (b) of benchmarks/science.py: CT with a fan beam and few photons, in Hounsfield units."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from science_parts import Restored, intervals, rms, seeded
from scipy.interpolate import RegularGridInterpolator
from skimage.restoration import denoise_tv_chambolle
from skimage.transform import iradon
from torch import Tensor

from problems import (
    CountNoise,
    FanBeam,
    GaussianNoise,
    InverseProblem,
    NonlinearFunction,
    Transmission,
    angles_between,
    attenuation_of,
    hounsfield_of,
    line_integrals,
)
from scoresde.data.phantoms import body_phantoms
from scoresde.priors.base import Prior
from solvers import make_solver

SIDE = 64
WATER = 0.02
"""Attenuation of water per mm, at about 65 keV."""
FAN = FanBeam(
    angles_between(90, 0, 360),
    (SIDE, SIDE),
    pixel=5.0,
    source_distance=540.0,
    detector_distance=410.0,
    detectors=96,
    pitch=6.2,
)
FEW = 4
"""Slices that are restored from the counts themselves."""
BRIGHT = 1e12
"""Photons of a ray without noise to speak of."""
FILTERS = ("ramp", "shepp-logan", "cosine", "hann")
WEIGHTS = (4.0, 8.0, 16.0, 32.0)
"""Weights of total variation, for images in units of the prior."""


def units_of(hounsfield: Tensor) -> Tensor:
    """Hounsfield units in units of the prior, HU / 1000 + 0.5."""
    return hounsfield / 1000 + 0.5


def hounsfield(x: Tensor) -> Tensor:
    """Units of the prior in Hounsfield units."""
    return 1000 * (x - 0.5)


@dataclass(frozen=True)
class Slice:
    """Counts (1, 1, angles, detectors) and the true Hounsfield units (1, 1, H, W)."""

    counts: Tensor
    truth: Tensor


def slices(n: int, photons: float, seed: int, finer: int = 1) -> list[Slice]:
    """Measure phantoms on a grid that is finer by a factor than that of the restorations."""
    fine = replace(FAN, shape=(finer * SIDE, finer * SIDE), pixel=FAN.pixel / finer)
    scanner = InverseProblem(Transmission(photons) @ fine, CountNoise())
    scenes = body_phantoms(n, finer * SIDE, seeded(seed))
    found = []
    for k, scene in enumerate(scenes):
        counts = scanner.measure(attenuation_of(scene[None], WATER), seeded(seed + 1 + k))
        found.append(Slice(counts, torch.nn.functional.avg_pool2d(scene[None], finer)))
    return found


def by_counts(photons: float) -> InverseProblem:
    """The counts as they are: Poisson, behind Beer and Lambert's law."""
    attenuation = NonlinearFunction(lambda x: attenuation_of(hounsfield(x), WATER), (1, SIDE, SIDE))
    return InverseProblem(Transmission(photons) @ FAN @ attenuation, CountNoise())


def by_logarithm(
    counts: Tensor, photons: float, model_error: float = 0.0
) -> tuple[InverseProblem, Tensor]:
    """The logarithm of the counts: linear, with the variance 1 / counts.

    Args:
        counts: Counts (1, 1, angles, detectors).
        photons: Photons of a ray that meets nothing.
        model_error: Standard deviation of what the operator misses, as line integrals.

    Returns:
        The problem and its measurement, in units of the prior.
    """
    ground = FAN.apply(attenuation_of(hounsfield(torch.zeros(1, 1, SIDE, SIDE)), WATER))
    y = (line_integrals(counts, photons) - ground) / WATER
    std = (1 / counts[0].clamp_min(1) + model_error**2).sqrt() / WATER
    return InverseProblem(FAN, GaussianNoise(std)), y


def model_error(known: list[Slice], clear: list[Slice], bright: float) -> float:
    """RMS of what the coarse grid misses, as line integrals.

    Args:
        known: Slices whose truth is known.
        clear: The same, measured with so many photons that there is hardly any noise.
        bright: The number of these photons.
    """
    return rms(
        [
            FAN.apply(attenuation_of(one.truth, WATER)) - line_integrals(same.counts, bright)
            for one, same in zip(known, clear, strict=True)
        ]
    )


def parallel_sinogram(sinogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate line integrals of the fan on parallel rays, in the frame of `iradon`.

    The ray to the detector at t, of the source at the angle beta, makes the angle gamma with the
    central ray, tan(gamma) = t / (source to detector). It is the parallel ray at the angle
    beta + gamma whose distance from the centre is (source to centre) sin(gamma).

    `iradon` turns about pixel n // 2, which is half a pixel off the middle in both directions.

    Returns:
        Line integrals (distances, angles) and the angles in degrees, over 360.
    """
    span = FAN.source_distance + FAN.detector_distance
    n = 2 * SIDE  # a detector that sees the corners
    theta = np.arange(0, 360, 2.0)
    turn = np.deg2rad(theta)
    half = FAN.pixel / 2
    centre = half * (np.cos(turn) - np.sin(turn))
    distance = (np.arange(n) - n // 2)[:, None] * FAN.pixel + centre
    gamma = np.arcsin(np.clip(distance / FAN.source_distance, -1, 1))
    beta = (theta - np.rad2deg(gamma)) % 360
    place = span * np.tan(gamma)
    angles = np.asarray(FAN.angles)
    wrapped = np.concatenate([sinogram, sinogram[:1]])
    table = RegularGridInterpolator(
        (np.append(angles, 360.0), FAN.positions.numpy()), wrapped, bounds_error=False, fill_value=0
    )
    return table(np.stack([beta, place], -1)), theta


def filtered_back_projection(counts: Tensor, photons: float, name: str) -> Tensor:
    """Hounsfield units (1, 1, H, W) by scikit-image, from rays that were sorted into parallel ones.

    `iradon` expects lengths in pixels and angles of half a turn; of a whole turn its sum over
    angles, which it multiplies by pi / (2 angles), has every ray twice and is right as it is.
    """
    parallel, theta = parallel_sinogram(line_integrals(counts, photons)[0, 0].double().numpy())
    image = iradon(parallel / FAN.pixel, theta, output_size=SIDE, filter_name=name, circle=False)
    return hounsfield_of(torch.from_numpy(np.ascontiguousarray(image))[None, None].float(), WATER)


def total_variation(
    problem: InverseProblem, y: Tensor, start: Tensor, weight: float, steps: int = 100
) -> Tensor:
    """min_x |(y - A x) / std|^2 / 2 + weight TV(x) by FISTA (Beck and Teboulle 2009).

    Returns:
        The minimiser (1, 1, H, W), in units of the prior.
    """
    assert isinstance(problem.noise, GaussianNoise)
    inverse = 1 / torch.as_tensor(problem.noise.std).double() ** 2
    A = problem.linear_operator
    x = torch.randn(1, 1, SIDE, SIDE, dtype=torch.float64, generator=seeded(0))
    for _ in range(15):  # the largest eigenvalue of A^T W A, by power iteration
        x = A.adjoint(inverse * A.apply(x / x.norm()))
    step = 1 / (1.05 * float(x.norm()))
    x = z = start.double()
    momentum = 1.0
    for _ in range(steps):
        target = z + step * A.adjoint(inverse * (y.double() - A.apply(z)))
        new = denoise_tv_chambolle(target[0, 0].numpy(), weight=step * weight, max_num_iter=30)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        moved = torch.from_numpy(new)[None, None]
        z = moved + (momentum - 1) / following * (moved - x)
        x, momentum = moved, following
    return x.float()


def errors(found: list[Tensor], made: list[Slice]) -> dict[str, float]:
    """RMS errors in Hounsfield units, of the slices and of what is no air in them."""
    pairs = [(x - one.truth, one.truth > -950) for x, one in zip(found, made, strict=True)]
    return {"rmse": rms([e for e, _ in pairs]), "body": rms([e[there] for e, there in pairs])}


def _chosen(restore: Any, grid: Any, made: list[Slice]) -> dict[str, Any]:
    """The row of a method with one parameter, at its best value for these slices."""
    rows = []
    for value in grid:
        start = time.perf_counter()
        found = [restore(k, value) for k in range(len(made))]
        seconds = (time.perf_counter() - start) / len(made)
        rows.append({**errors(found, made), "seconds": seconds, "parameter": value})
    return min(rows, key=lambda row: row["rmse"])


def rows_of(
    prior: Prior, solvers: list[str], made: list[Slice], photons: float, missed: float, draws: int
) -> dict[str, Any]:
    """The rows of all methods for the same measurements."""
    linear = [by_logarithm(one.counts, photons, missed) for one in made]

    def fbp(k: int, name: str) -> Tensor:
        return filtered_back_projection(made[k].counts, photons, name)

    def tv(k: int, weight: float) -> Tensor:
        return hounsfield(total_variation(*linear[k], units_of(fbp(k, "hann")), weight))

    rows: dict[str, Any] = {
        "FBP (scikit-image)": _chosen(fbp, FILTERS, made),
        "weighted TV": _chosen(tv, WEIGHTS, made),
    }
    print(rows, flush=True)
    shape = made[0].truth.shape
    for label in solvers:
        side, solver = label.split(", ")
        some = made if side == "logarithm" else made[:FEW]
        found = []
        for k, one in enumerate(some):
            problem, y = (by_counts(photons), one.counts) if side == "counts" else linear[k]
            post = make_solver(solver).sample(prior, problem, y, draws, generator=seeded(k))
            truth = units_of(one.truth).flatten()
            found.append(Restored(post.draws.flatten(1), truth, post.seconds))
        means = [hounsfield(x.draws.mean(0)).reshape(shape) for x in found]
        singles = [hounsfield(x.draws[0]).reshape(shape) for x in found]
        rows[f"ours, {label}"] = {
            **errors(means, some),
            "one draw": errors(singles, some)["rmse"],
            "seconds": sum(x.seconds for x in found) / len(found),
            **(intervals(found, 1000) if len(some) > FEW else {}),
        }
        print(label, rows[f"ours, {label}"], flush=True)
    return rows


def run(
    prior: Prior, solvers: list[str], photons: float, n: int, draws: int, finer: int
) -> dict[str, Any]:
    """All rows of the part, of n slices; errors and widths in Hounsfield units.

    Args:
        prior: Prior in its units.
        solvers: What the solver starts from, "logarithm" or "counts", and its name.
        photons: Photons of a ray that meets nothing.
        n: Number of slices.
        draws: Number of draws of each slice.
        finer: Pixels of the measurement for each pixel of the restoration, in each direction.
    """
    made, missed = slices(n, photons, 21, finer), 0.0
    if finer > 1:
        missed = model_error(made, slices(n, BRIGHT, 21, finer), BRIGHT)
    return rows_of(prior, solvers, made, photons, missed, draws)
