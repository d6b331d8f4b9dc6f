r"""Mixtures of logistic distributions, over the 256 grey levels and over the real line.

A logistic of mean :math:`\mu` and scale :math:`s` has the distribution function
:math:`F(x) = \mathrm{sigmoid}((x - \mu)/s)`. Grey level :math:`j` of a picture on [-1, 1] is at
:math:`x_j = 2j/255 - 1` and has the bin of width :math:`h = 2/255` about it. The outermost bins
reach to infinity, so the 256 probabilities sum to 1 (PixelCNN++, Salimans et al. 2017). With
:math:`a < b` the ends of the bin in units of the scale,

.. math:: \ln(F(b) - F(a)) = \ln\mathrm{sigmoid}(b) + \ln\mathrm{sigmoid}(-a)
          + \ln(1 - e^{-(b - a)}),

which is accurate in both tails and in narrow bins. No special case that replaces narrow bins by the
density is needed.

Layout: x has any shape S. Weights, means and log-scales have K components along an additional last
axis, (*S, K). All shapes broadcast. The caller must bound the scales from below (PixelCNN++ takes
ln s >= -7).
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
"""Number of grey levels of an 8-bit picture."""
BIN = 2 / (GREY_LEVELS - 1)
"""Distance between two neighbouring grey levels on [-1, 1]."""


def to_levels(x: Tensor, levels: int = GREY_LEVELS) -> Tensor:
    """Round to the nearest grey level.

    Args:
        x: Values, of any shape. Those outside of [-1, 1] go to the nearest end.
        levels: Number of grey levels, evenly spaced on [-1, 1].

    Returns:
        Values of the levels on [-1, 1], shape of x.
    """
    width = 2 / (levels - 1)
    return ((x.clamp(-1, 1) + 1) / width).round() * width - 1


def discretised_logistic_log_prob(
    x: Tensor, mean: Tensor, log_scale: Tensor, levels: int = GREY_LEVELS
) -> Tensor:
    """Compute ln P(level of x) of a logistic, entry by entry.

    The gradient with respect to x is that of the same formula with x in the place of its level.

    Args:
        x: Values on [-1, 1], rounded to the nearest level.
        mean: Means; they broadcast with x.
        log_scale: Natural logarithms of the scales; they broadcast with x.
        levels: Number of grey levels, evenly spaced on [-1, 1].

    Returns:
        Log-probabilities in nats.
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
    """Compute ln sum_k w_k P_k(level of x) of a mixture.

    Args:
        x: Values on [-1, 1], rounded to the nearest level, shape (*S).
        logits: Unnormalised log-weights w, shape (*S, K).
        means: Means, shape (*S, K).
        log_scales: Natural logarithms of the scales, shape (*S, K).
        levels: Number of grey levels, evenly spaced on [-1, 1].

    Returns:
        Log-probabilities in nats, shape (*S).
    """
    each = discretised_logistic_log_prob(x[..., None], means, log_scales, levels)
    return torch.logsumexp(torch.log_softmax(logits, -1) + each, -1)


def logistic_mixture_log_prob(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> Tensor:
    """Compute ln sum_k w_k f_k(x), the log-density of a mixture on the real line.

    Args:
        x: Values, shape (*S).
        logits: Unnormalised log-weights w, shape (*S, K).
        means: Means, shape (*S, K).
        log_scales: Natural logarithms of the scales, shape (*S, K).

    Returns:
        Log-densities in nats, shape (*S).
    """
    u = (x[..., None] - means) * torch.exp(-log_scales)
    each = F.logsigmoid(u) + F.logsigmoid(-u) - log_scales
    return torch.logsumexp(torch.log_softmax(logits, -1) + each, -1)


def sample_logistic_mixture(
    logits: Tensor, means: Tensor, log_scales: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Draw from each mixture on the real line.

    The component is drawn by the Gumbel trick, the logistic by its inverse distribution function.

    Args:
        logits: Unnormalised log-weights w, shape (*S, K).
        means: Means, shape (*S, K).
        log_scales: Natural logarithms of the scales, shape (*S, K).
        generator: Source of the random numbers; None for torch's global one.

    Returns:
        One draw from each mixture, shape (*S).
    """
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
    """Draw one grey level from each mixture.

    A draw on the real line, rounded, has exactly the distribution of the levels.

    Args:
        logits: Unnormalised log-weights w, shape (*S, K).
        means: Means, shape (*S, K).
        log_scales: Natural logarithms of the scales, shape (*S, K).
        generator: Source of the random numbers; None for torch's global one.
        levels: Number of grey levels, evenly spaced on [-1, 1].

    Returns:
        One level from each mixture, on [-1, 1], shape (*S).
    """
    return to_levels(sample_logistic_mixture(logits, means, log_scales, generator), levels)


def _log1mexp(x: Tensor) -> Tensor:
    """Compute ln(1 - e^-x) for x > 0 (Maechler 2012)."""
    small = x < math.log(2)
    return torch.where(
        small, torch.log(-torch.expm1(-x.clamp_max(1))), torch.log1p(-torch.exp(-x.clamp_min(0.5)))
    )


def _open_uniform(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw from U(0, 1) without its ends, in double precision so that the tails are kept."""
    return uniform(shape, generator, like).clamp(2.0**-54, 1 - 2.0**-53)
