r"""The same slope by the denoiser itself, where y = x + n in the observed pixels.

The variance :math:`v_i` of n depends on the light of the pixel, and a denoiser is made for one
level. White noise of variance :math:`\sigma^2 - v_i` is added, with
:math:`\sigma^2 = \max v_i`, so that the result z has noise of the one level :math:`\sigma` if v is
right. By Tweedie's formulas, with the denoiser D at that level,

.. math:: E[(z - x)_i^2 | z] = (z - D)_i^2 + \sigma^2 \frac{\partial D_i}{\partial z_i},

and the slope of :math:`\ln p(z | g, s)` is
:math:`S_k = \sum_i \partial_k v_i (E[(z - x)_i^2 | z] - \sigma^2) / 2 \sigma^4`. The diagonal of
the Jacobian comes from random signs. Several z of one y are averaged: the added noise hides what
dark pixels say of v, less so the more there are. The light in v is that of y denoised once.

Missing pixels are filled with draws of a solver and noise of level :math:`\sigma`. The information
M comes from differences of S beside. The variance of S over measurements is M for one z (the
information of a likelihood), plus that of the fourth cumulant of counts. Of several z the part
that differs between them is divided by their number. No estimate is better than that of a known
picture of at least one photon in each pixel, which bounds the variance from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from problems import Denoising, Inpainting, InverseProblem, Noise
from scoresde.estimation.photon_sources import FAINTEST, PhotonEquations, PhotonSource, informed
from scoresde.priors.base import Prior
from solvers import PosteriorSampler
from solvers.jacobian import Linearisation
from solvers.posterior.second_order import linearised_denoiser
from solvers.samplers.grid import time_at

__all__ = ["PhotonDenoiser"]

_COPIES = 4  # noisier measurements z of one y
_PROBES = 2  # of each, whose difference tells their error
_AT_ONCE = 1 << 20  # numbers that the denoiser is given at once
_STEP = 0.1  # of ln g and ln s, for the slope of S


class PhotonDenoiser(PhotonSource):
    """The denoiser at the noise level of the brightest pixel, of Denoising or Inpainting.

    The solver draws the missing pixels.
    """

    name, measured = "denoiser", True

    def __init__(
        self,
        problem: InverseProblem,
        noise: Callable[[float, float], Noise],
        y: Tensor,
        prior: Prior,
        counted: Tensor,
        solver: PosteriorSampler,
        draws: int,
        seed: int,
    ) -> None:
        super().__init__(problem, noise, y, prior, counted, solver, draws, seed)
        self.seen = problem.operator.observed(y).expand_as(y)
        n = _COPIES if bool(self.seen.all()) else max(draws, _COPIES)
        g = torch.Generator().manual_seed(seed)
        self.white = torch.randn(n, *y.shape[1:], generator=g).to(y)
        self.probes = [
            (torch.randint(0, 2, self.white.shape, generator=g) * 2 - 1).to(y)
            for _ in range(_PROBES)
        ]

    @staticmethod
    def fits(problem: InverseProblem) -> bool:
        """Tell whether the measurement is a picture.

        Args:
            problem: Operator.

        Returns:
            Whether the denoiser suffices.
        """
        return isinstance(problem.operator, Denoising | Inpainting)

    def at(self, gain: float, read: float, both: bool) -> PhotonEquations:
        """Evaluate the denoiser at these values, and beside them for the information."""
        filling = self._filling(gain, read)
        light = self._light(filling, gain, read)
        each, d, fourth, share = self._slopes(filling, light, gain, read, both)
        slopes = each.mean(1)  # (n, k)
        columns = []
        for i in range(1 + both):
            near = [gain * math.exp(_STEP * (i == 0)), read * math.exp(_STEP * (i == 1))]
            beside = self._slopes(filling, light, near[0], near[1], both)[0].mean(1)
            columns.append((slopes - beside).mean(0) / _STEP)
        complete, n = 0.5 * d @ d.T, len(slopes)
        information = informed(torch.stack(columns, 1), complete)
        off, odd = slopes - slopes.mean(0), (each[:, 0] - each[:, 1]) / 2
        between, of_probes = off.T @ off / (n - 1), odd.T @ odd / n
        variance = information + 0.25 * (d * fourth) @ d.T
        variance = variance + of_probes - between * (1 - 1 / n)
        known = 0.5 * (d / share**2) @ d.T  # the information of y if x were known
        least = information @ torch.linalg.solve(known, information)
        variance = informed(variance, least, 1.0, math.inf)
        return PhotonEquations(slopes.mean(0), complete, information, variance, d.shape[1])

    def _filling(self, gain: float, read: float) -> Tensor:
        """Draws of the picture (n, ...), for the missing pixels."""
        if bool(self.seen.all()):
            return self.y
        g = torch.Generator().manual_seed(self.seed)
        problem, n = self.stated(gain, read), len(self.white)
        return self.solver.sample(self.prior, problem, self.y, n, generator=g).draws[:, 0]

    def _light(self, filling: Tensor, gain: float, read: float) -> Tensor:
        """Light (y + 1) / 2 of the picture without noise, (1, ...), by the denoiser."""
        level = math.sqrt(4 * gain * 0.5 + read**2)
        z = torch.where(self.seen, self.y, filling.to(self.y).mean(0, keepdim=True))
        z = z.to(self.prior.device)
        t = time_at(self.prior, z.new_tensor(level))
        with torch.no_grad():
            x = self.prior.denoise(self.prior.sde.alpha(t) * z, t)
        return ((x.to(self.y) + 1) / 2).clamp(0, None)

    def _slopes(
        self, filling: Tensor, light: Tensor, gain: float, read: float, both: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """S of each z and probe (n, 2, k), and with sigma = 1 the slopes, cumulant and size of v.

        The slopes of v are (k, m), the fourth cumulant and v of a photon at least (m,).
        """
        v = 4 * gain * light + read**2
        variance = float(v[self.seen].max())
        level = math.sqrt(variance)
        d = (4 * gain * light / variance)[None]
        if both:
            d = torch.cat([d, torch.full_like(d, 2 * read**2 / variance)])
        d = d * self.counted
        added = torch.where(self.seen, (variance - v).clamp_min(0).sqrt(), level)
        pixels = self.y[0].numel()
        at_once = max(1, _AT_ONCE // pixels)
        slopes = []
        for some in torch.arange(len(self.white)).split(at_once):
            own = filling.to(self.y)[some] if len(filling) > 1 else filling.to(self.y)
            z = torch.where(self.seen, self.y, own) + self.white[some] * added
            slopes.append(self._slopes_of(z, [probe[some] for probe in self.probes], level, d))
        where = self.counted[0]
        fourth = 16 * light[0][where].double() * gain**3 / variance**2
        bright = light[0][where].double().clamp_min(FAINTEST * gain)
        share = (4 * gain * bright + read**2) / variance
        return torch.cat(slopes), d[:, 0, where].double(), fourth, share

    def _slopes_of(self, z: Tensor, probes: list[Tensor], level: float, d: Tensor) -> Tensor:
        """S of noisier measurements z (n, ...) by each probe, (n, 2, k)."""
        z = z.to(self.prior.device)
        at = linearised_denoiser(self.prior, z, time_at(self.prior, z.new_tensor(level)))
        square = ((z - at.value).square() / level**2).to(self.y).double()
        found = []
        for one in d:
            misfit = (one * square).flatten(1).sum(1) - one.double().sum()
            by_probe = [misfit + self._divergence(at, p, one) for p in probes]
            found.append(torch.stack(by_probe, 1) / 2)
        return torch.stack(found, 2)

    @staticmethod
    def _divergence(at: Linearisation, probe: Tensor, weight: Tensor) -> Tensor:
        """Sum of the weighted diagonal of the Jacobian by one probe, (n,)."""
        product = at.vjp((weight * probe).to(at.value)).to(probe)
        return (probe * product).double().flatten(1).sum(1)
