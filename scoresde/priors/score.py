"""A neural network as a prior."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from scoresde.sde import SDE

__all__ = ["ScorePrior", "fourier_features"]


class ScorePrior(Prior):
    r"""A network with EDM preconditioning (Karras et al. 2022, table 1), under any SDE.

    With :math:`s = \sigma_t/\alpha_t` and :math:`u = x_t/\alpha_t`,

    .. math:: D(x_t, t) = c_{skip} u + c_{out} F(c_{in} u, \ln(s)/4),\quad
        c_{skip} = \frac{\sigma_d^2}{s^2+\sigma_d^2},\ c_{out} = \frac{s\,\sigma_d}{\sqrt{s^2+\sigma_d^2}},\
        c_{in} = \frac{1}{\sqrt{s^2+\sigma_d^2}} .

    network: maps (x (B, C, H, W), label (B,)) to the shape of x. sigma_data: standard deviation of the data. autocast: a lower
    precision for the network alone (bfloat16), None for full precision; the preconditioning is always in full precision.

    fourier: exponents n; for each the network sees 2 C more channels, :func:`fourier_features`, by which it can resolve the grey
    levels of 8-bit images. The density of dequantised images has an edge at every level, and the likelihood depends on these. An edge
    looks the same at every noise well below the width of a level, if distances are counted in the noise, as the features do. So below
    the smallest noise that the network has seen the features go on, while its label stays there.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: tuple[int, ...],
        sigma_data: float = 0.5,
        autocast: torch.dtype | None = None,
        card: dict[str, Any] | None = None,
        fourier: Sequence[int] = (),
    ) -> None:
        super().__init__(sde, shape)
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.network, self.sigma_data, self.autocast, self.card = (
            network,
            float(sigma_data),
            autocast,
            dict(card or {}),
        )
        self.fourier = tuple(fourier)
        ends = sde.noise_to_signal(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))
        self.trained = float(ends[0]), float(ends[1])

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        u = x_t / expand_like(self.sde.alpha(t), x_t)
        s = self.sde.noise_to_signal(t)
        c_skip, c_out = (expand_like(c, x_t) for c in self.preconditioning(s)[:2])
        return c_skip * u + c_out * self.network_output(u, s)

    def preconditioning(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in) at the noise-to-signal ratio s."""
        norm = (s**2 + self.sigma_data**2).sqrt()
        return self.sigma_data**2 / norm**2, s * self.sigma_data / norm, 1 / norm

    def network_output(self, u: Tensor, s: Tensor) -> Tensor:
        """F(c_in u, ln(s)/4), in the type of its input; beyond the levels of the SDE that the prior was made with, at the nearest,
        but for the features, which go on below the smallest."""
        scaled = expand_like(self.preconditioning(s)[2], u) * u
        lowest, highest = self.trained
        if self.fourier:
            scaled = torch.cat(
                [scaled, fourier_features(u, s.clamp(1e-12, highest), self.fourier)], dim=1
            )
        s = s.clamp(lowest, highest)
        dtype = next((p.dtype for p in self.network.parameters()), scaled.dtype)
        # None leaves an autocast of the caller (a training loop) in force
        context = (
            nullcontext()
            if self.autocast is None
            else torch.autocast(scaled.device.type, self.autocast)
        )
        with context:
            return self.network(scaled.to(dtype), (s.log() / 4).to(dtype)).to(scaled.dtype)


def fourier_features(u: Tensor, s: Tensor, exponents: Sequence[int]) -> Tensor:
    r"""tanh(sin(w u) / (w s)) and tanh(cos(w u) / (w s)) for w = 2^n pi, (B, C, H, W) -> (B, 2 C len(exponents), H, W).

    On [-1, 1] the 256 grey levels are 2^-7 wide, so n = 8 has their period and n = 7 twice that (Kingma et al. 2021, "Variational
    diffusion models", appendix C). Dividing by w s measures the distance to the edge of a level in standard deviations of the noise, and
    takes away what the noise has made meaningless.
    """
    omega = math.pi * 2.0 ** torch.tensor(list(exponents), dtype=u.dtype, device=u.device)
    omega = expand_like(omega, u)
    phase = u[:, None] * omega
    scale = expand_like(s, phase) * omega
    return torch.cat(
        [(phase.sin() / scale).tanh().flatten(1, 2), (phase.cos() / scale).tanh().flatten(1, 2)],
        dim=1,
    )
