r"""A problem with unknown numbers in it, and its estimating equations.

A parameter is sought in a coordinate u: its logarithm, where a share matters rather than a
difference, or its value in units of its step. For a measurement :math:`y = A_\theta x + \sigma n`
let :math:`h_i(x) = \partial A_\theta x/\partial u_i` and :math:`r = y - A_\theta x`. By Fisher's
identity the slope of the log-evidence is a posterior mean (Louis 1982),

.. math:: \frac{\partial}{\partial u_i} \ln p(y | \theta)
          = E\Bigl[\frac{r^T h_i(x)}{\sigma^2} \Big| y, \theta\Bigr] ,

the same that EM sets to zero in its M-step (Dempster et al. 1977). The mean over draws includes
:math:`-\operatorname{tr}(A^T \partial_i A\,V)/\sigma^2` with the covariance V of the posterior. A
point estimate lacks it, and its slope asks for less blur whatever y is (Levin et al. 2009).

With a weight W the equations

.. math:: \Psi_i = E\Bigl[\frac{r^T W h_i(x)}{\sigma^2} \Big| y, \theta\Bigr] = 0

have mean 0 at the true parameters as well, since the noise is independent of x. W = 1 gives
maximum likelihood. :math:`W = (1 + \rho^2 A A^T/\sigma^2)^{-1}` leaves out the directions in which
draws follow y whatever the parameters are. In them nearly all information is missing, and the mean
of few draws is mostly Monte-Carlo error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem
from problems.operators.convolution import Convolution
from scoresde.evaluation.residual.missing_information import missing_information
from scoresde.evaluation.residual.scores import FREEDOM
from scoresde.priors.base import Prior
from solvers import PosteriorSampler

__all__ = ["Equations", "Family", "Parameter", "ParametricSource"]

_FLOOR = 0.03  # of the complete information


@dataclass(frozen=True)
class Parameter:
    """An unknown number.

    Args:
        name: What it is, for messages.
        start: Where the search begins.
        low: Smallest value.
        high: Largest value.
        step: First step of the search, a share of the value, or a difference for linear ones.
        linear: Whether differences matter rather than shares.
        difference: Half the width of central differences, a share of the value, or of the step.

    Raises:
        ValueError: If the start does not lie between low and high, or the step is not positive.

    Example:
        >>> Parameter("width", 1.5, 0.3, 8.0).coordinate(0.5) < 0
        True
    """

    name: str
    start: float
    low: float
    high: float
    step: float = 0.5
    linear: bool = False
    difference: float = 0.03

    def __post_init__(self) -> None:
        if not (self.low <= self.start <= self.high and self.step > 0):
            raise ValueError(
                f"{self.name} must start between {self.low:g} and {self.high:g} with a step above "
                f"0, got {self.start:g} and {self.step:g}"
            )
        if not self.difference > 0:
            raise ValueError(f"the difference of {self.name} must be above 0")
        if not self.linear and not self.low > 0:
            raise ValueError(f"{self.name} must be above 0, or linear, got low = {self.low:g}")

    def coordinate(self, value: float) -> float:
        """Map a value to the coordinate of the search.

        Args:
            value: The value.

        Returns:
            Its logarithm, or the value in steps.
        """
        return value / self.step if self.linear else math.log(value)

    def value(self, u: float) -> float:
        """Map a coordinate to the value.

        Args:
            u: The coordinate.

        Returns:
            The value.
        """
        return u * self.step if self.linear else math.exp(u)

    @property
    def stride(self) -> float:
        """First step in the coordinate."""
        return 1.0 if self.linear else math.log1p(self.step)

    def error(self, value: float, error: float) -> float:
        """Map a small error of the coordinate to one of the value.

        Args:
            value: The value.
            error: Error of the coordinate.

        Returns:
            Error of the value.
        """
        return error * (self.step if self.linear else value)


@dataclass(frozen=True)
class Family:
    """Problems by parameters.

    Args:
        problem_of: Makes the problem of the values, one argument for each parameter.
        parameters: The unknown numbers.
    """

    problem_of: Callable[..., InverseProblem]
    parameters: tuple[Parameter, ...]

    def at(self, u: Sequence[float]) -> InverseProblem:
        """State the problem.

        Args:
            u: Coordinates.

        Returns:
            The problem.
        """
        return self.problem_of(*(p.value(c) for p, c in zip(self.parameters, u, strict=True)))

    def beside(self, u: Sequence[float], i: int) -> tuple[InverseProblem, InverseProblem, float]:
        """State the problem on either side along a parameter.

        Args:
            u: Coordinates.
            i: Number of the parameter.

        Returns:
            Problems below and above, within the bounds, and the distance of their coordinates.
        """
        p = self.parameters[i]
        low = max(u[i] - p.difference, p.coordinate(p.low))
        high = min(u[i] + p.difference, p.coordinate(p.high))
        sides = [self.at([*u[:i], c, *u[i + 1 :]]) for c in (low, high)]
        return sides[0], sides[1], high - low


@dataclass(frozen=True)
class Equations:
    """Estimating equations at one place, from draws.

    Args:
        slope: Psi (p,).
        evidence: Slope of ln p(y | theta) (p,), which is Psi with W = 1.
        complete: E[h_i^T W h_j] / sigma^2 (p, p), minus the slope of Psi if x were known.
        variance: Variance of Psi over measurements (p, p).
        monte_carlo: Variance of Psi over sets of draws (p, p).
    """

    slope: Tensor
    evidence: Tensor
    complete: Tensor
    variance: Tensor
    monte_carlo: Tensor

    @property
    def gap(self) -> Tensor:
        """The step that EM would take, (p,)."""
        return torch.linalg.solve(self.complete, self.slope)


@dataclass(frozen=True)
class ParametricSource:
    """The equations from draws of a solver, with the same random numbers at every place.

    Args:
        family: Problems with Gaussian noise.
        y: Measurement (1, ...), zero where nothing is observed.
        prior: Prior of the picture.
        solver: Sampler of the posterior.
        seed: Of its random numbers.
        weighted: Whether to leave out what draws follow anyway; else W = 1.
    """

    family: Family
    y: Tensor
    prior: Prior
    solver: PosteriorSampler
    seed: int = 0
    weighted: bool = True

    def at(self, u: Sequence[float], draws: int) -> Equations:
        """Draw from the posterior and evaluate the equations.

        Args:
            u: Coordinates.
            draws: Number of draws, at least 4.

        Returns:
            The equations.
        """
        problem = self.family.at(u)
        x = self.solver.sample(
            self.prior, problem, self.y, draws, generator=torch.Generator().manual_seed(self.seed)
        ).draws[:, 0].to(self.y)  # fmt: skip
        noise = problem.noise
        assert isinstance(noise, GaussianNoise)
        seen = problem.operator.observed(self.y).expand_as(self.y)
        std = torch.as_tensor(noise.std).to(self.y).expand_as(self.y)
        e = self._white(self.y - problem.operator.apply(x), seen, std)
        h, weighted = [], []
        for i in range(len(self.family.parameters)):
            low, high, width = self.family.beside(u, i)
            change = (high.operator.apply(x) - low.operator.apply(x)) / width
            h.append(self._white(change, seen, std))
            changed = _weighted(problem, change) if self.weighted else change
            weighted.append(self._white(changed, seen, std))
        return _equations(e, h, weighted)

    @staticmethod
    def _white(v: Tensor, seen: Tensor, std: Tensor) -> Tensor:
        return torch.where(seen, v / std, 0).flatten(1).double()


def _equations(e: Tensor, h: list[Tensor], w: list[Tensor]) -> Equations:
    """From residuals e, directions h and weighted directions w, each (n, m)."""
    p, n = len(h), len(e)

    def matrix(entry: Callable[[int, int], float]) -> Tensor:
        M = torch.tensor([[entry(i, j) for j in range(p)] for i in range(p)], dtype=torch.float64)
        return (M + M.T) / 2

    def spread(i: int, j: int) -> float:
        if i == j:
            return missing_information(e, w[i]).variance
        of_sum, of_difference = (missing_information(e, w[i] + sign * w[j]) for sign in (1, -1))
        return (of_sum.variance - of_difference.variance) / 4

    slope, evidence = (torch.stack([(e * one).sum(1).mean() for one in v]) for v in (w, h))
    H = matrix(lambda i, j: float((h[i] * w[j]).sum(1).mean()))
    G = matrix(lambda i, j: float((w[i] * w[j]).sum(1).mean()))
    V = matrix(spread)
    return Equations(slope, evidence, H, _remaining(G, V), V / n)


def _remaining(G: Tensor, V: Tensor) -> Tensor:
    """G - V, at least a small share of G along every direction."""
    lam, Q = torch.linalg.eigh(G)
    root = Q * lam.clamp_min(1e-12 * float(lam.max()) + 1e-300).sqrt()
    inverse = torch.linalg.pinv(root)
    share, P = torch.linalg.eigh(inverse @ V @ inverse.T)
    P = root @ P
    return (P * (1 - share).clamp(_FLOOR, 1.0)) @ P.T


def _weighted(problem: InverseProblem, h: Tensor) -> Tensor:
    """W h; any W leaves the equations right, so that convolutions take a circular one."""
    if not {"linear", "gaussian_noise"} <= problem.capabilities:
        return h
    operator, variance = problem.linear_operator, problem.noise_variance
    if isinstance(operator, Convolution) and "closed_form" not in operator.structure:
        operator = replace(operator, boundary="circular")  # type: ignore[type-var]
    return variance * operator.solve(h, variance, FREEDOM**2)
