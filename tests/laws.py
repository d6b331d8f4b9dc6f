r"""Priors, problems and checks that several test modules of the solvers share.

:func:`assert_exact` compares n draws with the law N(m, C). If the draws have that law, the error
of the mean in each eigendirection, in units of sqrt(lambda/n), is standard normal, and
n (u^T S u)/lambda is chi-squared with n - 1 degrees of freedom. The quantiles of both are known
exactly. ``LEVEL`` is the two-sided probability that a right solver fails, divided (Bonferroni)
among the directions.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from scipy import stats
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from scoresde import (
    EDMSDE,
    SDE,
    VESDE,
    VPSDE,
    CosineVPSDE,
    FlowMatchingSDE,
    GaussianPrior,
    SubVPSDE,
)
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.verification import exact_problem
from tests.conftest import F64, seeded

__all__ = [
    "LEVEL",
    "Exact",
    "assert_exact",
    "each_of_three_sdes",
    "each_sde",
    "gaussian",
    "measured",
    "white",
    "worst_deviations",
]

LEVEL = 1e-4
SDES: list[SDE] = [VPSDE(), SubVPSDE(), CosineVPSDE(), VESDE(), EDMSDE(), FlowMatchingSDE()]
each_sde = pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)
THREE_SDES: dict[str, SDE] = {"VP": VPSDE(), "VE": VESDE(), "EDM": EDMSDE()}
each_of_three_sdes = pytest.mark.parametrize("sde", THREE_SDES.values(), ids=THREE_SDES)


def gaussian(sde: SDE, dimension: int = 6) -> GaussianPrior:
    """A Gaussian prior with a full covariance."""
    g = seeded(1)
    root = torch.randn(dimension, dimension, dtype=F64, generator=g)
    covariance = root @ root.T / dimension + 0.05 * torch.eye(dimension, dtype=F64)
    return GaussianPrior(0.5 * torch.randn(dimension, dtype=F64, generator=g), covariance, sde)


def white(sde: SDE, dimension: int = 6, variance: float = 1.0) -> GaussianPrior:
    """A Gaussian prior whose covariance is a multiple of the identity."""
    g = seeded(2)
    return GaussianPrior(
        0.5 * torch.randn(dimension, dtype=F64, generator=g),
        variance * torch.eye(dimension, dtype=F64),
        sde,
    )


def measured(
    prior: GaussianPrior, rows: int = 3, std: float = 0.3
) -> tuple[InverseProblem, Tensor]:
    """A random matrix with Gaussian noise, and its measurement of one draw of the prior."""
    g = seeded(3)
    problem = InverseProblem(
        LinearMatrix(torch.randn(rows, prior.shape[0], dtype=F64, generator=g)), GaussianNoise(std)
    )
    return problem, problem.measure(prior.sample(1, g), g)


def worst_deviations(draws: Tensor, mean: Tensor, covariance: Tensor) -> tuple[float, float]:
    """Largest |z| of the mean and smallest tail probability of the variance.

    Both are taken over the eigendirections of the covariance.
    """
    n = len(draws)
    lam, directions = torch.linalg.eigh(covariance)
    along = (draws - mean) @ directions
    z = along.mean(0) / (lam / n).sqrt()
    chi2 = (n - 1) * along.var(0) / lam
    tails = [2 * min(stats.chi2.cdf(float(c), n - 1), stats.chi2.sf(float(c), n - 1)) for c in chi2]
    return float(z.abs().max()), min(tails)


def assert_exact(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Fail unless the draws may come from N(mean, covariance)."""
    z, tail = worst_deviations(draws, mean, covariance)
    directions = len(mean)
    assert z < stats.norm.isf(LEVEL / 2 / directions), f"the mean is {z:.1f} standard errors off"
    assert tail > LEVEL / directions, f"a variance is off: tail probability {tail:.1e}"


@dataclass(frozen=True)
class Exact(IndependentSampler):
    """Draws of the exact posterior, one measurement at a time.

    ``spread`` 1/2 halves their variance.
    """

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "normal"})

    name: str
    seed: int = 0
    spread: float = 1.0

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        problem, y, generators = run.problem, run.y, run.generators
        law, (distinct, which) = (
            exact_problem(self.name, self.seed).prior,
            y.unique(dim=0, return_inverse=True),
        )
        x = torch.empty(len(y), *law.shape, dtype=F64)
        for i, one in enumerate(distinct):
            rows, posterior = (which == i).nonzero()[:, 0], law.posterior(problem, one[None])
            mean = posterior.moments()[0].reshape(law.shape)
            x[rows] = mean + self.spread**0.5 * (
                posterior.sample(len(rows), generators[int(rows[0])]) - mean
            )
        return x, 0
