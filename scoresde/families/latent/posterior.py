r"""Draws of the posterior of a latent variable, by Hamiltonian Monte Carlo.

A generator :math:`x = g(z)`, :math:`z \sim N(0, I)`, makes of a measurement y the posterior

.. math:: \ln p(z | y) = -|z|^2/2 + \ln p(y | g(z)) + \mathrm{const},

whose draws, pushed through g, are draws of p(x | y) (CSGM, Bora et al. 2017, of which the maximum is the point estimate). For a
normalising flow this is the exact posterior; for a VAE or a GAN it is exact for the prior "pictures are g(z)".

1. Adam climbs from ``restarts`` prior draws; each chain starts at one of the summits, chosen by their densities.
2. Warm-up: dual averaging (Hoffman and Gelman 2014, section 3.2) brings each measurement's step size to the acceptance wanted; halfway
   through, the variances of the latent entries so far become the inverse masses and the step size starts anew.
3. ``steps`` transitions with all of this fixed: a Markov chain whose stationary law is the posterior, by Metropolis' test.

The chains find the modes that the restarts found. Modes that none of them found are not represented, and those far apart not in the right
proportions; ``rhat`` well above 1 tells so where chains disagree. All chains of a measurement share a step size: a draw depends on n.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from problems.random_numbers import normal
from scoresde.families.latent.hmc import HMC, LogDensity

__all__ = ["Likelihood", "latent_posterior"]


class Likelihood(Protocol):
    """What is asked of a problem (an ``InverseProblem`` is one)."""

    def log_likelihood(self, y: Tensor, x: Tensor, /) -> Tensor: ...


def latent_posterior(
    decode: Callable[[Tensor], Tensor],
    latent_shape: tuple[int, ...],
    problem: Likelihood,
    y: Tensor,
    n: int,
    generator: torch.Generator | None = None,
    *,
    steps: int = 100,
    leapfrog: int = 8,
    restarts: int = 4,
    climb: int = 100,
    chains: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """n draws of z for each measurement y (B, ...): (n, B, *latent_shape), and diagnostics.

    decode: z (N, *latent_shape) -> x (N, ...), differentiable. z has the precision and the device of y. steps: transitions of the warm-up,
    and again after it. climb: steps of Adam. chains: for each measurement, n if not given; with fewer, draws are taken from the later
    transitions at equal distances. diagnostics: acceptance, rhat, step_size and log_posterior (mean over the draws, up to a constant), one
    number for each measurement; nfe, vjps: network evaluations and products per draw.
    """
    if min(n, steps, leapfrog, restarts, climb) < 1 or (chains is not None and chains < 1):
        raise ValueError(
            f"n, steps, leapfrog, restarts, climb and chains must be at least 1, got {n, steps, leapfrog, restarts, climb, chains}"
        )
    if not bool(torch.isfinite(y).all()):
        raise ValueError("the measurement has NaN or infinite entries; mask them out")
    B, chains = len(y), min(n, chains or n)
    each = -(-n // chains)
    if each > steps:
        raise ValueError(
            f"{n} draws from {chains} chains need {each} transitions or more, got {steps} steps"
        )
    dim = torch.Size(latent_shape).numel()
    evaluations = 0

    def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
        """ln p(z | y) + const (M, B) in float64, and its gradient, for z (M, B, dim)."""
        nonlocal evaluations
        evaluations += len(z)
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            x = decode(z.reshape(-1, *latent_shape))
            data = problem.log_likelihood(
                y.double().repeat(len(z), *[1] * (y.ndim - 1)), x.double()
            ).reshape(len(z), B)
            value = data - z.double().square().sum(-1) / 2
            return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    def report(fraction: float) -> None:
        if progress:
            progress(fraction)

    z = _climb(
        log_density, normal((restarts, B, dim), generator, y), climb, lambda f: report(0.2 * f)
    )
    value = log_density(z)[0]
    if not bool(torch.isfinite(value).any(0).all()):
        raise ValueError(
            "the likelihood of the measurement is zero or undefined at every start; give the problem a noise level above 0"
        )
    weights = value.nan_to_num(-math.inf, neginf=-math.inf).softmax(0).T
    device = generator.device if generator is not None else y.device
    which = torch.multinomial(
        weights.to(device), chains, replacement=True, generator=generator
    ).T.to(y.device)
    z = z.gather(0, which[..., None].expand(-1, -1, dim))

    chain = HMC(log_density, z, generator, leapfrog)
    for i in range(steps):
        if i == steps // 2:
            chain.adapt_masses()
        chain.step(adapt=True)
        report(0.2 + 0.4 * (i + 1) / steps)
    chain.freeze()

    keep = {steps - 1 - j * (steps // each) for j in range(each)}
    draws, heights = [], []
    accepted = torch.zeros(B, dtype=torch.float64, device=y.device)
    history = []
    for i in range(steps):
        accepted += chain.step(adapt=False).mean(0)
        history.append(chain.z)
        if i in keep:
            draws.append(chain.z)
            heights.append(chain.value)
        report(0.6 + 0.4 * (i + 1) / steps)
    return torch.cat(draws[::-1])[:n].reshape(n, B, *latent_shape), {
        "acceptance": (accepted / steps).tolist(),
        "rhat": _rhat(torch.stack(history)).tolist() if steps >= 4 else [math.nan] * B,
        "step_size": chain.step_size.tolist(),
        "log_posterior": torch.cat(heights[::-1])[:n].mean(0).tolist(),
        "nfe": math.ceil(evaluations / n),
        "vjps": math.ceil(evaluations / n),
    }


def _climb(
    log_density: LogDensity, z: Tensor, steps: int, report: Callable[[float], None]
) -> Tensor:
    """Adam on ln p(z | y), with a rate that falls from 0.1 to 0 along a cosine."""
    z = z.clone()
    optimizer = torch.optim.Adam([z], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for i in range(steps):
        z.grad = -log_density(z)[1].nan_to_num(0, 0, 0)
        optimizer.step()
        schedule.step()
        report((i + 1) / steps)
    return z.detach()


def _rhat(z: Tensor) -> Tensor:
    """Split R-hat (Gelman et al. 2013, section 11.4) of the worst entry: z (T, M, B, D) -> (B,). 1 for chains that agree."""
    half = len(z) // 2
    z = torch.cat([z[:half], z[-half:]], dim=1).double()
    within = z.var(0).mean(0)
    between = z.mean(0).var(0)
    return ((half - 1) / half + between / within.clamp_min(1e-300)).sqrt().amax(-1)
