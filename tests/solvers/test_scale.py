r"""Named solvers know the scale of the data, and are exact on Gaussian priors where they should be.

Data, prior, noise and the levels of the SDE are multiplied by c. With the same random numbers the
draws of a solver that has no length of its own are then multiplied by c. The numbers c are powers
of two, so that only the functions that are no multiplication (logarithms, roots) round differently.
"""

import math

import pytest
import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, Inpainting, InverseProblem, LinearMatrix
from scoresde import EDMSDE, CountingPrior, GaussianPrior, Prior, ScorePrior
from scoresde.networks import UNet, UNetConfig
from solvers import DDIM, SAMPLERS, SOLVERS, SolverWarning, TimeGrid, make_solver
from solvers.posterior import PointEstimator
from solvers.presets import RESTORATION_GRID
from solvers.scale import PHOTOGRAPHS, OfData, Scale, fitted
from tests.conftest import F64, randn, seeded

SIDE = 6

# Adam divides by |gradient| + 1e-8, which has a unit, and its steps amplify rounding
ADAM = {"red-diff": 1e-3, "sitcom": 5e-2}
NAMED = sorted(SOLVERS)


def scaled(c: float) -> tuple[GaussianPrior, InverseProblem, Tensor]:
    """A smooth field with a sixth of its pixels unseen, and everything that is a length times c."""
    place = torch.cartesian_prod(torch.arange(SIDE, dtype=F64), torch.arange(SIDE, dtype=F64))
    near = torch.exp(-torch.cdist(place, place).square() / 8)
    covariance = 0.25 * (0.9 * near + 0.1 * torch.eye(SIDE**2, dtype=F64))
    mean = torch.linspace(-0.3, 0.3, SIDE**2, dtype=F64).reshape(1, SIDE, SIDE)
    mask = torch.rand(SIDE, SIDE, generator=seeded(1)) < 0.6
    x = GaussianPrior(mean, covariance).sample(1, seeded(0))
    y = InverseProblem(Inpainting(mask), GaussianNoise(0.05)).measure(x, seeded(5))
    sde = EDMSDE(sigma_min=0.002 * c, sigma_max=80 * c)
    return (
        GaussianPrior(c * mean, c**2 * covariance, sde),
        InverseProblem(Inpainting(mask), GaussianNoise(0.05 * c)),
        c * y,
    )


def draws(name: str, c: float) -> Tensor:
    solver = make_solver(name)
    prior, problem, y = scaled(c)
    n = 1 if isinstance(solver, PointEstimator) else 4
    return solver.sample(prior, problem, y, n, generator=seeded(3)).draws / c


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::solvers.SolverWarning")
@pytest.mark.parametrize("name", NAMED)
def test_draws_scale_with_data_noise_and_prior(name: str) -> None:
    """A bound from below or from above, too, would show between these two."""
    small, large = draws(name, 0.125), draws(name, 8.0)
    assert float((large - small).abs().max()) < ADAM.get(name, 1e-8) * float(small.std())


def test_samplers_by_name_scale_too() -> None:
    entry = SAMPLERS["dpm-solver-fast"]
    one, other = (entry(5).sample(scaled(c)[0], 3, generator=seeded(0)) / c for c in (1.0, 0.125))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_a_grid_in_units_of_the_data_follows_prior_noise_and_training() -> None:
    prior = GaussianPrior(torch.zeros(1, 1, 4), 4 * torch.eye(4))
    given = fitted(DDIM(5, RESTORATION_GRID), Scale(prior)).grid
    assert (given.s_max, given.s_min) == (20.0, 0.12)

    problem = InverseProblem(Denoising(), GaussianNoise(0.02))
    scale = Scale(prior, problem, torch.zeros(1, 1, 1, 4))
    assert RESTORATION_GRID.fitted(scale).s_min == pytest.approx(0.01)

    # the largest variance, that of the sum of four equal entries, is four times that of an entry
    same = GaussianPrior(torch.zeros(4), torch.ones(4, 4) + 1e-9 * torch.eye(4))
    grid = TimeGrid(s_max=OfData(3.0), s_min=OfData(0.1))
    assert grid.fitted(Scale(same)).s_max == pytest.approx(3.0, rel=1e-3)
    wide = GaussianPrior(torch.zeros(100), torch.ones(100, 100) + 1e-9 * torch.eye(100))
    assert grid.fitted(Scale(wide)).s_max == pytest.approx(15.0, rel=1e-3)


def test_levels_stay_within_the_training_of_a_network() -> None:
    network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
    prior = ScorePrior(network, EDMSDE(sigma_min=0.01, sigma_max=30.0), (1, 8, 8), sigma_data=4.0)
    problem = InverseProblem(Denoising(), GaussianNoise(1e-4))
    scale = Scale(CountingPrior(prior), problem, torch.zeros(1, 1, 8, 8))
    grid = RESTORATION_GRID.fitted(scale)
    assert (grid.s_max, grid.s_min) == pytest.approx((30.0, 0.01))
    assert scale.data == 4.0


def test_the_width_of_the_likelihood_is_that_of_the_best_direction() -> None:
    A = torch.diag(torch.tensor([0.1, 2.0, 0.5], dtype=F64))
    problem = InverseProblem(LinearMatrix(A), GaussianNoise(0.3))
    prior = GaussianPrior(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))
    scale = Scale(prior, problem, torch.zeros(1, 3, dtype=F64))
    assert scale.measured == pytest.approx(0.15, rel=1e-3)
    assert Scale(prior).measured == math.inf


def test_a_prior_that_knows_no_scale_counts_as_one_of_photographs() -> None:
    class Shrinkage(Prior):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            return x_t / (1 + t[:, None] ** 2)

    assert Scale(Shrinkage(EDMSDE(), (2,))).data == PHOTOGRAPHS


def test_a_grid_that_was_not_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="units of the data"):
        RESTORATION_GRID.levels(EDMSDE(), 5)


# --- exact on Gaussian priors, whatever the widths ------------------------------------------------

DIMENSION = 16


def turned(values: Tensor, seed: int) -> Tensor:
    """A matrix of given singular values, in random directions."""
    U, V = (torch.linalg.qr(randn(DIMENSION, DIMENSION, seed=seed + k)).Q for k in (0, 1))
    return (U * values) @ V.T


WIDTHS = {
    "1": torch.ones(DIMENSION, dtype=F64),
    "1 to .01": torch.logspace(0, -2, DIMENSION, dtype=F64),
    ".1": 0.1 * torch.linspace(0.8, 1.2, DIMENSION, dtype=F64),
    ".01": 0.01 * torch.linspace(0.8, 1.2, DIMENSION, dtype=F64),
}
OPERATORS = {
    "all": torch.eye(DIMENSION, dtype=F64),
    "half": torch.eye(DIMENSION, dtype=F64)[::2],
    "ill-conditioned": turned(torch.logspace(0, -2, DIMENSION, dtype=F64), 10),
}


# Each width with each operator, and each of these with a low and a high noise. The noise between,
# where nothing is at an end of its range, is left to a single pair
NOISES = (0.002, 0.3)
SETTINGS = [(w, a, s) for w in WIDTHS for a in OPERATORS for s in NOISES] + [("1", "half", 0.03)]


@pytest.mark.slow
@pytest.mark.parametrize(("widths", "operator", "noise"), SETTINGS)
@pytest.mark.parametrize("name", ["mmps", "second-order"])
def test_named_solvers_cover_gaussian_posteriors(
    name: str, widths: str, operator: str, noise: float
) -> None:
    """Variance ratios of .95 to 1.05, and 88 to 92 % in intervals of 90 %, at the named settings.

    The mean over 16 directions of the ratio of variances has a standard error of
    sqrt(2 / (1000 * 16)) = 1.1 %. The coverage is that of N(mean, variance of the draws), computed
    for the exact law.
    """
    Q = torch.linalg.qr(randn(DIMENSION, DIMENSION, seed=0)).Q
    prior = GaussianPrior(
        torch.zeros(DIMENSION, dtype=F64), Q @ torch.diag(WIDTHS[widths] ** 2) @ Q.T, EDMSDE()
    )
    problem = InverseProblem(LinearMatrix(OPERATORS[operator]), GaussianNoise(noise))
    g = seeded(1)
    y = problem.measure(prior.sample(1, g), g)
    mean, C = prior.posterior(problem, y).moments()
    found = make_solver(name).sample(prior, problem, y, 1000, generator=seeded(2))
    x = found.draws[:, 0]

    values, V = torch.linalg.eigh(C)
    ratios = (V.T @ torch.cov(x.T) @ V).diagonal() / values
    assert 0.95 < float(ratios.mean()) < 1.05

    std = C.diagonal().sqrt()
    half, off = 1.6449 * x.std(0) / std, (x.mean(0) - mean) / std
    cdf = torch.distributions.Normal(0.0, 1.0).cdf
    assert 0.88 < float((cdf(off + half) - cdf(off - half)).mean()) < 0.92
    assert found.nfe == SOLVERS[name].steps


def test_few_ancestors_are_told() -> None:
    prior, problem, y = scaled(1.0)
    with pytest.warns(SolverWarning, match="first particles"):
        make_solver("mcgdiff", steps=10).sample(prior, problem, y, 30, generator=seeded(0))
