r"""A prior is anything that can denoise.

Given :math:`x_t = \alpha_t x_0 + \sigma_t \varepsilon` a :class:`Prior` answers :math:`\hat x_0 = E[x_0 | x_t]`. The score
follows by Tweedie's formula (Robbins 1956; Efron 2011),

.. math:: \nabla \log p_t(x_t) = (\alpha_t \hat x_0 - x_t) / \sigma_t^2 .
"""

import copy
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from problems.linalg.broadcast import expand_like
from scoresde.sde import SDE

__all__ = ["CountingPrior", "Prior", "Wrapper"]


class Prior(nn.Module, ABC):
    """p(x_0), known through its denoiser.

    sde: the forward process whose times ``denoise`` and ``score`` speak. shape: of one sample, without batch; an image prior
    that takes any size states the size it was trained on. cost: evaluations of a network in one of the denoiser.
    """

    sde: SDE
    shape: tuple[int, ...]
    cost: int = 1

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
        other._modules, other._buffers = dict(self._modules), dict(self._buffers)
        other.sde = sde
        return other

    def nesting(self) -> list["Prior"]:
        """This prior and all that it wraps, from the outside in."""
        return [self]

    @property
    def device(self) -> torch.device:
        return next((v.device for v in [*self.parameters(), *self.buffers()]), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the samples that this prior is made for."""
        return next(
            (v.dtype for v in [*self.parameters(), *self.buffers()] if v.is_floating_point()),
            torch.float32,
        )


class Wrapper(Prior):
    """A prior made of another one, of the same SDE and precision. shape: of one sample, if not that of ``prior``."""

    prior: Prior

    def __init__(self, prior: Prior, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(prior.sde, prior.shape if shape is None else shape)
        self.prior, self.cost = prior, prior.cost

    @property
    def dtype(self) -> torch.dtype:
        return self.prior.dtype

    def nesting(self) -> list[Prior]:
        return [self, *self.prior.nesting()]

    def with_sde(self, sde: SDE) -> Self:
        other = super().with_sde(sde)
        other.prior = self.prior.with_sde(sde)  # both must have the same time
        return other

    def _inner(self, x_t: Tensor, t: Tensor, recompute: bool) -> Tensor:
        """The denoiser of ``prior``; recompute: evaluate again in the backward pass instead of keeping activations (Chen et al. 2016)."""
        if recompute and torch.is_grad_enabled() and x_t.requires_grad:
            return checkpoint(self.prior._denoise, x_t, t, use_reentrant=False)
        return self.prior._denoise(x_t, t)


class CountingPrior(Wrapper):
    """A prior that counts: ``nfe`` evaluations of the network, ``cost`` for each call on a batch, those of ``with_sde`` too."""

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior)
        self._count = [0]

    @property
    def nfe(self) -> int:
        return self._count[0]

    @nfe.setter
    def nfe(self, value: int) -> None:
        self._count[0] = value

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.nfe += self.cost
        return self.prior._denoise(x_t, t)
