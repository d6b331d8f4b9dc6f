"""Posterior draws of an autoregressive model: which method is right for which measurement.

- Images, noise-free pixels that all come before the missing ones in raster order: ancestral sampling of the rest. Exact, independent draws.
- Images, any noise and operator that act on each entry alone (noisy or scattered holes, denoising, clipping): particles in raster order,
  then particle Gibbs (``conditional_smc``). Exact as particles or sweeps grow in number.
- Images, linear measurements with Gaussian noise (blur, super-resolution, tomography) of at most 4096 numbers: the same, each particle
  placing its pixels with an eye to what the rest would be if it were Gaussian (``potentials``). Exact as particles or sweeps grow.
- Images, anything else with a likelihood (JPEG, phase retrieval, other noise): discrete Langevin with Metropolis' test
  (``discrete_langevin``). Exact as chains grow in length.
- Vectors, anything with a likelihood: importance resampling, then Metropolis steps. Exact as proposals or steps grow in number.

Draws of images lie on the grey levels. Noise-free measurements of entries mean the nearest level.
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
from problems.noise import Noise
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

_LOOKED_AHEAD = 4096  # numbers of a measurement for which a matrix of that size squared is at hand
_REFERENCE = 256


@dataclass(frozen=True)
class RestoreSettings:
    """particles: of a draw's population. sweeps: of particle Gibbs after the first pass. steps: of Langevin's warm-up and again after it,
    and of Metropolis for vectors. proposals: draws of the model among which a vector's posterior is resampled."""

    particles: int = 16
    sweeps: int = 2
    steps: int = 300
    proposals: int = 1 << 14

    def __post_init__(self) -> None:
        if min(self.particles, self.steps, self.proposals) < 1 or self.sweeps < 0:
            raise ValueError(
                f"particles, steps and proposals must be at least 1 and sweeps at least 0, got {self}"
            )
        if self.sweeps and self.particles < 2:
            raise ValueError(
                "a sweep of particle Gibbs needs at least 2 particles: with one nothing ever moves"
            )


def restore(model: PixelModel, request: Request, settings: RestoreSettings) -> Draws:
    """n draws for each measurement y (B, ...): (n, B, *shape). ``diagnostics["method"]`` names the method, "exact" says whether it is."""
    problem, y, n, generator, progress = (
        request.problem,
        request.y,
        request.n,
        request.generator,
        request.progress,
    )
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
    """ln p(y_i | x_i = v) for every entry and level, (B, C, H, W, levels), float64; None if it is not a matter of entries alone.

    Without noise: 0 at the level whose value is nearest to y_i, -inf at the others.
    """
    operator, noise = problem.operator, problem.noise
    if (
        not isinstance(operator, Denoising | Inpainting | Clipping | Gamma | Quantisation)
        or type(noise).log_prob is not Noise.log_prob
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
    """Of a linear problem with Gaussian noise of one level, above 0, and few numbers; None of others. From 256 draws of the model."""
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
    """Where chains start: the pseudo-inverse, or a draw of the model."""
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
    """Draws of the model, weighted by p(y | x) and resampled; then random-walk Metropolis steps, which part those that are copies (Gilks
    and Berzuini 2001), of 2.38^2 / D times the weighted covariance. (n, B, D)."""
    kept, shares, (D,) = [], [], model.shape
    for b in range(len(y)):
        x = model.sample(settings.proposals, generator)
        log_w = problem.log_likelihood(
            y[b : b + 1].double().expand(len(x), *y.shape[1:]), x.double()
        )
        w = torch.softmax(log_w, 0)
        if not bool(torch.isfinite(w).all()):
            raise ValueError(
                "the likelihood of the measurement is zero or undefined everywhere; give the problem a noise level above 0"
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
