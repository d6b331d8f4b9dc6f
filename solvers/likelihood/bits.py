r"""Bits per dimension of 8-bit images by uniform dequantisation (Theis et al. 2016).

A grey level q of L in a data range [lo, hi] owns a bin of width :math:`w = (hi - lo)/L`. With :math:`x_u = lo + w (q + u)`,
:math:`u \sim U[0, 1)^d`, Jensen's inequality gives

.. math:: -\tfrac1d \log_2 P(q) = -\tfrac1d \log_2 \left( w^d\, E_u\, p(x_u) \right) \le -\tfrac{1}{d \ln 2} E_u \ln p(x_u) - \log_2 w ,

and k samples at once a tighter bound, :math:`\ln \tfrac1k \sum_i p(x_{u_i})` in place of the mean of the logarithms (Burda et al. 2016).
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
    """value: of each image, (B,). std_error: of each, from the probes and, for k > 1, the dequantisation, which k = 1 cannot tell. nfe,
    products: for each image. end: the noise-to-signal ratio at which the density was taken, 0 for the data."""

    value: Tensor
    std_error: Tensor
    nfe: int
    vjps: int
    seconds: float
    end: float

    @property
    def mean(self) -> float:
        return float(self.value.mean())

    @property
    def mean_std_error(self) -> float:
        """Of the mean as an estimate for all images of the kind: the scatter of the values, all sources of noise included."""
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
    r"""Bits per dimension of images x (B, *shape): uint8, or floating point on the grid lo + (hi - lo) q / (levels - 1).

    k: dequantisation samples of each image. importance: the tighter bound of k samples; the noise of random probes would make
    it too good by half its variance, which is taken off; beyond a nat that is no longer reliable, and a warning says so. generator: one
    for all, or one for each image, on which alone its value then depends. settings: of
    :func:`log_likelihood`. ``end``: the density of dequantised data is not smooth, so it cannot be continued to no noise; noise s blurs
    the edges of a level of width w, which costs up to 0.96 s / w nats in each dimension (:math:`2 \int_0^\infty -\ln\Phi`). By default s is
    1e-4 w for networks that see the edges at any noise (Fourier features as fine as the levels, training down to 0.02 w), and that at
    t_min for others.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    q = _levels(x, levels, data_range).double()
    low, width = data_range[0], (data_range[1] - data_range[0]) / levels
    streams = [
        spawn(g, 2) for g in spawn(generator, len(q))
    ]  # of each image: for its dequantisation, and for its probes
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
                f"the probes leave ln p open by {float(error.max()):.1f} nats, too much for an importance bound: "
                "use the exact trace or more probes and nodes",
                stacklevel=2,
            )
        # the mean over the k samples errs towards the looser bound, each sample's own, a noisy weight, towards a bound that is too good
        nats = value.logsumexp(1) - math.log(k) - error.square().mean(1) / 2
        scatter = (
            (value.softmax(1) - 1 / k).square().sum(1) * k / max(1, k - 1)
        )  # of a mean of densities, relative to it
        variance = scatter if k > 1 else error[:, 0].square()
    else:
        nats = value.mean(1)
        variance = error.square().sum(1) / k**2 if k == 1 else value.var(1) / k
    unit = q[0].numel() * math.log(2)
    bits, error = -nats / unit - math.log2(width), variance.sqrt() / unit
    return BitsPerDim(
        bits,
        error,
        k * ll.nfe,
        k * ll.vjps,
        ll.seconds,
        0.0 if settings["end"] == "data" else float(ll.s[0]),
    )


def _levels(x: Tensor, levels: int, data_range: tuple[float, float]) -> Tensor:
    """The grey level of each pixel, 0 .. levels - 1."""
    low, high = data_range
    if not low < high or levels < 2:
        raise ValueError(
            f"bits per dimension need a data range low < high and at least 2 levels, got {data_range} and {levels}"
        )
    if x.is_floating_point():
        if not bool(torch.isfinite(x).all()):
            raise ValueError("x holds NaN or infinite values")
        scaled = (x.double() - low) / (high - low) * (levels - 1)
        q = scaled.round()
        if bool((q < 0).any() or (q >= levels).any()):
            raise ValueError(f"x has values outside of the data range {data_range}")
        if bool(((scaled - q).abs() > 0.05).any()):
            raise ValueError(
                f"x is not on the grid of {levels} levels in {data_range}; round the images to 8 bits, or use log_likelihood"
            )
    else:
        q = x.long()
        if bool((q < 0).any() or (q >= levels).any()):
            raise ValueError(f"x has values outside of 0..{levels - 1}, the grey levels")
    return q
