"""Linear measurements of Lévy processes, with a stated signal-to-noise ratio."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from problems.checks import check_choice, check_number
from scoresde.priors.base import Prior
from solvers.verification.levy.gibbs import GibbsDraws, gibbs
from solvers.verification.levy.increments import LaplaceIncrements
from solvers.verification.levy.markov import MarkovDenoiser
from solvers.verification.levy.signals import LevyProcess, levy_process
from solvers.verification.levy.white import WhiteDenoiser

__all__ = ["MEASUREMENTS", "LevyProblem", "levy_problem"]

F64 = torch.float64


def _identity(n: int, generator: torch.Generator) -> Tensor:
    return torch.eye(n, dtype=F64)


def _convolution(n: int, generator: torch.Generator) -> Tensor:
    """Gaussian kernel of standard deviation 2, cut at 6; no row reaches over the ends."""
    half = min(6, (n - 1) // 2)
    kernel = torch.exp(-torch.arange(-half, half + 1, dtype=F64).square() / (2 * 2.0**2))
    rows = torch.zeros(n - 2 * half, n, dtype=F64)
    for i, row in enumerate(rows):
        row[i : i + len(kernel)] = kernel / kernel.sum()
    return rows


def _sampling(n: int, generator: torch.Generator) -> Tensor:
    seen = torch.randperm(n, generator=generator)[: math.ceil(0.4 * n)].sort().values
    return torch.eye(n, dtype=F64)[seen]


def _fourier(n: int, generator: torch.Generator) -> Tensor:
    """Real and imaginary parts of the mean and of a random half of the other frequencies."""
    others = torch.randperm(n // 2, generator=generator)[: n // 4] + 1
    chosen = torch.cat([torch.zeros(1, dtype=torch.long), others.sort().values])
    waves = torch.fft.fft(torch.eye(n, dtype=F64), norm="ortho")[chosen]
    rows = torch.cat([waves.real, waves.imag])
    return rows[rows.norm(dim=1) > 1e-9]  # some frequencies have no imaginary part


MEASUREMENTS: dict[str, tuple[str, Callable[[int, torch.Generator], Tensor]]] = {
    "identity": ("every sample", _identity),
    "convolution": ("a Gaussian kernel of standard deviation 2", _convolution),
    "sampling": ("a random 40 % of the samples", _sampling),
    "fourier": ("the mean and a random half of the frequencies", _fourier),
}
"""Name -> summary and builder of the matrix (length, generator -> A)."""


@dataclass(frozen=True)
class LevyProblem:
    """A process and a linear measurement of its signals with Gaussian noise.

    Args:
        process: Law of the signals.
        problem: Operator and noise.
    """

    process: LevyProcess
    problem: InverseProblem

    @cached_property
    def matrix(self) -> Tensor:
        """Matrix A of the operator, (m, n), float64."""
        return self.problem.linear_operator.dense((self.process.length,))

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise."""
        return math.sqrt(float(self.problem.noise_variance))

    @cached_property
    def prior(self) -> MarkovDenoiser | WhiteDenoiser:
        """Exact denoiser of the signals.

        Raises:
            ValueError: If the signals are white and of another law than Laplace and
                Bernoulli-Laplace.
        """
        if self.process.summed:
            return MarkovDenoiser(self.process)
        if not isinstance(self.process.law, LaplaceIncrements):
            raise ValueError(
                "white signals have an exact denoiser for Laplace and Bernoulli-Laplace laws, "
                f"not for {type(self.process.law).__name__}"
            )
        return WhiteDenoiser(self.process.law, self.process.length)

    def problem_for(self, prior: Prior) -> InverseProblem:
        """Make the problem for the samples of a prior.

        Args:
            prior: Prior of signals, whose samples have the shape (length,) or (1, length).

        Returns:
            The same measurement, of such samples.

        Raises:
            ValueError: If the prior has samples of another size.
        """
        if tuple(prior.shape) == (self.process.length,):
            return self.problem
        return InverseProblem(LinearMatrix(self.matrix, prior.shape), self.problem.noise)

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw signals and measurements of them.

        Args:
            n: Number of pairs.
            generator: Source of the random numbers.

        Returns:
            Signals x, (n, length), and measurements y, (n, m), float64.
        """
        x = self.process.sample(n, generator)
        return x, self.problem.measure(x, generator)

    def posterior(
        self,
        y: Tensor,
        draws: int,
        generator: torch.Generator,
        *,
        chains: int = 2,
        burn_in: int = 500,
        thin: int = 1,
    ) -> GibbsDraws:
        """Draw from the exact posteriors by Gibbs sampling.

        Args:
            y: Measurements, (B, m).
            draws: Number of draws that each chain keeps.
            generator: Source of the random numbers.
            chains: Number of chains for each measurement.
            burn_in: Number of sweeps before the first draw.
            thin: Number of sweeps for each draw.

        Returns:
            The draws of all chains, whose R-hat says whether they agree.

        Raises:
            ValueError: If a shape does not fit or a number is out of its range.
        """
        return gibbs(
            self.process,
            self.matrix,
            y,
            self.noise_std,
            draws=draws,
            chains=chains,
            burn_in=burn_in,
            thin=thin,
            generator=generator,
        )


def levy_problem(
    law: str,
    measurement: str,
    *,
    length: int = 64,
    rms: float = 0.5,
    decibels: float = 25.0,
    seed: int = 0,
    summed: bool = True,
) -> LevyProblem:
    """Build a problem by name.

    Args:
        law: Name of the law of the increments, of `LAWS`.
        measurement: Name of `MEASUREMENTS`.
        length: Number of samples of a signal, at least 4.
        rms: Root of the mean square of the samples, positive.
        decibels: Mean power of A x over that of the noise, in dB.
        seed: Seed of the random rows of A.
        summed: False for white signals, the increments themselves.

    Returns:
        The problem, without a measurement.

    Raises:
        ValueError: If a name is unknown or a number out of its range.

    Example:
        >>> case = levy_problem("laplace", "sampling")
        >>> x, y = case.pairs(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape, round(case.noise_std, 3)
        (torch.Size([3, 64]), torch.Size([3, 26]), 0.027)
    """
    check_choice("measurement", measurement, MEASUREMENTS)
    check_number(length, "the length of a signal", least=4, whole=True)
    check_number(decibels, "the signal-to-noise ratio in dB")
    process = levy_process(law, length, rms, summed=summed)
    A = MEASUREMENTS[measurement][1](length, torch.Generator().manual_seed(seed))
    power = float((A @ process.covariance() @ A.T).trace()) / len(A)
    noise = math.sqrt(power) * 10 ** (-decibels / 20)
    return LevyProblem(process, InverseProblem(LinearMatrix(A), GaussianNoise(noise)))
