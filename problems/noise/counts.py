r"""The density of a photon count plus Gaussian read noise.

.. math:: p(r) = \sum_{k \ge 0} e^{\ell(k)}, \qquad
          e^{\ell(k)} = \frac{\lambda^k e^{-\lambda}}{k!}\, N(r; k, s^2) .

:math:`\ell` is concave. With m its largest place, :math:`-\ell'' \ge 1/s^2 + 1/(k+1)` gives

.. math:: \ell(m) - \ell(m \pm d) \ge
          \tfrac12 d^2 \Bigl(\frac1{s^2} + \frac1{m + 1 + d/3}\Bigr) ,

so that terms outside of :math:`|k - m| \le d` with a right-hand side of 40 add less than
:math:`e^{-40}` of the sum. Within, a count of many photons is summed in steps of h > 1, as a
trapezoidal rule. Its error follows from Poisson's summation formula: the terms are an entire
function of k, and a path shifted by :math:`i\eta` costs a factor
:math:`e^{\eta^2/(2 w^2)}` with :math:`1/w^2 = -\ell''`, since
:math:`|\Gamma(k+1)/\Gamma(k+1+i\eta)|^2 = \prod_{n \ge 1} (1 + \eta^2/(k+n)^2)`. With
:math:`\eta = 2\pi w^2/h` the relative error is :math:`2 e^{-2\pi^2 w^2/h^2}`, below
:math:`10^{-16}` for :math:`h \le 2w/3` as long as w hardly changes over the window, which is asked
for. The number of terms is therefore bounded, whatever the peak.
"""

import math

import torch
from torch import Tensor

__all__ = ["log_count_density"]

_NEWTON = 60
_DROP = 40.0  # nats below the largest term at which the sum ends
_EXACT = 16  # below it ln k! is taken from lgamma, above it from Stirling's series
_ELEMENTS = 1 << 18  # of a block of terms
_NONE = -1e30  # logarithm of a term that is not there; -inf would give NaN in gradients


def log_count_density(read: Tensor, rate: Tensor, std: float) -> Tensor:
    """Compute ln sum_k Poisson(k; rate) N(read; k, std^2) of each entry.

    Args:
        read: Counts with read noise, float64.
        rate: Mean counts, above 0, of a shape that broadcasts with that of ``read``, float64.
        std: Standard deviation of the read noise in counts, above 0.

    Returns:
        Log-densities in nats, float64. They can be differentiated in both tensors.

    Example:
        >>> import torch
        >>> read, rate = (torch.tensor([v], dtype=torch.float64) for v in (1.3, 2.0))
        >>> k = torch.arange(60, dtype=torch.float64)
        >>> count = torch.distributions.Poisson(rate).log_prob(k)
        >>> expected = (count + torch.distributions.Normal(k, 0.5).log_prob(read)).logsumexp(0)
        >>> torch.allclose(log_count_density(read, rate, 0.5), expected)
        True
    """
    with torch.no_grad():
        middle = _likeliest(rate, read, std**2).round()
        reach = _reach(middle, std)
        width = (1 / std**2 + 1 / (middle + 1)).rsqrt()
        smooth = middle > 2 * reach
        step = torch.where(smooth, (2 / 3 * width).floor(), 1.0).clamp_min(1)
        half = int((reach / step).max().ceil()) + 1 if middle.numel() else 0
    log_rate = rate.log()
    total: Tensor | None = None
    together = max(1, _ELEMENTS // max(1, middle.numel()))
    for first in range(-half, half + 1, together):
        last = min(first + together, half + 1)
        offset = torch.arange(first, last, dtype=read.dtype, device=read.device)
        k = middle + offset.reshape(-1, *[1] * middle.ndim) * step
        error = ((read - k) / std).square()
        terms = torch.where(
            k >= 0, _log_poisson(k.clamp_min(0), rate, log_rate) - 0.5 * error, _NONE
        )
        block = terms.logsumexp(0)
        total = block if total is None else torch.logaddexp(total, block)
    assert total is not None
    return total + step.log() - math.log(std * math.sqrt(2 * math.pi))


def _likeliest(rate: Tensor, read: Tensor, variance: float) -> Tensor:
    """Solve ln k + (k - read) / variance = ln rate: the likeliest number of photons, to within one.

    Newton's method runs in ln k, where the left-hand side is increasing and convex: started above
    the root it descends to it.
    """
    log_k = torch.maximum(rate, read).log()
    for _ in range(_NEWTON):
        k = log_k.exp()
        log_k = log_k - (log_k - rate.log() + (k - read) / variance) / (1 + k / variance)
    return log_k.exp()


def _reach(middle: Tensor, std: float) -> Tensor:
    """A distance d from the largest term at which the terms have dropped by 40 nats.

    Each half of the bound alone gives a distance that suffices.
    """
    third = _DROP / 3
    poisson = third + (third**2 + 2 * _DROP * (middle + 1)).sqrt()
    return poisson.clamp_max(math.sqrt(2 * _DROP) * std) + 1


def _log_poisson(k: Tensor, rate: Tensor, log_rate: Tensor) -> Tensor:
    """Ln Poisson(k; rate) for whole k >= 0, without the cancellation of large terms (Loader 2000).

    k ln(k / rate) + rate - k is rate ((1 + e) ln(1 + e) - e) with e = k / rate - 1.
    """
    few = k.clamp_max(_EXACT)
    exact = few * log_rate - rate - torch.lgamma(few + 1)
    many = k.clamp_min(_EXACT)
    e = (many - rate) / rate
    distance = rate * ((1 + e) * torch.log1p(e) - e)
    square = 1 / many**2
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / many
    stirling = -distance - 0.5 * (2 * math.pi * many).log() - series
    return torch.where(k < _EXACT, exact, stirling)
