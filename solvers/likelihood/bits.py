r"""Bits per dimension of 8-bit images by uniform dequantisation (Theis et al. 2016).

A grey level q out of L in a data range [lo, hi] has a bin of width :math:`w = (hi - lo)/L`. With
:math:`x_u = lo + w (q + u)`, :math:`u \sim U[0, 1)^d`, Jensen's inequality gives

.. math:: -\tfrac1d \log_2 P(q) = -\tfrac1d \log_2 \left( w^d\, E_u\, p(x_u) \right)
          \le -\tfrac{1}{d \ln 2} E_u \ln p(x_u) - \log_2 w .

With k samples there is a tighter bound, :math:`\ln \tfrac1k \sum_i p(x_{u_i})` in place of the mean
of the logarithms (Burda et al. 2016).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.likelihood.exact import log_likelihood
from solvers.likelihood.settings import levels_end
from solvers.streams import spawn

__all__ = ["BitsPerDim", "bits_per_dim"]


@dataclass(frozen=True)
class BitsPerDim:
    """Result of `bits_per_dim` for a batch of B images.

    Args:
        value: Bits per dimension of each image, (B,), float64; an upper bound on average.
        std_error: Standard error of value, (B,). For k > 1 it covers the random probes and the
            dequantisation; for k = 1 only the probes, because one sample has no scatter.
        nfe: Network evaluations for each image.
        vjps: Vector-Jacobian products with a network for each image.
        seconds: Wall time of the call.
        end: Noise-to-signal ratio at which the density was evaluated; 0 for that of the data.
    """

    value: Tensor
    std_error: Tensor
    nfe: int
    vjps: int
    seconds: float
    end: float

    @property
    def mean(self) -> float:
        """Mean of the values over the images."""
        return float(self.value.mean())

    @property
    def mean_std_error(self) -> float:
        """Standard error of the mean as an estimate for the distribution of the images.

        It comes from the scatter of the values, which includes all sources of noise. For a single
        image it is the standard error of its value.
        """
        return (
            float(self.value.std() / math.sqrt(len(self.value)))
            if len(self.value) > 1
            else float(self.std_error.mean())
        )


def bits_per_dim(
    prior: Prior,
    x: Tensor,
    *,
    levels: int = 256,
    data_range: tuple[float, float] = (-1.0, 1.0),
    k: int = 1,
    importance: bool = False,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    **settings: Any,
) -> BitsPerDim:
    r"""Estimate an upper bound on the bits per dimension of quantised images.

    The density of dequantised data has edges, so it cannot be continued to zero noise. Noise of
    standard deviation s blurs the edges of a bin of width w, which costs up to 0.96 s / w nats per
    dimension (:math:`2 \int_0^\infty -\ln\Phi`).

    Args:
        prior: Prior on images.
        x: Images, (B, *shape): integer grey levels 0..levels - 1, or floating point on the grid
            lo + (hi - lo) q / (levels - 1).
        levels: Number of grey levels, at least 2.
        data_range: Range (lo, hi) of the images that the prior was made for.
        k: Number of dequantisation samples for each image, at least 1.
        importance: Whether to compute the tighter bound of k samples. The noise of random probes
            would bias it by half their variance, which is subtracted; above a standard error of
            one nat that is unreliable, and a warning says so.
        generator: Source of the dequantisation and the probes: one generator, from which one is
            derived for each image, or a sequence of B generators, each of which alone decides the
            value of its image. None for torch's global generator.
        **settings: Further settings of `log_likelihood`. If end is missing or None, it is 1e-4 w
            (or the smallest noise of the prior, if that is less) for networks that resolve the
            edges at any noise, with Fourier features as fine as the levels and trained down to a
            noise of 0.02 w; "t_min" for other priors.

    Returns:
        Bits per dimension of each image, with standard errors.

    Raises:
        ValueError: If k, levels or data_range is invalid, x is not finite, not in the range or not
            on the grid of grey levels, or `log_likelihood` refuses its arguments.

    Example:
        For a nearly flat density the value is close to log2 of the number of levels.

        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import bits_per_dim
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), 0.25 * torch.eye(4))
        >>> x = torch.tensor([[[[100, 120], [130, 150]]]], dtype=torch.uint8)
        >>> bits = bits_per_dim(prior, x, nodes=8, generator=torch.Generator().manual_seed(0))
        >>> round(bits.mean, 1)
        7.4
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    q = _levels(x, levels, data_range).double()
    low, width = data_range[0], (data_range[1] - data_range[0]) / levels
    # two generators for each image: one for its dequantisation, one for its probes
    streams = [spawn(g, 2) for g in spawn(generator, len(q))]
    u = torch.stack(
        [
            torch.rand((k, *q.shape[1:]), generator=g, dtype=torch.float64, device=g.device)
            for g, _ in streams
        ]
    )
    probing = [one for _, g in streams for one in spawn(g, k)]
    if settings.get("end") is None:
        settings["end"] = levels_end(prior, width)
    x_u = (low + width * (q[:, None] + u.to(q.device))).flatten(0, 1)
    ll = log_likelihood(prior, x_u.to(prior.dtype), generator=probing, **settings)
    value, error = ll.value.reshape(-1, k), ll.std_error.reshape(-1, k)
    if importance:
        if float(error.max()) > 1:
            warnings.warn(
                f"the standard error of ln p is {float(error.max()):.1f} nats, too large for an "
                "importance bound: use the exact trace or more probes and nodes",
                stacklevel=2,
            )
        # averaging the variance over the k samples errs towards a looser bound; subtracting from
        # each sample its own, with noisy weights, would err towards a bound that is too good
        nats = value.logsumexp(1) - math.log(k) - error.square().mean(1) / 2
        # variance of a mean of densities, relative to the squared mean
        scatter = (value.softmax(1) - 1 / k).square().sum(1) * k / max(1, k - 1)
        variance = scatter if k > 1 else error[:, 0].square()
    else:
        nats = value.mean(1)
        variance = error.square().sum(1) / k**2 if k == 1 else value.var(1) / k
    unit = q[0].numel() * math.log(2)
    bits, error = -nats / unit - math.log2(width), variance.sqrt() / unit
    return BitsPerDim(
        value=bits,
        std_error=error,
        nfe=k * ll.nfe,
        vjps=k * ll.vjps,
        seconds=ll.seconds,
        end=0.0 if settings["end"] == "data" else float(ll.s[0]),
    )


def _levels(x: Tensor, levels: int, data_range: tuple[float, float]) -> Tensor:
    """The grey level of each pixel, 0..levels - 1."""
    low, high = data_range
    if not low < high or levels < 2:
        raise ValueError(
            "bits per dimension need a data range low < high and at least 2 levels, "
            f"got {data_range} and {levels}"
        )
    if x.is_floating_point():
        if not bool(torch.isfinite(x).all()):
            raise ValueError("x holds NaN or infinite values")
        scaled = (x.double() - low) / (high - low) * (levels - 1)
        q = scaled.round()
        if bool((q < 0).any() or (q >= levels).any()):
            raise ValueError(f"x has values outside the data range {data_range}")
        if bool(((scaled - q).abs() > 0.05).any()):
            raise ValueError(
                f"x is not on the grid of {levels} levels in {data_range}; "
                "round the images to the grey levels, or use log_likelihood"
            )
    else:
        q = x.long()
        if bool((q < 0).any() or (q >= levels).any()):
            raise ValueError(f"x has values outside the grey levels 0..{levels - 1}")
    return q
