"""Posterior draws of an autoregressive model, by a method that suits the measurement.

- Images, noise-free pixels that all come before the missing ones in raster order: ancestral
  sampling of the rest. Exact, independent draws.
- Images, any noise and operator that act on each entry alone (noisy or scattered holes, denoising,
  clipping): particles in raster order, then particle Gibbs (``conditional_smc``). Exact as the
  number of particles or sweeps grows.
- Images, linear measurements with Gaussian noise (blur, super-resolution, tomography) of at most
  4096 numbers: the same, but each particle places its pixels under a Gaussian model of the
  remaining ones (``potentials``). Exact as the number of particles or sweeps grows.
- Images, anything else with a likelihood (JPEG, phase retrieval, other noise): discrete Langevin
  with the Metropolis test (``discrete_langevin``). Exact as the length of the chains grows.
- Vectors, anything with a likelihood: importance resampling, then Metropolis steps. Exact as the
  number of proposals or steps grows.

Draws of images lie on the grey levels. A noise-free measurement of an entry is rounded to the
nearest level.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import (
    Clipping,
    Denoising,
    Gamma,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearOperator,
    Quantisation,
)
from problems.random_numbers import normal, uniform
from scoresde.families.autoregressive.conditional_smc import particle_draws
from scoresde.families.autoregressive.discrete_langevin import langevin_draws
from scoresde.families.autoregressive.interface import PixelModel
from scoresde.families.autoregressive.potentials import (
    GaussianLookahead,
    LookaheadFactors,
    Pointwise,
    Potential,
)
from solvers.posterior.records import Draws, Request
from solvers.posterior.smc.base import ess_fraction

__all__ = ["RestoreSettings", "likelihood_table", "lookahead_factors", "restore"]

_LOOKED_AHEAD = 4096  # most numbers in a measurement: their covariance is stored as a dense matrix
_REFERENCE = 256  # draws of the model that determine the Gaussian of the look-ahead


@dataclass(frozen=True)
class RestoreSettings:
    """Settings of the posterior samplers.

    Args:
        particles: Particles in the population of each draw.
        sweeps: Sweeps of particle Gibbs after the first pass.
        steps: Steps of the warm-up of Langevin, and again after it; Metropolis steps for vectors.
        proposals: Draws of the model from which a vector's posterior is resampled.

    Raises:
        ValueError: If a number is too small.
    """

    particles: int = 16
    sweeps: int = 2
    steps: int = 300
    proposals: int = 1 << 14

    def __post_init__(self) -> None:
        if min(self.particles, self.steps, self.proposals) < 1 or self.sweeps < 0:
            raise ValueError(
                "particles, steps and proposals must be at least 1 and sweeps at least 0, "
                f"got {self}"
            )
        if self.sweeps and self.particles < 2:
            raise ValueError(
                "a sweep of particle Gibbs needs at least 2 particles: with one particle, "
                "the draw never changes"
            )


def restore(model: PixelModel, request: Request, settings: RestoreSettings) -> Draws:
    """Draw from p(x | y) for each measurement.

    Args:
        model: Autoregressive model of images or vectors.
        request: Problem, measurements (B, ...), number n of draws per measurement, and random
            numbers.
        settings: Settings of the samplers.

    Returns:
        Draws, shape (n, B, *shape). ``diagnostics["method"]`` names the method, and
        ``diagnostics["exact"]`` is True if its draws are exact.

    Raises:
        ValueError: If the measurement has probability zero under the model, or a likelihood that is
            undefined.
    """
    problem = request.problem
    y = request.y
    n = request.n
    generator = request.generator
    progress = request.progress
    many = y.repeat(n, *[1] * (y.ndim - 1))
    vjps = 0
    if not model.is_image:
        x, diagnostics = _resampled(model, problem, y, n, generator, settings, progress)
    elif (table := likelihood_table(problem, y, model.shape, model.config.levels)) is not None:
        told: Potential = Pointwise(table.repeat(n, 1, 1, 1, 1))
        x, diagnostics = particle_draws(
            model,
            told,
            generator,
            particles=settings.particles,
            sweeps=settings.sweeps,
            progress=progress,
        )
    elif (factors := lookahead_factors(model, problem, y, generator)) is not None:
        told = GaussianLookahead(factors, many.double().flatten(1), model.config.levels)
        x, diagnostics = particle_draws(
            model,
            told,
            generator,
            particles=settings.particles,
            sweeps=settings.sweeps,
            progress=progress,
        )
    else:
        start = _guess(model, problem, many, generator)
        x, diagnostics = langevin_draws(
            model, problem, many, start, generator, steps=settings.steps, progress=progress
        )
        vjps = diagnostics["nfe"]
    return Draws(x.reshape(n, len(y), *model.shape), diagnostics["nfe"], vjps, diagnostics)


def likelihood_table(
    problem: InverseProblem, y: Tensor, shape: tuple[int, ...], levels: int
) -> Tensor | None:
    """Tabulate ln p(y_i | x_i = v) for every entry and level.

    Without noise it is 0 at the level whose value is nearest to y_i, and -inf at the others.

    Args:
        problem: Operator and noise of the measurement.
        y: Measurements, shape (B, ...).
        shape: Shape (C, H, W) of an image.
        levels: Number of grey levels, evenly spaced on [-1, 1].

    Returns:
        The table, shape (B, C, H, W, levels), float64; None if the likelihood does not factorise
        over the entries.
    """
    operator, noise = problem.operator, problem.noise
    if (
        not isinstance(operator, Denoising | Inpainting | Clipping | Gamma | Quantisation)
        or "joint_density" in noise.capabilities
    ):
        return None
    y = y.double()
    seen = operator.mask_unobserved(torch.ones_like(y)) == 1
    values = torch.linspace(-1, 1, levels, dtype=torch.float64, device=y.device)
    means = [
        operator.apply(torch.full((1, *shape), float(v), dtype=torch.float64, device=y.device))
        for v in values
    ]
    if isinstance(noise, GaussianNoise) and not isinstance(noise.std, Tensor) and noise.std == 0:
        distance = torch.stack([(y - mean).abs() for mean in means], -1)
        table = torch.where(
            distance <= distance.min(-1, keepdim=True).values + 1e-6, 0.0, -torch.inf
        )
    else:
        table = torch.stack([noise.log_density(y, mean.expand_as(y)) for mean in means], -1)
    return torch.where(seen[..., None], table, 0.0)


def lookahead_factors(
    model: PixelModel, problem: InverseProblem, y: Tensor, generator: torch.Generator | None
) -> LookaheadFactors | None:
    """Compute the factors of the Gaussian look-ahead, from 256 draws of the model.

    Args:
        model: Autoregressive model of images.
        problem: Operator and noise of the measurement.
        y: Measurements, shape (B, ...).
        generator: Source of the draws; None for torch's global one.

    Returns:
        The factors; None unless the problem is linear, with Gaussian noise of one level above 0 and
        at most 4096 numbers in a measurement.
    """
    if (
        not {"linear", "gaussian_noise"} <= problem.capabilities
        or not problem.noise_variance > 0
        or y[0].numel() > _LOOKED_AHEAD
    ):
        return None
    like = next(model.parameters())
    units = torch.eye(math.prod(model.shape), dtype=torch.float64, device=like.device).reshape(
        -1, *model.shape
    )
    matrix = torch.cat(
        [problem.linear_operator.apply(part).flatten(1) for part in units.split(256)]
    )
    draws = model.sample(_REFERENCE, generator)
    return LookaheadFactors.of(draws, matrix, problem.noise_variance)


def _guess(
    model: PixelModel, problem: InverseProblem, y: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Find the starts of the chains: the pseudo-inverse, or a draw of the model."""
    if isinstance(problem.operator, LinearOperator) and tuple(problem.input_shape(y)) == tuple(
        model.shape
    ):
        return problem.operator.pinv(y, 1e-2).clamp(-1, 1)
    return model.sample(len(y), generator)


@torch.no_grad()
def _resampled(
    model: PixelModel,
    problem: InverseProblem,
    y: Tensor,
    n: int,
    generator: torch.Generator | None,
    settings: RestoreSettings,
    progress: Callable[[float], None] | None,
) -> tuple[Tensor, dict[str, Any]]:
    """Draw vectors (n, B, D) by importance resampling and Metropolis steps.

    Draws of the model are weighted by p(y | x) and resampled. Then random-walk Metropolis steps
    separate the copies (Gilks and Berzuini 2001); their covariance is the weighted covariance times
    2.38^2 / D.
    """
    kept, shares, (D,) = [], [], model.shape
    for b in range(len(y)):
        x = model.sample(settings.proposals, generator)
        log_w = problem.log_likelihood(
            y[b : b + 1].double().expand(len(x), *y.shape[1:]), x.double()
        )
        w = torch.softmax(log_w, 0)
        if not bool(torch.isfinite(w).all()):
            raise ValueError(
                "the likelihood of the measurement is zero or undefined everywhere; "
                "give the problem a noise level above 0"
            )
        shares.append(ess_fraction(log_w))
        off = x.double() - (w @ x.double())
        covariance = (w[:, None] * off).T @ off + 1e-8 * torch.eye(
            D, dtype=torch.float64, device=x.device
        )
        root = torch.linalg.cholesky(covariance * 2.38**2 / D).to(x)
        x = x[torch.searchsorted(w.cumsum(0), uniform((n,), generator, w)).clamp_max(len(w) - 1)]
        target = y[b : b + 1].double().expand(n, *y.shape[1:])

        def density(x: Tensor, target: Tensor = target) -> Tensor:
            return model.log_prob(x).value + problem.log_likelihood(target, x.double())

        value, moved = density(x), 0.0
        for k in range(settings.steps):
            proposal = x + normal(tuple(x.shape), generator, x) @ root.T
            new = density(proposal)
            yes = uniform((n,), generator, value).log() < new - value
            x, value = torch.where(yes[:, None], proposal, x), torch.where(yes, new, value)
            moved += float(yes.double().mean()) / settings.steps
            if progress:
                progress((b + (k + 1) / settings.steps) / len(y))
        kept.append(x)
    nfe = -(-D * settings.proposals // n) + settings.steps
    return torch.stack(kept, 1), {
        "method": "resampling",
        "exact": False,
        "share": min(shares),
        "acceptance": moved,
        "nfe": nfe,
    }
