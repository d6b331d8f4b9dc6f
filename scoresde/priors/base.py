r"""Priors, defined by their denoisers.

Given :math:`x_t = \alpha_t x_0 + \sigma_t \varepsilon`, a :class:`Prior` computes
:math:`\hat x_0 = E[x_0 | x_t]`. The score follows by Tweedie's formula (Robbins 1956; Efron 2011),

.. math:: \nabla \log p_t(x_t) = (\alpha_t \hat x_0 - x_t) / \sigma_t^2 .
"""

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from problems.linalg.broadcast import expand_like
from problems.linalg.precision import HALVES
from scoresde.sde import SDE

__all__ = ["CountingPrior", "Prior", "Wrapper"]

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Prior(nn.Module, ABC):
    """Base class of priors p(x_0), known through their denoiser E[x_0 | x_t].

    A subclass implements ``_denoise(x_t, t)`` for x_t of shape (B, ...) and t of shape (B,).
    ``denoise`` and ``score`` check their arguments before they call it. They compute in float32 at
    least, whatever the dtype of x_t. Times on a GPU are not checked, because that would wait for
    it; samplers look at their draws instead.

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
    _lowest: torch.dtype = torch.float32  # precision in which it computes for a lower one

    def __init__(self, sde: SDE, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.sde, self.shape = sde, tuple(shape)

    @abstractmethod
    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t] for x_t (B, ...) and t (B,)."""

    @property
    def _needs_signal(self) -> bool:
        """Whether ``_denoise`` divides by alpha(t)."""
        return False

    @property
    def _needs_noise(self) -> bool:
        """Whether ``_denoise`` exists only where sigma(t) > 0."""
        return False

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shape of the prior; for a prior of images (C, H, W) also with any other H
            and W.
        """
        if len(self.shape) == 3:
            return len(shape) == 3 and shape[0] == self.shape[0] and min(shape) > 0
        return tuple(shape) == self.shape

    def check_shape(self, shape: tuple[int, ...], what: str = "x_t") -> None:
        """Check that samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.
            what: What has the shape, as the message says it.

        Raises:
            ValueError: If the prior does not accept the shape; the message names both shapes.
        """
        if self.accepts(tuple(shape)):
            return
        axes = _AXES.get(len(self.shape) - 1, ())
        sized = bool(axes) and self.accepts((self.shape[0], *(1 << 14 for _ in axes)))
        sides = ", ".join(f"any {axis}" for axis in axes)
        wanted = f"({self.shape[0]}, {sides})" if sized else str(self.shape)
        raise ValueError(
            f"this prior has samples of shape {wanted}, {what} has {tuple(shape)} without its batch"
        )

    def _checked(
        self, x_t: Tensor, t: Tensor | float, noise: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Check the arguments of the denoiser; return x_t in float32 or more, and t as a tensor."""
        if not isinstance(x_t, Tensor) or not x_t.is_floating_point():
            found = x_t.dtype if isinstance(x_t, Tensor) else type(x_t).__name__
            raise ValueError(
                f"a prior works on real floating-point tensors, got {found}; convert pictures to "
                "floating point on [-1, 1]"
            )
        self.check_shape(tuple(x_t.shape[1:]))
        if isinstance(t, Tensor) and tuple(t.shape) not in ((), (1,), (len(x_t),)):
            raise ValueError(
                f"the time is a number or one for each of the {len(x_t)} samples, got shape "
                f"{tuple(t.shape)}"
            )
        x = x_t.to(self._lowest) if x_t.dtype in HALVES else x_t
        self.sde.check_time(
            t, signal=self._needs_signal, noise=noise or self._needs_noise, dtype=x.dtype
        )
        return x, torch.as_tensor(t, dtype=x.dtype, device=x.device)

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        try:
            return self._denoise(x, t.expand(len(x)))
        except RuntimeError as error:
            # looked for only now, because finding the first weight takes longer than a small prior
            home = next(self._tensors(), x).device
            if x.device == home:
                raise
            raise ValueError(
                f"x_t is on {x.device}, the prior on {home}; move one of them with .to()"
            ) from error

    def denoise(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Compute the posterior mean E[x_0 | x_t].

        Args:
            x_t: Noisy samples, shape (B, ...).
            t: Time, a number, shape () or (B,), in the time of ``sde``. It is converted to the
                dtype of x_t, or to float32 if that is a lower precision.

        Returns:
            Denoised samples, shape and dtype of x_t.

        Raises:
            ValueError: If x_t is not a floating-point batch of samples of this prior, or a time
                lies outside of ``sde.domain`` or where no signal is left that the denoiser needs.
        """
        x, t = self._checked(x_t, t)
        return self._evaluate(x, t).to(x_t.dtype)

    def score(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Compute the score, the gradient of log p_t(x_t), by Tweedie's formula.

        Args:
            x_t: Noisy samples, shape (B, ...).
            t: Time, a number, shape () or (B,), in the time of ``sde``. It is converted to the
                dtype of x_t, or to float32 if that is a lower precision.

        Returns:
            Score, shape and dtype of x_t.

        Raises:
            ValueError: As ``denoise``, and if there is no noise at the time.
        """
        x, t = self._checked(x_t, t, noise=True)
        alpha_t, sigma_t = expand_like(self.sde.alpha(t), x), expand_like(self.sde.sigma(t), x)
        D = self._evaluate(x, t)
        return ((alpha_t * D - x) / sigma_t**2).to(x_t.dtype)

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

    def _tensors(self) -> Iterator[Tensor]:
        return itertools.chain(self.parameters(), self.buffers())

    @property
    def device(self) -> torch.device:
        """Device of the parameters and buffers; the CPU if there are none."""
        return next((v.device for v in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the samples that this prior is made for; samplers run in it.

        It is float32 for a prior whose parameters have a lower precision: noise levels and states
        would be too coarse in it.
        """
        found = next((v.dtype for v in self._tensors() if v.is_floating_point()), torch.float32)
        return torch.promote_types(found, torch.float32)


class Wrapper(Prior):
    """Base class of priors made from another prior, with the same SDE and precision.

    Args:
        prior: Prior to wrap.
        shape: Shape of one sample; None for that of ``prior``.
    """

    prior: Prior

    def __init__(self, prior: Prior, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(prior.sde, prior.shape if shape is None else shape)
        self.prior, self.cost, self._lowest = prior, prior.cost, prior._lowest

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the wrapped prior."""
        return self.prior.dtype

    @property
    def _needs_signal(self) -> bool:
        return self.prior._needs_signal

    @property
    def _needs_noise(self) -> bool:
        return self.prior._needs_noise

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shapes that the wrapped prior accepts.
        """
        return self.prior.accepts(shape)

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
