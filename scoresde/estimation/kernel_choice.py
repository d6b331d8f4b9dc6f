"""Which kernel of a search is the answer: the one that explains the spectrum best.

EM climbs the evidence under the prior, by draws of a learned denoiser. Their second moments are not
quite those of the posterior, and on photographs EM leaves a start that is nearly right: the slope
is a small difference of large numbers. The spectrum of the measurement judges each kernel
(``SpectralEvidence``). It uses no draws, so that its errors are others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from problems import Blur
from problems.operators.convolution import Convolution
from scoresde.estimation.free_kernel import KernelEstimate, framed, spread_of

__all__ = ["BestKernel"]

_PATIENCE = 3  # rounds that explain the spectrum no better, after which a search ends


@dataclass
class BestKernel:
    """The kernel of a search that explains the spectrum best so far.

    A start of known kind, a Gaussian, a disk or a line, has one or two parameters, and a free
    kernel hundreds. It is left only if the average of the rounds explains the spectrum better. A
    start that is itself free competes with the kernel of every round.

    Args:
        evidence: Evidence of a kernel, as ``SpectralEvidence`` gives it.
        start: Kernel that the search begins with.
        side: Odd side of the kernels in pixels.

    Example:
        The best kernel here is the one with the largest middle.

        >>> import torch
        >>> best = BestKernel(lambda A: float(A.taps[0, 1, 1]), Blur(torch.ones(3, 3) / 9), 3)
        >>> sharp = torch.zeros(3, 3).double()
        >>> sharp[1, 1] = 1
        >>> best.watch(sharp)
        False
        >>> torch.equal(best.kernel, sharp)
        True
    """

    evidence: Callable[[Convolution], float]
    start: Convolution
    side: int

    def __post_init__(self) -> None:
        self.kernel = framed(self.start.taps[0].double(), self.side)
        self._highest = self.evidence(self.start)
        self._without = 0

    def watch(self, kernel: Tensor) -> bool:
        """Look at the kernel of a round.

        Args:
            kernel: Kernel (s, s).

        Returns:
            Whether to end the search, which began with a free kernel and finds no better one.
        """
        if not isinstance(self.start, Blur):
            return False
        self._without = 0 if self._take(kernel) else self._without + 1
        return self._without >= _PATIENCE

    def of(self, found: KernelEstimate) -> KernelEstimate:
        """Choose between the average over the rounds and the best kernel that was seen.

        Args:
            found: Result of the search.

        Returns:
            The result with the kernel of the larger evidence. If it is not the average, its error
            is at least the distance between the spreads of the two.
        """
        if self._take(found.kernel):
            return found
        apart = abs(spread_of(self.kernel) - found.spread)
        return replace(found, kernel=self.kernel, error=max(found.error, apart))

    def _take(self, kernel: Tensor) -> bool:
        value = self.evidence(Blur(kernel, "reflect"))
        better = value >= self._highest
        if better:
            self._highest, self.kernel = value, kernel
        return better
