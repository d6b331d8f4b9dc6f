r"""A kernel of any shape, by EM over posterior draws.

Each round draws pictures from the posterior at the present kernel, takes their second moments
(``kernel_step``) and moves the kernel. EM would move it to the minimum of E|y - k * x|^2. Draws
follow y closely at any kernel, so that most of the information about k is missing and EM takes
hundreds of rounds. Here the slope of the evidence, which the moments give exactly, meets another
curvature M in the quadratic programme on the simplex

.. math:: \max_{k'} \; g^T (k' - k) - \tfrac12 (k' - k)^T M (k' - k) .

With :math:`M = E[P^T P]/\sigma^2` this is EM. M here is what EM's curvature leaves of each
frequency if the picture is locally Gaussian of spectrum S: a share
:math:`2\rho/(1 + \rho)^2` with :math:`\rho = |\hat k|^2 S / \sigma^2`, and a floor of EM's own. The
fixed points are those of EM. Where a step goes too far, so that the slope points back, M grows.

Each round has draws of other random numbers. The kernel is the average over the later rounds, whose
Monte-Carlo error is that of all their draws together (Polyak and Juditsky 1992).

A kernel and its picture may be shifted against each other by any amount, which y does not tell. The
kernel stays where it starts, in the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from problems import Blur, GaussianNoise, InverseProblem
from problems.operators.convolution import Boundary, Convolution
from scoresde.estimation.kernel_step import KernelMoments, minimise_on_simplex
from scoresde.estimation.rounding import rounded
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianPrior
from scoresde.spectral_evidence import periodogram
from solvers import PosteriorSampler

__all__ = [
    "DrawnMoments",
    "ExactMoments",
    "KernelEstimate",
    "MomentSource",
    "kernel_by_em",
    "spread_of",
]

_SHARE = 0.05  # of EM's curvature, the least that is left of it
_LATER = 0.5  # rounds from which on kernels are averaged
_TOO_FAR = 0.5
_FIRST = 4.0  # damping of the first step, whose kernel may be far off


class MomentSource(Protocol):
    """A posterior at any kernel."""

    def at(self, problem: InverseProblem, side: int, number: int) -> tuple[KernelMoments, Tensor]:
        """Evaluate the posterior.

        Args:
            problem: Blur of this side, with Gaussian noise.
            side: Side of the kernel.
            number: Number of the round, for random numbers.

        Returns:
            The moments and some draws (n, C, H, W), for the spectrum of the picture.
        """
        ...


@dataclass(frozen=True)
class DrawnMoments:
    """Moments from draws of a solver.

    Args:
        y: The blurred picture (1, C, H, W).
        prior: Prior of the picture.
        solver: Sampler of the posterior.
        draws: Draws in each round.
        seed: Of its random numbers.
    """

    y: Tensor
    prior: Prior
    solver: PosteriorSampler
    draws: int
    seed: int = 0

    def at(self, problem: InverseProblem, side: int, number: int) -> tuple[KernelMoments, Tensor]:
        """Draw from the posterior."""
        generator = torch.Generator().manual_seed(self.seed + number)
        x = self.solver.sample(
            self.prior, problem, self.y, self.draws, generator=generator
        ).draws[:, 0].to(self.y)  # fmt: skip
        operator = problem.operator
        assert isinstance(operator, Convolution)
        return KernelMoments.of(self.y, x, side, operator.boundary), x


@dataclass(frozen=True)
class ExactMoments:
    """Moments in closed form, under a Gaussian prior.

    Args:
        y: The blurred picture (1, C, H, W).
        prior: Gaussian prior.
    """

    y: Tensor
    prior: GaussianPrior

    def at(self, problem: InverseProblem, side: int, number: int) -> tuple[KernelMoments, Tensor]:
        """Compute the posterior."""
        posterior = self.prior.posterior(problem, self.y)
        mean, covariance = posterior.moments()
        operator = problem.operator
        assert isinstance(operator, Convolution)
        mean = mean.reshape(1, *self.prior.shape)
        found = KernelMoments.of_normal(self.y, mean, covariance, side, operator.boundary)
        return found, posterior.sample(4, torch.Generator().manual_seed(number))


@dataclass(frozen=True)
class KernelEstimate:
    """A kernel of any shape.

    Args:
        kernel: Kernel (s, s), nowhere negative, with sum 1, float64.
        error: Monte-Carlo standard error of the spread, from the scatter over rounds; at least the
            distance to the average of the rounds where the answer is another kernel. What the
            measurement itself leaves open is not in it.
        sigma: Standard deviation of the noise, that which was given if it was.
        start: What the search began with.
        path: Spread after each round.
        problem: The problem with this kernel and noise.
    """

    kernel: Tensor
    error: float
    sigma: float
    start: str
    path: tuple[float, ...]
    problem: InverseProblem

    @property
    def spread(self) -> float:
        """Standard deviation of the kernel about its middle, in pixels."""
        return spread_of(self.kernel)

    def report(self) -> dict[str, Any]:
        """Give the result in plain values that JSON can hold.

        Returns:
            Numbers by name.
        """
        return {
            "names": ["the spread of the blur"],
            "values": rounded([self.spread], 4),
            "standard_error": rounded([self.error], 2),
            "source": "draws",
            "path": [rounded([one], 4) for one in self.path],
        }


def kernel_by_em(
    source: MomentSource,
    start: Convolution,
    side: int,
    sigma: float,
    boundary: Boundary,
    *,
    rounds: int = 24,
    plain: bool = False,
    joint: bool = False,
    watch: Callable[[Tensor], bool | None] | None = None,
) -> KernelEstimate:
    r"""Improve a kernel by EM.

    The noise level can be found with it, from the same draws: its M step is
    :math:`\sigma^2 = E[|y - k * x|^2 | y] / m`.

    Args:
        source: The posterior.
        start: Kernel to begin with; what does not fit the side is left out.
        side: Odd side of the kernel in pixels.
        sigma: Standard deviation of the noise, above 0.
        boundary: Rule for the picture outside the frame.
        rounds: Number of rounds.
        plain: Whether to take the steps of EM, many and small. The evidence then never falls, and
            the last kernel is the answer rather than an average.
        joint: Whether the noise level is estimated too.
        watch: Called with the kernel (s, s) after each round; if it returns True, the search ends.

    Returns:
        The estimate.
    """
    k = framed(start.taps[0].double(), side).flatten()
    damping, before, step = _FIRST, 0.0, torch.zeros_like(k)
    kernels: list[Tensor] = []
    levels: list[float] = []
    path: list[float] = []
    for number in range(rounds):
        problem = InverseProblem(Blur(k.reshape(side, side), boundary), GaussianNoise(sigma))
        moments, x = source.at(problem, side, number)
        slope = moments.slope(k, sigma)
        if plain:
            new = minimise_on_simplex(moments.G, moments.b, k)
        else:
            back = float(slope @ step)
            damping = (
                min(2 * damping, 64.0) if back < -_TOO_FAR * before else max(damping / 1.5, 1.0)
            )
            M = damping * (
                _curvature(x, k.reshape(side, side), sigma) + _SHARE * moments.G / sigma**2
            )
            new = minimise_on_simplex(M, slope + M @ k, k)
            step = new - k
            before = float(slope @ step)
        k = new
        path.append(spread_of(k.reshape(side, side)))
        if joint:
            sigma = moments.misfit(k) ** 0.5
        kernels.append(k)
        levels.append(sigma)
        if watch is not None and watch(k.reshape(side, side)):
            break
    later = max(int((1 - _LATER) * len(path)), 1)
    scatter = torch.tensor(path[-later:]).std() if later > 1 else torch.tensor(0.0)
    if not plain:
        k = torch.stack(kernels[-later:]).mean(0)
        sigma = sum(levels[-later:]) / later
    kernel = k.reshape(side, side)
    problem = InverseProblem(Blur(kernel, boundary), GaussianNoise(sigma))
    return KernelEstimate(
        kernel, float(scatter) / later**0.5, sigma, repr(start), tuple(path), problem
    )


def spread_of(kernel: Tensor) -> float:
    """Compute the standard deviation of a kernel about its middle.

    Args:
        kernel: Kernel (s, s) with sum 1.

    Returns:
        The root mean square of both axes, in pixels.
    """
    i = torch.arange(len(kernel), dtype=kernel.dtype)
    second = sum(float(p @ i**2 - (p @ i) ** 2) for p in (kernel.sum(1), kernel.sum(0)))
    return (max(second, 0.0) / 2) ** 0.5


def framed(kernel: Tensor, side: int) -> Tensor:
    """Bring a kernel to another side, cut or filled with zeros around its middle.

    Args:
        kernel: Kernel (h, w) of odd sides.
        side: Odd side of the result.

    Returns:
        Kernel (side, side) with sum 1.
    """
    h, w = kernel.shape
    y, x = (side - h) // 2, (side - w) // 2
    found = F.pad(kernel, [x, side - w - x, y, side - h - y])
    return found / found.sum()


def _curvature(x: Tensor, kernel: Tensor, sigma: float) -> Tensor:
    """What the measurement says about the kernel if the picture is Gaussian, (s s, s s)."""
    side, (H, W) = len(kernel), x.shape[-2:]
    S = periodogram(x.double().cpu()).mean(0)  # per pixel
    ratio = torch.fft.fft2(kernel, s=(H, W)).abs().square() * S / sigma**2
    share = 2 * ratio / (1 + ratio) ** 2
    lags = torch.fft.ifft2((share * S).sum(0)).real * H * W / sigma**2
    i = torch.arange(side)
    rows, columns = (i.repeat_interleave(side), i.repeat(side))
    return lags[rows[:, None] - rows, columns[:, None] - columns]
