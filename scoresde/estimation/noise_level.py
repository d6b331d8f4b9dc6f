r"""The level of Gaussian noise that makes a measurement most likely, with its standard error.

The estimate maximises the evidence :math:`p(y | \sigma)`. Its slope is known from the posterior
(Fisher's identity): with :math:`\theta = \ln\sigma` and m observed entries

.. math:: \frac{\partial}{\partial\theta} \ln p(y | \sigma)
          = \frac{1}{\sigma^2} E\bigl[|y - A x|^2 \big| y\bigr] - m ,

so that at the maximum :math:`\sigma^2 = E[|y - A x|^2 | y] / m`. To put this mean, which has the
spread of the posterior in it, in the place of :math:`\sigma^2` is a step of EM (Dempster et al.
1977). EM takes as many steps as information is missing. Here the same equation is solved by secants
in :math:`\ln\sigma`.

The mean comes from the best source that there is (``sources``):

- a Gaussian prior and a linear operator: the evidence itself (``evidence``),
- a blur that stops many frequencies: the noise alone, seen there (``stop_band``),
- any prior and no operator but a mask: :math:`E|y - x|^2 = |y - D|^2 + \sigma^2
  \operatorname{div} D` with the denoiser D at the noise level :math:`\sigma`,
- else draws of a solver, with the same random numbers at every level.

The standard error is :math:`1/\sqrt I`, and the error of few draws added. The information I is 2 m
less the variance of :math:`|y - A x|^2/\sigma^2` under the posterior (Louis 1982). Secants begin
with it. Of few draws this variance is too uncertain where most of the information is missing, so
that the error takes I from the slope of the equation at the solution. A solver whose draws lack the
law of the posterior adds a bias that no error bar knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem
from scoresde.estimation.evidence import GaussianEvidence
from scoresde.estimation.first_guess import first_guess
from scoresde.estimation.rounding import rounded
from scoresde.estimation.sources import DenoiserSource, DrawSource, Source
from scoresde.estimation.stop_band import noise_in_stop_band
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianPrior
from solvers import PosteriorSampler

__all__ = ["NoiseEstimate", "estimate_noise"]

FEWEST = 64
"""Observed entries; the level of fewer is uncertain by 9 % even without a picture."""

WORST_ERROR = 0.35
"""Relative standard error from which on an estimate is of no use."""

_LARGEST_EXACT = 4096  # observed entries whose covariance is decomposed
_ROUNDS = 8
_CLOSE = 0.01  # of ln sigma
_FARTHEST = 1.0  # of ln sigma, of a single step
_QUIET = 1e-3  # of the spread of y: noise that cannot be told from none
_LEVELS = 1 << 16


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise level and what is known about its error.

    Args:
        sigma: Standard deviations in units of y, one for all channels or one for each.
        error: Standard error of each, in the same units.
        start: First guess, from the finest details of y.
        source: Where it came from: "evidence", "stop band", "denoiser" or "draws".
        entries: Number of observed entries, or of the frequencies of a stop band.
        path: Levels that were tried, the root mean square over channels.
        problem: The problem with this noise.
    """

    sigma: tuple[float, ...]
    error: tuple[float, ...]
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
        return {
            "sigma": rounded(self.sigma, 4),
            "standard_error": rounded(self.error, 2),
            "source": self.source,
            "first_guess": rounded([self.start], 4)[0],
            "entries": self.entries,
            "path": rounded(self.path, 4),
        }


def estimate_noise(
    problem: InverseProblem,
    y: Tensor,
    prior: Prior,
    *,
    solver: PosteriorSampler | None = None,
    draws: int = 8,
    per_channel: bool = False,
    generator: torch.Generator | None = None,
) -> NoiseEstimate:
    """Estimate the standard deviation of Gaussian noise in a measurement.

    Args:
        problem: Operator; the level of its noise is not used.
        y: One measurement (1, ...).
        prior: Prior of the picture.
        solver: Sampler of the posterior, where draws are needed; None for "warm-start".
        draws: Draws at each level, at least 4.
        per_channel: Whether each channel of y has a level of its own.
        generator: Random numbers; None for a fixed seed.

    Returns:
        The estimate.

    Raises:
        ValueError: If the noise is not Gaussian, the operator rounds, fewer than 64 entries are
            observed, y is constant, or its noise cannot be told from none.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> i = torch.arange(200.0)
        >>> prior = GaussianPrior(torch.zeros(200), torch.exp(-(i[:, None] - i).abs() / 20))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.3))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = problem.measure(prior.sample(1, g), g)
        >>> estimate = estimate_noise(problem, y, prior)
        >>> abs(estimate.sigma[0] - 0.3) < 2 * estimate.error[0] < 0.06
        True
    """
    _check(problem, y, draws)
    channels = y.shape[1] if per_channel else 1
    if per_channel and y.ndim < 3:
        raise ValueError(
            f"a level per channel needs a measurement (1, C, ...), got shape {tuple(y.shape)}"
        )
    y = problem.operator.mask_unobserved(y.detach())
    seen = problem.operator.observed(y).expand_as(y)
    _check_values(y, seen, channels)
    start = first_guess(problem, y)
    exact = (
        isinstance(prior, GaussianPrior)
        and "linear" in problem.capabilities
        and int(seen.sum()) <= _LARGEST_EXACT
    )
    if exact and channels == 1:
        found = _by_evidence(problem, y, prior, start)
    else:
        source: Source = DrawSource(problem, y, prior, seen, channels, solver, draws, generator)
        if DenoiserSource.fits(problem, channels):
            source = DenoiserSource(problem, y, prior, seen, solver, draws, generator)
        seen_alone = noise_in_stop_band(problem, y, start, channels)
        if seen_alone is not None:
            found = _by_stop_band(seen_alone, source, start)
        else:
            found = _by_posterior(source, start, channels)
    _check_result(found, y[seen])
    return found


def _by_evidence(problem: InverseProblem, y: Tensor, prior: Prior, start: float) -> NoiseEstimate:
    assert isinstance(prior, GaussianPrior)
    seen = problem.operator.observed(y).expand_as(y)
    found = GaussianEvidence.of(prior, problem, y).maximise(y[seen][None])
    sigma = float(found.sigma)
    error = sigma * float(found.error) if sigma else math.inf
    stated = replace(problem, noise=GaussianNoise(sigma))
    return NoiseEstimate((sigma,), (error,), start, "evidence", int(seen.sum()), (sigma,), stated)


def _by_stop_band(found: tuple[Tensor, Tensor, int], source: Source, start: float) -> NoiseEstimate:
    sigma, error, count = found
    levels, errors = tuple(sigma.tolist()), tuple(error.tolist())
    path = (float(sigma.square().mean().sqrt()),)
    return NoiseEstimate(levels, errors, start, "stop band", count, path, source.stated(sigma))


def _by_posterior(source: Source, start: float, channels: int) -> NoiseEstimate:
    """Solve theta = ln sqrt(E|y - A x|^2 / m) by secants, for each channel."""
    theta = torch.full((channels,), math.log(start), dtype=torch.float64)
    path, before = [], None
    rate = torch.full_like(theta, 1.0)
    for _ in range(_ROUNDS):
        level = theta.exp()
        moments = source.at(level)
        path.append(float(level.square().mean().sqrt()))
        gap = 0.5 * (moments.misfit / level.square()).log()  # the step of EM
        rate = moments.rate.clamp(1.0, 5.0)  # that of Newton by Louis's information
        if before is not None:
            moved = theta - before[0]
            slope = (gap - before[1]) / torch.where(moved.abs() > 1e-6, moved, 1.0)
            sensible = (moved.abs() > 1e-6) & (slope < -0.1) & (slope > -3)
            rate = torch.where(sensible, -1 / slope, rate)
        step = (rate * gap).clamp(-_FARTHEST, _FARTHEST)
        before, theta = (theta, gap), theta + step
        if float(step.abs().max()) < _CLOSE:
            break
    sigma = theta.exp()
    error = sigma * source.error(level, moments)
    entries = int(moments.entries.sum())
    return NoiseEstimate(
        tuple(sigma.tolist()), tuple(error.tolist()), start, source.name, entries,
        (*path, float(sigma.square().mean().sqrt())), source.stated(sigma),
    )  # fmt: skip


# ---- what cannot be estimated


def _check(problem: InverseProblem, y: Tensor, draws: int) -> None:
    if not isinstance(problem.noise, GaussianNoise):
        raise ValueError(
            f"the level of Gaussian noise alone can be estimated, not of "
            f"{type(problem.noise).__name__}; state it"
        )
    if problem.operator.quantises:
        raise ValueError(
            "the measurement is rounded by its operator, which hides the noise; leave the noise "
            "level out (the size of the rounding is then assumed)"
        )
    if y.ndim < 2 or len(y) != 1:
        raise ValueError(f"one measurement (1, ...) is needed, got shape {tuple(y.shape)}")
    if draws < 4:
        raise ValueError(f"at least 4 draws are needed for a standard error, got {draws}")


def _check_values(y: Tensor, seen: Tensor, channels: int) -> None:
    count = int(seen.sum()) // channels
    if count < FEWEST:
        raise ValueError(
            f"the noise level cannot be estimated from {count} numbers, {FEWEST} are needed; "
            "state it"
        )
    values = y[seen]
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the measurement has observed entries that are not finite; mask them")
    if float(values.max()) == float(values.min()):
        raise ValueError(
            f"all {len(values)} observed numbers are {float(values[0]):g}, which shows no noise; "
            "state its level"
        )


def _check_result(found: NoiseEstimate, values: Tensor) -> None:
    sigma, error = min(found.sigma), max(found.error)
    step = rounding_step(values)
    if step and sigma < step / 2:
        raise ValueError(
            f"the noise (about {sigma:.2g}) is below the rounding of the measurement, in steps of "
            f"{step:.2g}; state its level, at least {step / math.sqrt(12):.1g}"
        )
    if not sigma > _QUIET * float(values.double().std()):
        raise ValueError(
            "the noise of this measurement cannot be told from none; state its level, for a clean "
            "picture 0.01"
        )
    if not error < WORST_ERROR * max(found.sigma):
        raise ValueError(
            f"the measurement says too little about its noise: {max(found.sigma):.2g} with a "
            f"standard error of {error:.2g}; state its level"
        )


def rounding_step(values: Tensor) -> float:
    """Step of a measurement that was rounded to few levels; 0 if it was not."""
    levels = values.double().unique()
    if len(levels) > min(_LEVELS, len(values) / 2) or len(levels) < 2:
        return 0.0
    return float(levels.diff().min())
