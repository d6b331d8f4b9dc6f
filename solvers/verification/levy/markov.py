"""The exact denoiser of sums of increments, as a prior for every solver."""

from typing import Any

import torch
from torch import Tensor

from scoresde.sde import EDMSDE, SDE
from solvers.verification.levy.denoiser import SignalDenoiser
from solvers.verification.levy.signals import LevyProcess
from solvers.verification.levy.smoother import smooth

__all__ = ["MarkovDenoiser"]


class _Mean(torch.autograd.Function):
    """Posterior mean whose backward pass is a tangent: its Jacobian is symmetric."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, process: LevyProcess, s: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.process, ctx.s = process, s
        return smooth(process, z, s).mean

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        (z,) = ctx.saved_tensors
        return smooth(ctx.process, z, ctx.s, grads[0]).tangent, None, None


class MarkovDenoiser(SignalDenoiser):
    """Prior of signals that are sums of independent increments, by forward-backward recursion.

    The denoiser is deterministic and exact up to the lattice, some 1e-4 of a standard deviation.
    It computes in float64, on the CPU, and has first derivatives. One evaluation of a batch costs
    as much as a small network.

    Args:
        process: Law of the signals.
        sde: Forward process; None for ``EDMSDE()``.

    Raises:
        ValueError: If the signals are white.

    Example:
        >>> from solvers.verification.levy import levy_process
        >>> prior = MarkovDenoiser(levy_process("bernoulli-laplace", 16))
        >>> x = prior.process.sample(1, torch.Generator().manual_seed(0))
        >>> prior.denoise(x, 0.5).shape
        torch.Size([1, 16])
    """

    def __init__(self, process: LevyProcess, sde: SDE | None = None) -> None:
        if not process.summed:
            raise ValueError(
                "MarkovDenoiser is for sums of increments; WhiteDenoiser is for white signals"
            )
        super().__init__(sde or EDMSDE(), (process.length,))
        self.process = process

    def _mean(self, u: Tensor, s: float) -> Tensor:
        mean: Tensor = _Mean.apply(u, self.process, s)  # type: ignore[no-untyped-call]
        return mean

    def variance(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Compute the variances of x_0 given x_t.

        Args:
            x_t: Noisy samples, (B, n).
            t: Time, a number, with noise.

        Returns:
            Posterior variances, (B, n), float64.

        Raises:
            ValueError: As ``denoise``, and if there is no noise at the time.
        """
        x, time = self._checked(x_t, t, noise=True)
        u, levels = self._levels(x, time.expand(len(x)))
        return torch.cat(
            [
                smooth(self.process, one[None], float(s)).variance
                for one, s in zip(u, levels, strict=True)
            ]
        )
