r"""Priors, defined by their denoisers.

Given :math:`x_t = \alpha_t x_0 + \sigma_t \varepsilon`, a :class:`Prior` computes
:math:`\hat x_0 = E[x_0 | x_t]`. The score follows by Tweedie's formula (Robbins 1956; Efron 2011),

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
    """Base class of priors p(x_0), known through their denoiser E[x_0 | x_t].

    A subclass implements ``_denoise(x_t, t)`` for x_t of shape (B, ...) and t of shape (B,).

    Args:
        sde: Forward process, whose time ``denoise`` and ``score`` take.
        shape: Shape of one sample, without the batch axis. For an image prior that takes any size
            it is the size of the training images.

    Attributes:
        cost: Network evaluations per call of the denoiser.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, Prior
        >>> class StandardNormal(Prior):
        ...     def _denoise(self, x_t, t):
        ...         return x_t / (1 + t[:, None] ** 2)
        >>> prior = StandardNormal(EDMSDE(), shape=(2,))
        >>> x_t = torch.tensor([[2.0, -4.0]])
        >>> prior.denoise(x_t, 1.0), prior.score(x_t, 1.0)
        (tensor([[ 1., -2.]]), tensor([[-1.,  2.]]))
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
        """Compute the posterior mean E[x_0 | x_t].

        Args:
            x_t: Noisy samples, shape (B, ...).
            t: Time, a number, shape () or (B,), in the time of ``sde``. It is converted to the
                dtype of x_t.

        Returns:
            Denoised samples, shape and dtype of x_t.
        """
        t = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device)
        return self._denoise(x_t, t.expand(len(x_t)))

    def score(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Compute the score, the gradient of log p_t(x_t), by Tweedie's formula.

        Args:
            x_t: Noisy samples, shape (B, ...).
            t: Time, a number, shape () or (B,), in the time of ``sde``. It is converted to the
                dtype of x_t.

        Returns:
            Score, shape and dtype of x_t.
        """
        t = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device)
        alpha_t, sigma_t = expand_like(self.sde.alpha(t), x_t), expand_like(self.sde.sigma(t), x_t)
        return (alpha_t * self.denoise(x_t, t) - x_t) / sigma_t**2

    def forward(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Compute the posterior mean E[x_0 | x_t], as :meth:`denoise`.

        Args:
            x_t: Noisy samples, shape (B, ...).
            t: Time, a number, shape () or (B,), in the time of ``sde``.

        Returns:
            Denoised samples, shape and dtype of x_t.
        """
        return self.denoise(x_t, t)

    def with_sde(self, sde: SDE) -> Self:
        """Change the forward process.

        Args:
            sde: New forward process.

        Returns:
            A prior of the same law whose time is that of ``sde``. It shares the parameters; this
            prior is not changed.
        """
        other = self._twin()
        other.sde = sde
        return other

    def precise(self) -> "Prior":
        """Compute in full precision wherever a lower one was an automatic choice.

        Likelihoods use it: they add up small errors of the denoiser over all pixels and noise
        levels. A lower precision that was asked for by name is kept.

        Returns:
            A prior of the same law that shares the parameters, or this one.
        """
        return self

    def _twin(self) -> Self:
        """A copy that shares the parameters, whose attributes can be changed."""
        other = copy.copy(self)
        other._modules, other._buffers = dict(self._modules), dict(self._buffers)
        return other

    def nesting(self) -> list["Prior"]:
        """List this prior and all priors that it wraps.

        Returns:
            The priors from the outermost to the innermost.
        """
        return [self]

    @property
    def device(self) -> torch.device:
        """Device of the parameters and buffers; the CPU if there are none."""
        return next((v.device for v in [*self.parameters(), *self.buffers()]), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the samples that this prior is made for; samplers run in it."""
        return next(
            (v.dtype for v in [*self.parameters(), *self.buffers()] if v.is_floating_point()),
            torch.float32,
        )


class Wrapper(Prior):
    """Base class of priors made from another prior, with the same SDE and precision.

    Args:
        prior: Prior to wrap.
        shape: Shape of one sample; None for that of ``prior``.
    """

    prior: Prior

    def __init__(self, prior: Prior, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(prior.sde, prior.shape if shape is None else shape)
        self.prior, self.cost = prior, prior.cost

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the wrapped prior."""
        return self.prior.dtype

    def nesting(self) -> list[Prior]:
        """List this prior and all priors that it wraps.

        Returns:
            The priors from the outermost to the innermost.
        """
        return [self, *self.prior.nesting()]

    def with_sde(self, sde: SDE) -> Self:
        """Change the forward process of this prior and of the wrapped one.

        Args:
            sde: New forward process.

        Returns:
            A prior of the same law whose time is that of ``sde``; this prior is not changed.
        """
        other = super().with_sde(sde)
        other.prior = self.prior.with_sde(sde)  # both must have the same time variable
        return other

    def precise(self) -> Prior:
        """Compute in full precision wherever a lower one was an automatic choice.

        Returns:
            This prior around ``prior.precise()``, or this one if that makes no difference.
        """
        inner = self.prior.precise()
        if inner is self.prior:
            return self
        other = self._twin()
        other.prior = inner
        return other

    def _inner(self, x_t: Tensor, t: Tensor, recompute: bool) -> Tensor:
        """Evaluate the denoiser of ``prior``.

        With ``recompute`` it is evaluated again in the backward pass, and activations are not kept
        (Chen et al. 2016).
        """
        if recompute and torch.is_grad_enabled() and x_t.requires_grad:
            D: Tensor = checkpoint(self.prior._denoise, x_t, t, use_reentrant=False)
            return D
        return self.prior._denoise(x_t, t)


class CountingPrior(Wrapper):
    """Prior that counts the evaluations of its network.

    Each call of the denoiser on a batch counts as ``cost`` evaluations. Copies made by ``with_sde``
    share the counter.

    Args:
        prior: Prior to count.

    Example:
        >>> import torch
        >>> from scoresde import CountingPrior, GaussianPrior
        >>> prior = CountingPrior(GaussianPrior(torch.zeros(2), torch.eye(2)))
        >>> _ = prior.denoise(torch.ones(5, 2), 0.5)
        >>> _ = prior.score(torch.ones(5, 2), 0.5)
        >>> prior.nfe
        2
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior)
        self._count = [0]

    @property
    def nfe(self) -> int:
        """Number of network evaluations so far; it can be set, as to 0."""
        return self._count[0]

    @nfe.setter
    def nfe(self, value: int) -> None:
        self._count[0] = value

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.nfe += self.cost
        return self.prior._denoise(x_t, t)
