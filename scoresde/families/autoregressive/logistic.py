r"""Mixtures of logistic distributions, over the 256 grey levels and over the line.

A logistic of mean :math:`\mu` and scale :math:`s` has the distribution function :math:`F(x) = \mathrm{sigmoid}((x - \mu)/s)`. Grey
level :math:`j` of a picture on [-1, 1] stands at :math:`x_j = 2j/255 - 1` and owns the bin of width :math:`h = 2/255` about it; the
outermost bins reach to infinity, so the 256 probabilities sum to 1 (PixelCNN++, Salimans et al. 2017). With :math:`a < b` the ends of the
bin in units of the scale,

.. math:: \ln(F(b) - F(a)) = \ln\mathrm{sigmoid}(b) + \ln\mathrm{sigmoid}(-a) + \ln(1 - e^{-(b - a)}),

which loses no digits in either tail nor in narrow bins: no case of "the bin is too small, use the density" is needed.

Layout: x has any shape S; weights, means and log-scales have a last axis of K components behind it, (*S, K); all broadcast.
Scales are the caller's to bound from below (PixelCNN++ takes ln s >= -7).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.random_numbers import uniform

__all__ = [
    "BIN",
    "GREY_LEVELS",
    "discretised_logistic_log_prob",
    "discretised_logistic_mixture_log_prob",
    "logistic_mixture_log_prob",
    "sample_discretised_logistic_mixture",
    "sample_logistic_mixture",
    "to_levels",
]

GREY_LEVELS = 256
BIN = 2 / (GREY_LEVELS - 1)
"""Distance of two grey levels on [-1, 1]."""


def to_levels(x: Tensor, levels: int = GREY_LEVELS) -> Tensor:
    """The nearest grey level of each entry, as a number on [-1, 1]; entries beyond the ends go to the ends. levels: how many there are."""
    width = 2 / (levels - 1)
    return ((x.clamp(-1, 1) + 1) / width).round() * width - 1


def discretised_logistic_log_prob(
    x: Tensor, mean: Tensor, log_scale: Tensor, levels: int = GREY_LEVELS
) -> Tensor:
    """ln P(level of x), nats, elementwise. x: on [-1, 1], rounded to the nearest level; mean, log_scale: broadcast with it.

    The gradient with respect to x is that of the same formula with x in the place of its level.
    """
    width = 2 / (levels - 1)
    place = (x.clamp(-1, 1) + 1) / width
    level = place + (place.round() - place).detach()
    centre = level * width - 1 - mean
    inverse = torch.exp(-log_scale)
    upper = F.logsigmoid((centre + width / 2) * inverse)  # ln F(b)
    lower = F.logsigmoid(-(centre - width / 2) * inverse)  # ln(1 - F(a))
    between = upper + lower + _log1mexp(width * inverse)
    return torch.where(
        place.round() == 0, upper, torch.where(place.round() == levels - 1, lower, between)
    )


def discretised_logistic_mixture_log_prob(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, levels: int = GREY_LEVELS
) -> Tensor:
    """ln sum_k w_k P_k(level of x), nats: x (*S), the others (*S, K), w = softmax(logits) -> (*S)."""
    each = discretised_logistic_log_prob(x[..., None], means, log_scales, levels)
    return torch.logsumexp(torch.log_softmax(logits, -1) + each, -1)


def logistic_mixture_log_prob(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> Tensor:
    """ln of the density sum_k w_k f_k(x) on the line, nats: x (*S), the others (*S, K) -> (*S)."""
    u = (x[..., None] - means) * torch.exp(-log_scales)
    each = F.logsigmoid(u) + F.logsigmoid(-u) - log_scales
    return torch.logsumexp(torch.log_softmax(logits, -1) + each, -1)


def sample_logistic_mixture(
    logits: Tensor, means: Tensor, log_scales: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """One draw from each mixture (*S, K) -> (*S). The component by Gumbel's trick, the logistic by its inverse distribution function."""
    gumbel = -torch.log(-torch.log(_open_uniform(logits.shape, logits, generator)))
    k = (logits + gumbel).argmax(-1, keepdim=True)
    mean, log_scale = (
        torch.broadcast_to(v, logits.shape).gather(-1, k)[..., 0] for v in (means, log_scales)
    )
    return (
        mean + torch.exp(log_scale) * torch.logit(_open_uniform(mean.shape, mean, generator))
    ).to(means.dtype)


def sample_discretised_logistic_mixture(
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    generator: torch.Generator | None = None,
    levels: int = GREY_LEVELS,
) -> Tensor:
    """One grey level on [-1, 1] from each mixture (*S, K) -> (*S): a draw on the line, rounded, is exactly a draw of the levels."""
    return to_levels(sample_logistic_mixture(logits, means, log_scales, generator), levels)


def _log1mexp(x: Tensor) -> Tensor:
    """ln(1 - e^-x) for x > 0 (Maechler 2012)."""
    small = x < math.log(2)
    return torch.where(
        small, torch.log(-torch.expm1(-x.clamp_max(1))), torch.log1p(-torch.exp(-x.clamp_min(0.5)))
    )


def _open_uniform(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """U(0, 1), its ends excluded, in double precision so that the tails are not cut short."""
    return uniform(shape, generator, like).clamp(2.0**-54, 1 - 2.0**-53)
