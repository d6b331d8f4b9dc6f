r"""Variational lower bound of a diffusion model on ln p(x), in continuous noise.

The bound is that of Ho et al. 2020, with continuous noise as in Kingma et al. 2021. With
:math:`u_s = x + s\,\varepsilon`, :math:`s = \sigma_t/\alpha_t`, and a decoder
:math:`N(x; u_{s_0}, s_0^2 I)` at the lowest noise,

.. math:: \ln p(x) \ge -\tfrac d2 \ln(2\pi e\,s_0^2)
          - \tfrac12 \int E\|\varepsilon - \hat\varepsilon(u_s)\|^2\, d\lambda
          - \mathrm{KL}\left(N(x, s_{max}^2 I)\,\|\,p_{s_{max}}\right), \qquad \lambda = -2 \ln s,

where :math:`\varepsilon - \hat\varepsilon = (\hat x_0(u_s) - x)/s`. For a Gaussian reference
:math:`N(\mu, U \Lambda U^T)`, whose noisy version is the distribution at :math:`s_{max}`, all terms
have a closed form. Only the difference from it must be estimated, which is small at both ends:

.. math:: \mathrm{ELBO}(x) = E \ln N(u_{s_0}; \mu, U(\Lambda + s_0^2) U^T)
          - \int_{\ln s_0}^{\ln s_{max}} (\ell - \ell_G)\, d\ln s, \quad
          \ell = E\|\varepsilon - \hat\varepsilon\|^2, \quad
          \ell_G = \sum \frac{\Lambda^2 + s^2 (U^T(x - \mu))^2}{(\Lambda + s^2)^2} .

For the exact denoiser :math:`dE \ln p_s(u_s)/d\ln s = \ell - d` (Guo, Shamai and Verdu 2005; Kong,
Brekelmans and Ver Steeg 2023, "Information-theoretic diffusion"). The bound is then
:math:`E \ln p_{s_0}(u_{s_0})` at every x. By Jensen's inequality this lies below
:math:`\ln p_{\sqrt2 s_0}(x)`, the density of the decoder's output, and it tends to
:math:`\ln p_0(x)` as :math:`s_0` tends to 0.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from problems.linalg.broadcast import expand_like
from scoresde.priors.base import CountingPrior, Prior
from solvers.likelihood.nodes import NodeGrid, error_of_sum, nodes_for
from solvers.likelihood.reference import GaussianReference
from solvers.likelihood.settings import (
    End,
    check_grid,
    check_samples,
    default_batch,
    resolve_end,
)
from solvers.streams import NormalStream, spawn

__all__ = ["LowerBound", "elbo"]


@dataclass(frozen=True)
class LowerBound:
    """Result of `elbo` for a batch of B samples.

    Args:
        value: Unbiased estimate of the bound on ln p, in nats, (B,), float64.
        std_error: Standard error of value, in nats, (B,).
        dof: Effective degrees of freedom of std_error, (B,).
        nfe: Evaluations of a network for each sample.
        seconds: Wall time of the call.
        s: Noise-to-signal ratios of the evaluations, (draws, nodes, B).
        integrand: Loss of the prior minus that of the reference at s, after the control variate,
            (draws, nodes, B).
    """

    value: Tensor
    std_error: Tensor
    dof: Tensor
    nfe: int
    seconds: float
    s: Tensor
    integrand: Tensor


@torch.no_grad()
def elbo(
    prior: Prior,
    x: Tensor,
    *,
    nodes: int = 64,
    draws: int = 1,
    end: End | float = "t_min",
    reference: GaussianReference | None = None,
    s_max: float | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    batch: int | None = None,
) -> LowerBound:
    """Estimate the variational lower bound on ln p(x).

    The estimate is unbiased. The noise levels are those of `log_likelihood`.

    Args:
        prior: Prior whose density is bounded, guided or not.
        x: Samples, (B, *shape), floating point; images on [-1, 1].
        nodes: Number of strata of the noise level, at least 8. Each has one uniform draw and fresh
            noise for every sample, and one evaluation for the whole batch. The strata have equal
            size in ln s up to the scale of the data and are wider above.
        draws: Number of independent estimates, which are averaged, at least 1.
        end: Lowest noise level. "t_min": the bound, with the decoder at the smallest noise of the
            prior. "data": the limit of the bound as that noise tends to 0; the integral is
            continued by its leading order in s^2, for data whose density is smooth at the noise of
            t_min. A number: the bound with that lowest noise, a standard deviation in the units of
            x, under an SDE with alpha = 1.
        reference: Gaussian relative to which the integral is taken, and whose noisy version is the
            distribution at the highest noise. None for the moments of the prior
            (`GaussianReference.of`).
        s_max: Noise-to-signal ratio at which the integral ends, above the smallest noise. None for
            that of the SDE at t_max, which is also the largest possible value.
        generator: Source of the noise: one generator, from which one is derived for each sample,
            or a sequence of B generators, each of which alone decides the value of its sample. None
            for torch's global generator.
        batch: Number of samples processed together, at least 1; values do not depend on it. None
            for as many as have 2^16 entries in total.

    Returns:
        The bound in nats with its standard error.

    Raises:
        ValueError: If x does not have the shape of the prior's samples or holds NaN or infinite
            values, or if settings are invalid or contradict each other.

    Example:
        For a Gaussian prior the limit of the bound is ln p(x).

        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import elbo
        >>> prior = GaussianPrior(torch.zeros(2), 0.25 * torch.eye(2))
        >>> x = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
        >>> bound = elbo(prior, x, end="data", generator=torch.Generator().manual_seed(0))
        >>> bool((bound.value - prior.log_prob(x)).abs() < 1e-3)
        True
        >>> bound.nfe
        64
    """
    started = time.perf_counter()
    prior, end = resolve_end(prior.precise(), end)
    check_grid(end, nodes)
    check_samples(prior, x)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    shape, batch = tuple(x.shape[1:]), default_batch(batch, x)
    reference = (reference or GaussianReference.of(prior, shape)).to(prior.device)
    if len(reference.mean) != x[0].numel():
        raise ValueError(
            f"the reference has {len(reference.mean)} dimensions, "
            f"a sample {shape} has {x[0].numel()}"
        )
    # uniform in ln s down to the lowest noise: a control variate comes from the neighbouring nodes,
    # so they must be near
    edges = replace(nodes_for(prior, reference, nodes + 1, s_max=s_max), a=0.0)
    generators, counted = spawn(generator, len(x)), CountingPrior(prior)
    parts = []
    for i in range(0, len(x), batch):
        counted.nfe = 0
        x_i = x[i : i + batch].to(prior.device).double()
        parts.append(_bound(counted, x_i, edges, reference, end, draws, generators[i : i + batch]))
    value, error, dof, s, integrand = (torch.cat(p) for p in zip(*parts, strict=True))
    return LowerBound(
        value,
        error,
        dof,
        counted.nfe,
        time.perf_counter() - started,
        s.movedim(0, -1),
        integrand.movedim(0, -1),
    )


def _bound(
    prior: Prior,
    x: Tensor,
    edges: NodeGrid,
    reference: GaussianReference,
    end: End,
    draws: int,
    generators: list[torch.Generator],
) -> tuple[Tensor, ...]:
    """Value, standard error and degrees of freedom (B,); s and integrand (B, draws, nodes)."""
    w_edges = edges.w().to(x.device)
    uniform = [
        torch.rand(draws, edges.n - 1, generator=g, dtype=torch.float64, device=g.device)
        for g in generators
    ]
    w = w_edges[:-1] + w_edges.diff() * torch.stack(uniform).to(x.device)
    s, noise = edges.s(w), NormalStream(generators)
    rate, off_centre = edges.rate(s), w - (w_edges[:-1] + w_edges[1:]) / 2
    lam, centred = reference.variances, reference.coordinates(x.flatten(1) - reference.mean)

    nodes = []
    for s_i in s.flatten(1).unbind(1):
        eps, s_column = noise(tuple(x.shape), torch.float64, x.device), s_i[:, None]
        q_squared = lam + s_column**2
        loss_G = (
            ((lam * reference.coordinates(eps.flatten(1)) - s_column * centred) / q_squared)
            .square()
            .sum(1)
        )
        mean_G = ((lam**2 + s_column**2 * centred**2) / q_squared**2).sum(1)
        nodes.append(torch.stack([_loss(prior, x, s_i, eps), loss_G, mean_G]))
    loss, loss_G, mean_G = torch.stack(nodes, -1).unflatten(-1, s.shape[1:])

    # in few dimensions the loss of the reference may be close to 0 by chance
    c, slope = _from_neighbours(1 + (loss - loss_G) / loss_G.maximum(mean_G / 2), rate * mean_G, w)
    integrand = loss - mean_G - c * (loss_G - mean_G)
    values = rate * integrand - slope * off_centre
    weights = w_edges.diff().expand_as(values).clone()
    s_0 = edges.first
    if end == "data":  # a s^2 through the first node, integrated from 0
        weights[..., 0] += (s_0 / s[..., 0]) ** 2 / (2 * rate[..., 0])
        s_0 = 0.0
    q_squared = (lam + s_0**2).clamp_min(1e-300)
    value_G = -0.5 * ((2 * math.pi * q_squared).log() + (s_0**2 + centred**2) / q_squared).sum(1)
    error, dof = (
        v.unflatten(0, s.shape[:2])
        for v in error_of_sum(values.flatten(0, 1), weights.flatten(0, 1))
    )
    variance = error.square().sum(1)
    dof = (variance**2 / (error**4 / dof).sum(1).clamp_min(1e-300)).clamp_min(1)
    return value_G - (values * weights).sum(-1).mean(1), variance.sqrt() / draws, dof, s, integrand


def _loss(prior: Prior, x: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    """||eps - eps_hat(x + s eps)||^2, (B,), at s (B,)."""
    t = prior.sde.t_from_noise_to_signal(s).clamp(prior.sde.t_min, prior.sde.t_max)
    x_t = expand_like(prior.sde.alpha(t), x) * (x + expand_like(s, x) * eps)
    x0_hat = prior.denoise(x_t.to(prior.dtype), t.to(prior.dtype)).double()
    return ((x0_hat - x) / expand_like(s, x)).square().flatten(1).sum(1)


def _from_neighbours(ratio: Tensor, scale: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Control variates c and slopes for every node from its two neighbours, both (..., nodes).

    The neighbours share no random number with the node, so there is no bias. ratio: loss of the
    prior over that of the reference with the same noise, (..., nodes). c: coefficient of the noise
    of the reference's loss, at most 1. slope: derivative of scale (ratio - 1) in w, which corrects
    for the position of a node in its stratum; 0 for the first node and the last.
    """
    beside = pad(ratio, (1, 1), mode="reflect")
    c = ((beside[..., :-2] + beside[..., 2:]) / 2).clamp_max(1)
    curve = scale * (ratio - 1)
    return c, pad((curve[..., 2:] - curve[..., :-2]) / (w[..., 2:] - w[..., :-2]), (1, 1))
