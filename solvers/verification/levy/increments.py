r"""Laws of independent increments, all of them scale mixtures of Gaussians.

An increment is :math:`u = \sqrt w\, z` with :math:`z \sim N(0, 1)` and a random variance w: an
exponential one for Laplace increments (Andrews and Mallows), an inverse gamma one for Student's t,
zero with probability 1 - rate for Bernoulli-Laplace. Given w, a linear measurement with Gaussian
noise leaves u Gaussian, and given u, the law of w is known; Gibbs sampling alternates between them.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number

__all__ = [
    "BernoulliLaplaceIncrements",
    "GaussianIncrements",
    "Increments",
    "LaplaceIncrements",
    "StudentIncrements",
]

F64 = torch.float64


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform numbers in (0, 1]: their logarithm is finite."""
    return 1 - torch.rand(shape, dtype=F64, generator=generator)


@dataclass(frozen=True)
class Increments(ABC):
    """Law of one increment, symmetric about zero.

    Args:
        std: Standard deviation, positive, in the units of the signal.

    Raises:
        ValueError: If the standard deviation is not a positive number.
    """

    std: float

    def __post_init__(self) -> None:
        check_number(self.std, "the standard deviation of an increment", above=0)

    @property
    def silence(self) -> float:
        """Probability that an increment is zero."""
        return 0.0

    @property
    @abstractmethod
    def scale(self) -> float:
        """Width of the centre of the density."""

    @property
    @abstractmethod
    def resolution(self) -> float:
        """Widest step of a lattice whose sums stand for integrals over the density."""

    @property
    @abstractmethod
    def reach(self) -> float:
        """Size that hardly any increment exceeds."""

    @property
    @abstractmethod
    def slope(self) -> float:
        """Steepest slope of the log-density, within the reach."""

    @abstractmethod
    def variances(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw variances w of the mixture.

        Args:
            shape: Shape of the result.
            generator: Source of the random numbers.

        Returns:
            Variances, float64; zero for an increment of zero.
        """

    @abstractmethod
    def variances_given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Draw variances w given increments that are not zero.

        Args:
            u: Increments, any shape, float64.
            generator: Source of the random numbers.

        Returns:
            Draws of p(w | u), shape of u.
        """

    @abstractmethod
    def log_density(self, u: Tensor) -> Tensor:
        """Compute the log-density of increments that are not zero.

        Args:
            u: Increments, any shape.

        Returns:
            Logarithm of their density given that they are not zero, shape of u.
        """

    def log_masses(self, lags: Tensor, step: float) -> Tensor:
        """Compute the weights of increments on a lattice.

        Sums with these weights stand for integrals over the law. The trapezoidal rule is corrected
        for a kink of the density at zero, to which it is sensitive (Euler and Maclaurin).

        Args:
            lags: Increments in steps, whole numbers, any shape.
            step: Step of the lattice, at most `resolution`.

        Returns:
            Logarithms of the weights, shape of lags, float64.
        """
        return self.log_density(lags.double() * step) + math.log(step)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw increments.

        Args:
            shape: Shape of the result.
            generator: Source of the random numbers.

        Returns:
            Independent increments, float64.

        Example:
            >>> generator = torch.Generator().manual_seed(0)
            >>> u = BernoulliLaplaceIncrements(2.0, rate=0.25).sample((100_000,), generator)
            >>> round(float(u.std()), 1), round(float((u == 0).double().mean()), 2)
            (2.0, 0.75)
        """
        w = self.variances(shape, generator)
        return w.sqrt() * torch.randn(shape, dtype=F64, generator=generator)


@dataclass(frozen=True)
class GaussianIncrements(Increments):
    """Normal increments, for which everything has a closed form.

    Args:
        std: Standard deviation, positive.
    """

    @property
    def scale(self) -> float:
        """Standard deviation."""
        return self.std

    @property
    def resolution(self) -> float:
        """Widest step of a lattice whose sums stand for integrals over the density."""
        return self.std / 1.5

    @property
    def reach(self) -> float:
        """Size that hardly any increment exceeds."""
        return 8 * self.std

    @property
    def slope(self) -> float:
        """Steepest slope of the log-density, within the reach."""
        return 8 / self.std

    def variances(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return the variance, which is not random.

        Args:
            shape: Shape of the result.
            generator: Not used.

        Returns:
            The variance in every entry, float64.
        """
        return torch.full(shape, self.std**2, dtype=F64)

    def variances_given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Return the variance, which is not random.

        Args:
            u: Increments, any shape, float64.
            generator: Not used.

        Returns:
            The variance in every entry, shape of u.
        """
        return torch.full_like(u, self.std**2)

    def log_density(self, u: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            u: Increments, any shape.

        Returns:
            Logarithm of the density of N(0, std^2), shape of u.
        """
        return -0.5 * (u / self.std).square() - math.log(self.std * math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class LaplaceIncrements(Increments):
    r"""Laplace increments, :math:`p(u) = e^{-|u|/b} / (2b)` with :math:`b = \mathrm{std}/\sqrt2`.

    Args:
        std: Standard deviation, positive.
    """

    @property
    def scale(self) -> float:
        """The scale b of the density."""
        return self.std / math.sqrt(2)

    @property
    def resolution(self) -> float:
        """Widest step of a lattice: sums with `log_masses` are then off by 1e-4."""
        return self.scale / 2

    @property
    def reach(self) -> float:
        """Size that hardly any increment exceeds."""
        return 25 * self.scale

    @property
    def slope(self) -> float:
        """Steepest slope of the log-density, the only one it has."""
        return 1 / self.scale

    def log_masses(self, lags: Tensor, step: float) -> Tensor:
        """Compute the weights of increments on a lattice.

        Args:
            lags: Increments in steps, whole numbers, any shape.
            step: Step of the lattice, at most `resolution`.

        Returns:
            Logarithms of the weights, shape of lags, float64.
        """
        kink = math.log1p(-step / (6 * self.scale))
        return super().log_masses(lags, step) + torch.where(lags == 0, kink, 0.0)

    def variances(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw variances w, which are exponential with mean 2 b^2.

        Args:
            shape: Shape of the result.
            generator: Source of the random numbers.

        Returns:
            Variances, float64.
        """
        return -2 * self.scale**2 * _uniform(shape, generator).log()

    def variances_given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        r"""Draw variances w given increments: 1/w is inverse Gaussian.

        Its mean is :math:`1/(b|u|)` and its shape :math:`1/b^2`. The larger root of the quadratic
        of Michael, Schucany and Haas is computed first and the smaller one from the product of
        both, so that nothing cancels, at u = 0 either.

        Args:
            u: Increments, any shape, float64.
            generator: Source of the random numbers.

        Returns:
            Draws of p(w | u), shape of u.
        """
        b, size = self.scale, u.abs()
        chi2 = torch.randn(u.shape, dtype=F64, generator=generator).square()
        large = b * (size + b * chi2 / 2 + (b * chi2 * (size + b * chi2 / 4)).sqrt())
        ratio = b * size / large
        first = torch.rand(u.shape, dtype=F64, generator=generator) * (1 + ratio) < 1
        return torch.where(first, large, ratio * b * size)

    def log_density(self, u: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            u: Increments, any shape.

        Returns:
            Logarithm of the Laplace density, shape of u.
        """
        return -u.abs() / self.scale - math.log(2 * self.scale)


@dataclass(frozen=True)
class BernoulliLaplaceIncrements(LaplaceIncrements):
    """Increments that are zero with probability 1 - rate and Laplace otherwise: rare jumps.

    Args:
        std: Standard deviation of all increments, those of zero included, positive.
        rate: Probability of a jump, between 0 and 1.

    Raises:
        ValueError: If the standard deviation is not positive or the rate not between 0 and 1.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.rate, "the rate of jumps", above=0, below=1)

    @property
    def silence(self) -> float:
        """Probability that an increment is zero."""
        return 1 - self.rate

    @property
    def scale(self) -> float:
        """The scale b of the jumps."""
        return self.std / math.sqrt(2 * self.rate)

    def log_masses(self, lags: Tensor, step: float) -> Tensor:
        """Compute the weights of increments on a lattice, with the mass at zero.

        Args:
            lags: Increments in steps, whole numbers, any shape.
            step: Step of the lattice, at most `resolution`.

        Returns:
            Logarithms of the weights, shape of lags, float64.
        """
        jumps = math.log(self.rate) + super().log_masses(lags, step)
        silent = torch.where(lags == 0, math.log(self.silence), -math.inf)
        return torch.logaddexp(jumps, silent)

    def variances(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw variances w: zero, or exponential for a jump.

        Args:
            shape: Shape of the result.
            generator: Source of the random numbers.

        Returns:
            Variances, float64.
        """
        jump = torch.rand(shape, dtype=F64, generator=generator) < self.rate
        return torch.where(jump, super().variances(shape, generator), 0.0)


@dataclass(frozen=True)
class StudentIncrements(Increments):
    """Increments of Student's t law, whose tails fall like a power.

    Args:
        std: Standard deviation, positive.
        dof: Degrees of freedom, a whole number from 3, below which there is no variance.

    Raises:
        ValueError: If the standard deviation is not positive or dof no whole number from 3.
    """

    dof: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.dof, "the degrees of freedom", least=3, whole=True)

    @property
    def scale(self) -> float:
        """Scale of the density: u/scale has the standard t law."""
        return self.std * math.sqrt((self.dof - 2) / self.dof)

    @property
    def resolution(self) -> float:
        """Widest step of a lattice whose sums stand for integrals over the density."""
        return self.scale / 1.5

    @property
    def reach(self) -> float:
        """Size that one of 100,000 increments exceeds, with 3 degrees of freedom."""
        return 60 * self.scale

    @property
    def slope(self) -> float:
        """Steepest slope of the log-density."""
        return (self.dof + 1) / (2 * math.sqrt(self.dof) * self.scale)

    def variances(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw variances w = dof scale^2 / chi^2 with dof degrees of freedom.

        Args:
            shape: Shape of the result.
            generator: Source of the random numbers.

        Returns:
            Variances, float64.
        """
        normal = torch.randn(*shape, self.dof, dtype=F64, generator=generator)
        return self.dof * self.scale**2 / normal.square().sum(-1)

    def variances_given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Draw variances w = (dof scale^2 + u^2) / chi^2 with dof + 1 degrees of freedom.

        Args:
            u: Increments, any shape, float64.
            generator: Source of the random numbers.

        Returns:
            Draws of p(w | u), shape of u.
        """
        normal = torch.randn(*u.shape, self.dof + 1, dtype=F64, generator=generator)
        return (self.dof * self.scale**2 + u.square()) / normal.square().sum(-1)

    def log_density(self, u: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            u: Increments, any shape.

        Returns:
            Logarithm of the density of the t law, shape of u.
        """
        half = (self.dof + 1) / 2
        constant = math.lgamma(half) - math.lgamma(self.dof / 2)
        constant -= math.log(self.scale * math.sqrt(math.pi * self.dof))
        return constant - half * ((u / self.scale).square() / self.dof).log1p()
