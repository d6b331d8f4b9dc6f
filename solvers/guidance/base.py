r"""Guidance: a prior and a measurement become a prior again.

By Bayes' rule the score of :math:`p(x_t | y)` is the prior's plus :math:`\nabla_{x_t} \log p(y | x_t)`; by Tweedie's formula its
denoiser is

.. math:: E[x_0 | x_t, y] = D(x_t) + \frac{\sigma_t^2}{\alpha_t} \nabla_{x_t} \log p(y | x_t).

The likelihood of :math:`x_t` is what nobody knows; each method here is one approximation of it. All work in
:math:`u = x_t/\alpha_t,\ s = \sigma_t/\alpha_t`, where the shift is :math:`s^2 \nabla_u \log p(y|u)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior, Wrapper
from solvers.capabilities import Exactness, check_capabilities
from solvers.presets import Registered

__all__ = ["Guidance", "GuidedPrior", "Products"]

Products = Callable[[Tensor], Tensor]
"""v (B, ...) -> J^T v, with J = dD/du at the current point."""


class Guidance(Registered, ABC):
    """Turns (prior, problem, y) into a :class:`GuidedPrior`."""

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp"})

    def condition(self, prior: Prior, problem: InverseProblem, y: Tensor) -> "GuidedPrior":
        """A prior whose denoiser approximates E[x_0 | x_t, y]. y: (1, ...), or (B, ...) for batches of a multiple of B."""
        check_capabilities(self, problem)
        return GuidedPrior(self, prior, problem, y)

    @abstractmethod
    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        """s^2 grad_u log p(y | u), the shape of x0_hat. s: (B,); y: (B, ...)."""


class GuidedPrior(Wrapper):
    """p(x_0 | y), as a guidance method approximates it. vjps: products with the network's Jacobian so far, one per batch."""

    y: Tensor

    def __init__(
        self, guidance: Guidance, prior: Prior, problem: InverseProblem, y: Tensor
    ) -> None:
        super().__init__(prior, problem.input_shape(y))
        self.guidance, self.problem = guidance, problem
        self.register_buffer(
            "y", problem.operator.mask_unobserved(y).to(prior.device), persistent=False
        )
        self.vjps = 0

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        repeats, rest = divmod(len(x_t), len(self.y))
        if rest:
            raise ValueError(
                f"{len(x_t)} samples for {len(self.y)} measurements: the first must be a multiple of the second"
            )
        y = self.y.to(x_t.dtype).repeat(repeats, *[1] * (self.y.ndim - 1))
        outer = (
            torch.is_grad_enabled() and x_t.requires_grad
        )  # keep the graph only for a caller who differentiates through us
        with torch.enable_grad():
            u = x_t / expand_like(self.sde.alpha(t), x_t)
            u = u if outer else u.detach().requires_grad_()
            D = self.prior._denoise(u * expand_like(self.sde.alpha(t), x_t), t)

            def vjp(v: Tensor) -> Tensor:
                self.vjps += 1
                return torch.autograd.grad(D, u, v, retain_graph=True, create_graph=outer)[0]

            x0_hat = D if outer else D.detach()
            with torch.set_grad_enabled(outer):
                return x0_hat + self.guidance.shift(
                    x0_hat, vjp, self.sde.noise_to_signal(t), self.problem, y
                )
