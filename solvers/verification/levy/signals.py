"""Signals that are sums of independent increments, sampled Lévy processes, or the increments."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_choice, check_number
from solvers.verification.levy.increments import (
    BernoulliLaplaceIncrements,
    GaussianIncrements,
    Increments,
    LaplaceIncrements,
    StudentIncrements,
)

__all__ = ["LAWS", "LevyProcess", "levy_process"]

F64 = torch.float64

LAWS: dict[str, type[Increments]] = {
    "gaussian": GaussianIncrements,
    "laplace": LaplaceIncrements,
    "student": StudentIncrements,
    "bernoulli-laplace": BernoulliLaplaceIncrements,
}
"""Laws of the increments by name."""


@dataclass(frozen=True)
class LevyProcess:
    """Signals x_k = u_1 + ... + u_k of n independent increments of one law.

    Args:
        law: Law of the increments.
        length: Number n of samples, at least 1.
        summed: False for white signals x_k = u_k.

    Raises:
        ValueError: If the length is no whole number from 1.

    Example:
        >>> process = LevyProcess(LaplaceIncrements(0.1), 64)
        >>> x = process.sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, torch.allclose(process.sums() @ process.increments(x)[0], x[0])
        (torch.Size([5, 64]), True)
    """

    law: Increments
    length: int = 64
    summed: bool = True

    def __post_init__(self) -> None:
        check_number(self.length, "the length of a signal", least=1, whole=True)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw signals.

        Args:
            n: Number of signals.
            generator: Source of the random numbers.

        Returns:
            Signals, (n, length), float64.
        """
        return self.signals(self.law.sample((n, self.length), generator))

    def signals(self, u: Tensor) -> Tensor:
        """Compute signals from their increments.

        Args:
            u: Increments, (..., length).

        Returns:
            Signals, (..., length).
        """
        return u.cumsum(-1) if self.summed else u

    def increments(self, x: Tensor) -> Tensor:
        """Compute the increments of signals, the first sample among them.

        Args:
            x: Signals, (..., length).

        Returns:
            Their increments, (..., length).
        """
        return torch.diff(x, dim=-1, prepend=torch.zeros_like(x[..., :1])) if self.summed else x

    def sums(self) -> Tensor:
        """Make the matrix that makes signals of increments.

        Returns:
            Lower triangle of ones, or the identity for white signals, (length, length), float64.
        """
        return self.signals(torch.eye(self.length, dtype=F64)).T

    def covariance(self) -> Tensor:
        """Compute the covariance of the signals, std^2 min(j, k), or std^2 I of white ones.

        Returns:
            Covariance matrix, (length, length), float64.
        """
        return self.law.std**2 * self.sums() @ self.sums().T

    @property
    def rms(self) -> float:
        """Root of the mean square of a signal's samples."""
        return self.law.std * (math.sqrt((self.length + 1) / 2) if self.summed else 1.0)


def levy_process(
    name: str, length: int = 64, rms: float = 0.5, *, summed: bool = True
) -> LevyProcess:
    """Build a process by the name of its increments, at a stated scale.

    Args:
        name: Name of `LAWS`; Student's t has 3 degrees of freedom, and 10 % of Bernoulli-Laplace
            increments are jumps.
        length: Number of samples of a signal, at least 1.
        rms: Root of the mean square of the samples, positive.
        summed: False for white signals.

    Returns:
        The process.

    Raises:
        ValueError: If the name is unknown or a number out of its range.

    Example:
        >>> process = levy_process("laplace", length=64, rms=0.5)
        >>> round(process.law.std, 4), process.rms
        (0.0877, 0.5)
    """
    check_choice("law of increments", name, LAWS)
    check_number(length, "the length of a signal", least=1, whole=True)
    check_number(rms, "the RMS of a signal", above=0)
    std = rms / math.sqrt((length + 1) / 2) if summed else rms
    return LevyProcess(LAWS[name](std), length, summed)
