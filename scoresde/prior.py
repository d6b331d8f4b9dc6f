r"""A prior is anything that can denoise.

Given :math:`x_t = \alpha_t x_0 + \sigma_t \varepsilon` a :class:`Prior` answers :math:`\hat x_0 = E[x_0 | x_t]`. The score
follows by Tweedie's formula (Robbins 1956; Efron 2011),

.. math:: \nabla \log p_t(x_t) = (\alpha_t \hat x_0 - x_t) / \sigma_t^2 .
"""

import copy
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from scoresde.sde import SDE

__all__ = ["Counted", "Prior", "ScorePrior", "expand_like"]


def expand_like(value: Tensor, x: Tensor) -> Tensor:
    """() or (B,) -> shape that broadcasts against x (B, ...)."""
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


class Prior(nn.Module, ABC):
    """p(x_0), known through its denoiser.

    sde: the forward process whose times ``denoise`` and ``score`` speak. shape: of one sample, without batch; an image prior
    that takes any size states the size it was trained on.
    """

    sde: SDE
    shape: tuple[int, ...]

    def __init__(self, sde: SDE, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.sde, self.shape = sde, tuple(shape)

    @abstractmethod
    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t] for x_t (B, ...) and t (B,)."""

    def denoise(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """E[x_0 | x_t], the shape of x_t (B, ...). t: a number, () or (B,), in the time of ``sde``."""
        t = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device)
        return self._denoise(x_t, t.expand(len(x_t)))

    def score(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """grad log p_t(x_t), the shape of x_t."""
        t = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device)
        alpha_t, sigma_t = expand_like(self.sde.alpha(t), x_t), expand_like(self.sde.sigma(t), x_t)
        return (alpha_t * self.denoise(x_t, t) - x_t) / sigma_t**2

    def forward(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        return self.denoise(x_t, t)

    def with_sde(self, sde: SDE) -> Self:
        """The same prior under another forward process; parameters are shared, this object is left as it is."""
        other = copy.copy(self)
        # a prior that wraps another takes it along, for both must tell the same time
        other._modules = {k: m.with_sde(sde) if isinstance(m, Prior) else m for k, m in self._modules.items()}
        other._buffers = dict(self._buffers)
        other.sde = sde
        return other

    @property
    def device(self) -> torch.device:
        return next((v.device for v in [*self.parameters(), *self.buffers()]), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the samples that this prior is made for."""
        return next((v.dtype for v in [*self.parameters(), *self.buffers()] if v.is_floating_point()), torch.float32)


class Counted(Prior):
    """Another prior that counts: ``nfe`` evaluations of the denoiser, one for each call on a batch."""

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior.sde, prior.shape)
        self.prior, self.nfe = prior, 0

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.nfe += 1
        return self.prior._denoise(x_t, t)


class ScorePrior(Prior):
    r"""A network with EDM preconditioning (Karras et al. 2022, table 1), under any SDE.

    With :math:`s = \sigma_t/\alpha_t` and :math:`u = x_t/\alpha_t`,

    .. math:: D(x_t, t) = c_{skip} u + c_{out} F(c_{in} u, \ln(s)/4),\quad
        c_{skip} = \frac{\sigma_d^2}{s^2+\sigma_d^2},\ c_{out} = \frac{s\,\sigma_d}{\sqrt{s^2+\sigma_d^2}},\
        c_{in} = \frac{1}{\sqrt{s^2+\sigma_d^2}} .

    network: maps (x (B, C, H, W), label (B,)) to the shape of x. sigma_data: standard deviation of the data. autocast: a lower
    precision for the network alone (bfloat16), None for full precision; the preconditioning is always in full precision.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: tuple[int, ...],
        sigma_data: float = 0.5,
        autocast: torch.dtype | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sde, shape)
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.network, self.sigma_data, self.autocast, self.card = network, float(sigma_data), autocast, dict(card or {})

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        u = x_t / expand_like(self.sde.alpha(t), x_t)
        s = self.sde.noise_to_signal(t)
        c_skip, c_out, c_in = (expand_like(c, x_t) for c in self.preconditioning(s))
        return c_skip * u + c_out * self.network_output(c_in * u, s)

    def preconditioning(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in) at the noise-to-signal ratio s."""
        norm = (s**2 + self.sigma_data**2).sqrt()
        return self.sigma_data**2 / norm**2, s * self.sigma_data / norm, 1 / norm

    def network_output(self, scaled: Tensor, s: Tensor) -> Tensor:
        """F(c_in u, ln(s)/4), in the type of its input."""
        dtype = next((p.dtype for p in self.network.parameters()), scaled.dtype)
        # None leaves an autocast of the caller (a training loop) in force
        context = nullcontext() if self.autocast is None else torch.autocast(scaled.device.type, self.autocast)
        with context:
            return self.network(scaled.to(dtype), (s.log() / 4).to(dtype)).to(scaled.dtype)
