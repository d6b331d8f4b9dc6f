r"""Draws of the posterior of a latent variable, by Hamiltonian Monte Carlo.

For a generator :math:`x = g(z)`, :math:`z \sim N(0, I)`, a measurement y has the posterior

.. math:: \ln p(z | y) = -|z|^2/2 + \ln p(y | g(z)) + \mathrm{const}.

Its draws, mapped by g, are draws of p(x | y). (CSGM, Bora et al. 2017, takes its maximum as a point
estimate.) For a normalising flow this is the exact posterior; for a VAE or a GAN it is exact under
the prior "pictures are g(z)".

1. Adam maximises the density from ``restarts`` draws of the prior. Each chain starts at one of the
   maxima, chosen in proportion to their densities.
2. Warm-up: dual averaging (Hoffman and Gelman 2014, section 3.2) adapts the step size of each
   measurement to the wanted acceptance. Halfway through, the variances of the latent entries so
   far become the inverse masses, and the adaptation of the step size restarts.
3. ``steps`` transitions with all of this fixed: a Markov chain whose stationary distribution is the
   posterior, by the Metropolis test.

The chains find the modes that the restarts found. Modes that no restart found are missing, and
modes far apart do not get the right proportions. ``rhat`` well above 1 shows that chains disagree.
All chains of a measurement share a step size, so a draw depends on n.
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
    """The part of a problem that is needed here; an ``InverseProblem`` has it."""

    def log_likelihood(self, y: Tensor, x: Tensor, /) -> Tensor:
        """Compute ln p(y | x).

        Args:
            y: Measurements, shape (N, ...).
            x: Samples, shape (N, ...).

        Returns:
            Log-likelihoods in nats, up to a constant, shape (N,).
        """


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
    """Draw latent vectors from the posterior of each measurement.

    Args:
        decode: Differentiable map from z (N, *latent_shape) to x (N, ...).
        latent_shape: Shape of one z; its prior is N(0, I).
        problem: Likelihood of the measurement.
        y: Measurements, shape (B, ...). z gets its precision and device.
        n: Draws per measurement, at least 1.
        generator: Source of the random numbers; None for torch's global one.
        steps: Transitions of the warm-up, and again after it.
        leapfrog: Leapfrog steps per transition.
        restarts: Starts of the search for modes, per measurement.
        climb: Steps of Adam from each start.
        chains: Chains per measurement; None for n. With fewer than n, draws are taken from the
            later transitions of each chain at equal distances.
        progress: Called with the finished fraction of the work, 0 to 1; None for no reports.

    Returns:
        Draws of z, shape (n, B, *latent_shape), and diagnostics. The diagnostics "acceptance",
        "rhat", "step_size" and "log_posterior" (mean over the draws, up to a constant) are lists
        with one number per measurement; "nfe" and "vjps" are network evaluations and
        vector-Jacobian products per draw.

    Raises:
        ValueError: If a number is below 1, y is not finite, there are too few steps for n draws, or
            the likelihood is zero or undefined at every start.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> z, diagnostics = latent_posterior(
        ...     lambda z: z, (2,), problem, torch.full((1, 2), 2.0), 64,
        ...     torch.Generator().manual_seed(0), steps=30, climb=30)
        >>> z.shape, bool((z.mean(0) - 1).abs().max() < 0.3)  # the exact mean is y / 2 = 1
        (torch.Size([64, 1, 2]), True)
    """
    if min(n, steps, leapfrog, restarts, climb) < 1 or (chains is not None and chains < 1):
        raise ValueError(
            "n, steps, leapfrog, restarts, climb and chains must be at least 1, "
            f"got {n, steps, leapfrog, restarts, climb, chains}"
        )
    if not bool(torch.isfinite(y).all()):
        raise ValueError("the measurement has NaN or infinite entries; mask them out")
    B, chains = len(y), min(n, chains or n)
    each = -(-n // chains)
    if each > steps:
        raise ValueError(
            f"{n} draws from {chains} chains need {each} transitions or more, got steps = {steps}"
        )
    dim = torch.Size(latent_shape).numel()
    evaluations = 0

    def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ln p(z | y) + const (M, B) in float64 and its gradient for z (M, B, dim)."""
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
            "the likelihood of the measurement is zero or undefined at every start; "
            "give the problem a noise level above 0"
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
    """Maximise ln p(z | y) by Adam, with a rate that falls from 0.1 to 0 along a cosine."""
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
    """Compute split R-hat (Gelman et al. 2013, section 11.4) of the worst entry.

    z (T, M, B, D) gives (B,). It is 1 for chains that agree.
    """
    half = len(z) // 2
    z = torch.cat([z[:half], z[-half:]], dim=1).double()
    within = z.var(0).mean(0)
    between = z.mean(0).var(0)
    return ((half - 1) / half + between / within.clamp_min(1e-300)).sqrt().amax(-1)
