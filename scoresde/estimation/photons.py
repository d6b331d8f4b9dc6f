r"""The number of photons, and the read noise, that make a measurement most likely.

Photon counts have the variance :math:`v = 4 u g + s^2` on [-1, 1], with the light u, the gain
g = 1 / photons at white, and the read noise s. The estimate is a zero of the slope of
:math:`\ln p(y | g, s)` in ln g, or in ln g and ln s. By Fisher's identity this slope is a mean over
posterior draws (``photon_sources``). EM would put these draws in the place of the picture and fit
v as a line in u to the squares of y - A x, weighted by :math:`1 / v^2`: the photon transfer curve
of the residuals. A step of it is :math:`J^{-1} S` with the complete information J. As information
M < J is left without the picture, EM takes many such steps. Here the steps are
:math:`M^{-1} S`, and for the gain alone, by draws, secants after the first. The search starts from
the line that the finest details of y show (``photon_transfer``).

The counts are taken for Gaussian with the variance v, as solvers take them. The estimate does not
depend on whether they are: only their variance enters. The standard error does, and has the
fourth cumulant of a count in it. A solver whose draws lack the law of the posterior adds a bias
that no error bar knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem, Noise, PoissonGaussianNoise, PoissonNoise
from scoresde.estimation.drawing import drawing_solver
from scoresde.estimation.noise_level import FEWEST, WORST_ERROR, rounding_step
from scoresde.estimation.photon_denoiser import PhotonDenoiser
from scoresde.estimation.photon_sources import PhotonDraws, PhotonEquations, PhotonSource, informed
from scoresde.estimation.photon_transfer import photon_transfer
from scoresde.estimation.rounding import rounded
from scoresde.priors.base import Prior
from solvers import PosteriorSampler

__all__ = ["PhotonEstimate", "estimate_photons"]

_ROUNDS = 8
_CLOSE = 0.01  # of ln g and ln s; of ln s a tenth of the standard error, which may be large,
_WIDE = 0.2  # or this
_SETTLED = 0.05  # of ln g, of the last step
_LOCAL = 0.5  # of ln g and ln s; M of a place further away says nothing
_QUIET = 1e-3  # of the spread of y: read noise that cannot be told from none


@dataclass(frozen=True)
class PhotonEstimate:
    """Photons of a white pixel, read noise, and what is known about their errors.

    Args:
        photons: Mean number of photons of a white pixel.
        error: Its standard error.
        read_noise: Standard deviation of the read noise on [-1, 1], estimated or as stated; 0 for
            counts without it.
        read_noise_error: Its standard error; None if it was not estimated. Where no read noise is
            seen, read noise of this size would change s^2 by a standard error.
        start: First guess of the photons, from the finest details of y.
        source: Where the posterior came from: "denoiser" or "draws".
        entries: Number of entries that are observed and not clipped.
        path: Numbers of photons that were tried.
        problem: The problem with this noise.
    """

    photons: float
    error: float
    read_noise: float
    read_noise_error: float | None
    start: float
    source: str
    entries: int
    path: tuple[float, ...]
    problem: InverseProblem

    def report(self) -> dict[str, Any]:
        """Give the result in plain values that JSON can hold.

        Returns:
            Numbers by name.
        """
        read_error = self.read_noise_error
        return {
            "photons": rounded([self.photons], 4)[0],
            "standard_error": rounded([self.error], 2)[0],
            "read_noise": rounded([self.read_noise], 4)[0],
            "read_noise_error": None if read_error is None else rounded([read_error], 2)[0],
            "source": self.source,
            "first_guess": rounded([self.start], 4)[0],
            "entries": self.entries,
            "path": rounded(self.path, 4),
        }


def estimate_photons(
    problem: InverseProblem,
    y: Tensor,
    prior: Prior,
    *,
    read_noise: bool = False,
    solver: PosteriorSampler | None = None,
    draws: int = 8,
    generator: torch.Generator | None = None,
) -> PhotonEstimate:
    """Estimate the photons of a white pixel, which is the inverse of the gain, from a measurement.

    Args:
        problem: Operator, and PoissonNoise or PoissonGaussianNoise, whose peak is not used.
        y: One measurement (1, ...) on [-1, 1].
        prior: Prior of the picture.
        read_noise: Whether to estimate the level of the read noise, too; else it is as stated.
        solver: Sampler of the posterior; None for "warm-start".
        draws: Draws at each value, at least 4.
        generator: Random numbers; None for a fixed seed.

    Returns:
        The estimate.

    Raises:
        ValueError: If the noise is not one of photons, the operator rounds, fewer than 64 entries
            are observed and not clipped, y is constant or not finite, or it says too little.

    Example:
        >>> import torch
        >>> from problems import Denoising, InverseProblem, PoissonGaussianNoise
        >>> from scoresde import GaussianPrior
        >>> i = torch.arange(256.0)
        >>> prior = GaussianPrior(torch.zeros(256), 0.09 * torch.exp(-(i[:, None] - i).abs() / 99))
        >>> problem = InverseProblem(Denoising(), PoissonGaussianNoise(peak=40.0, std=0.02))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = problem.measure(prior.sample(1, g), g)
        >>> found = estimate_photons(problem, y, prior)
        >>> abs(found.photons - 40) < 2 * found.error < 20
        True
    """
    noise = _check(problem, y, draws, read_noise)
    y = problem.operator.mask_unobserved(y.detach())
    stated = noise.std if isinstance(noise, PoissonGaussianNoise) else 0.0
    seen = problem.operator.observed(y).expand_as(y)
    _check_values(y[seen])
    line = photon_transfer(problem, y, None if read_noise else stated**2)
    counted = seen & line.unclipped
    m = int(counted.sum())
    if m < FEWEST:
        raise ValueError(
            f"the number of photons cannot be estimated from {m} numbers that are observed and not "
            f"clipped, {FEWEST} are needed; state it"
        )
    chosen = drawing_solver(solver)
    seed = generator.initial_seed() if generator is not None else 0
    make = _with_read_noise if stated or read_noise else _counts_alone
    kind: type[PhotonSource] = PhotonDenoiser if PhotonDenoiser.fits(problem) else PhotonDraws
    source = kind(problem, make, y, prior, counted, chosen, draws, seed)
    least = _QUIET * float(y[counted].double().std())
    read = max(math.sqrt(line.read_variance), least) if read_noise else stated
    found = _search(source, line.gain, read, read_noise, least)
    _check_result(found, y[counted])
    return found


def _counts_alone(gain: float, read: float) -> Noise:
    return PoissonNoise(1 / gain)


def _with_read_noise(gain: float, read: float) -> Noise:
    return PoissonGaussianNoise(1 / gain, read)


def _search(
    source: PhotonSource, gain: float, read: float, both: bool, least: float
) -> PhotonEstimate:
    """Find the zero of the slope; read noise below `least` is taken for none."""
    start, path, sought, read_error = 1 / gain, [], both, None
    before: tuple[Tensor, Tensor] | None = None
    for _ in range(_ROUNDS):
        path.append(1 / gain)
        at, place = source.at(gain, read, sought), _logarithms(gain, read, sought)
        M = at.information
        if before is not None and not source.measured and len(place) == 1:
            M = _secant(at, place, *before)
        step, before, error = _step(M, at.slope), (place, at.slope), at.error
        # v is linear in g and s^2, and a step along them goes further than one along logarithms
        gain *= 1 + float(step[0])
        if sought:
            unseen = math.sqrt(2 * float(error[1])) * read  # of s^2, whatever s^2 is
            read *= math.sqrt(1 + 2 * float(step[1]))
            read_error = read * float(error[1])
        if sought and read < least:  # go on with the photons alone
            read, read_error, sought, before = least, unseen, False, None
        elif abs(float(step[0])) < _CLOSE and (
            not sought or abs(float(step[1])) < min(max(_CLOSE, 0.1 * float(error[1])), _WIDE)
        ):
            break
    if not abs(float(step[0])) < max(_SETTLED, float(error[0])):
        raise ValueError(
            f"the number of photons does not settle, the last ones tried are {path[-1]:.3g} and "
            f"{1 / gain:.3g}; state it"
        )
    return PhotonEstimate(
        1 / gain, float(error[0]) / gain, read, read_error, start, source.name, at.entries,
        (*path, 1 / gain), source.stated(gain, read),
    )  # fmt: skip


def _logarithms(gain: float, read: float, both: bool) -> Tensor:
    return torch.tensor([gain, read][: 1 + both], dtype=torch.float64).log()


def _step(M: Tensor, slope: Tensor) -> Tensor:
    """Newton's step in ln g and ln s; g changes by a factor of e and s^2 by 10 at most."""
    step = torch.linalg.solve(M, slope)
    if len(step) > 1 and (held := min(max(float(step[1]), -0.45), 4.5)) != float(step[1]):
        step[1], step[0] = held, (slope[0] - M[0, 1] * held) / M[0, 0]
    step[0] = step[0].clamp(1 / math.e - 1, math.e - 1)
    return step


def _secant(at: PhotonEquations, place: Tensor, old: Tensor, slope: Tensor) -> Tensor:
    """Minus the change of the slope over a step that was not long, (1, 1), within bounds."""
    moved = place - old
    if not 1e-6 < float(moved.abs()) < _LOCAL:
        return at.information
    return informed((slope - at.slope)[None] / moved, at.complete, 0.1)


# ---- what cannot be estimated


def _check(
    problem: InverseProblem, y: Tensor, draws: int, read_noise: bool
) -> PoissonNoise | PoissonGaussianNoise:
    noise = problem.noise
    if not isinstance(noise, PoissonNoise | PoissonGaussianNoise):
        raise ValueError(
            "the number of photons of PoissonNoise and PoissonGaussianNoise can be estimated, not "
            f"of {type(noise).__name__}; state one of them, with any peak"
        )
    if problem.operator.quantises:
        raise ValueError(
            "the measurement is rounded by its operator, which hides the noise; state the number "
            "of photons"
        )
    if y.ndim < 2 or len(y) != 1:
        raise ValueError(f"one measurement (1, ...) is needed, got shape {tuple(y.shape)}")
    if draws < 4:
        raise ValueError(f"at least 4 draws are needed for a standard error, got {draws}")
    return noise


def _check_values(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the measurement has observed entries that are not finite; mask them")
    if len(values) and float(values.max()) == float(values.min()):
        raise ValueError(
            f"all {len(values)} observed numbers are {float(values[0]):g}, which shows no noise; "
            "state the number of photons"
        )


def _check_result(found: PhotonEstimate, values: Tensor) -> None:
    light = float((values.double() + 1).mean().clamp_min(0)) / 2
    level = math.sqrt(4 * light / found.photons + found.read_noise**2)
    if level < rounding_step(values) / 2:
        raise ValueError(
            f"the noise (about {level:.2g}) is below the rounding of the measurement, in steps of "
            f"{rounding_step(values):.2g}; leave out the photons, and state the level of the noise"
        )
    if not found.error < WORST_ERROR * found.photons:
        raise ValueError(
            f"the measurement says too little about its photons: {found.photons:.2g} at white with "
            f"a standard error of {found.error:.2g}; state their number, or leave it out where "
            "noise has one level"
        )
