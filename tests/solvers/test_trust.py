"""Residuals of draws in units of the noise, for every noise that is independent in each entry."""

import warnings

import pytest
import torch
from torch import Tensor

from problems import (
    CorrelatedNoise,
    CountNoise,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    LaplaceNoise,
    LogPoissonNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    SpeckleNoise,
    Transmission,
    UniformNoise,
)
from solvers.guidance.health import Health
from solvers.posterior.trust import SolverWarning, residual_sizes, trust
from tests.conftest import seeded

NOISES: dict[str, Noise] = {
    "white": GaussianNoise(0.1),
    "of each entry": GaussianNoise(torch.linspace(0.05, 0.2, 1024).reshape(1, 32, 32)),
    "Laplace": LaplaceNoise(0.1),
    "uniform": UniformNoise(0.2),
    "Poisson": PoissonNoise(40.0),
    "Poisson, one photon": PoissonNoise(1.0),
    "Poisson and Gaussian": PoissonGaussianNoise(40.0, 0.05),
    "Rician": RicianNoise(0.1),
    "speckle": SpeckleNoise(4.0),
}


def recorded() -> Health:
    """The record of a correction in which nothing was noticed, of two draws."""
    health = Health(2)
    health.add(torch.zeros(2), torch.zeros(2, dtype=torch.bool))
    return health


def truth() -> Tensor:
    return 1.6 * torch.rand(1, 1, 32, 32, generator=seeded(0)) - 0.8


@pytest.mark.parametrize("name", NOISES)
def test_the_truth_has_a_residual_of_one(name: str) -> None:
    """Less where counts are few: the variance is the larger one of two."""
    problem, x = InverseProblem(Denoising(), NOISES[name]), truth()
    y = problem.measure(x, seeded(1))
    size = float(residual_sizes(problem, y, x[None])[0, 0])
    varies = isinstance(NOISES[name], PoissonNoise | PoissonGaussianNoise | SpeckleNoise)
    assert (0.5 if varies else 0.9) < size < 1.1


# one photon says little, and speckle makes any darker value likely
@pytest.mark.parametrize("name", sorted(set(NOISES) - {"Poisson, one photon", "speckle"}))
def test_another_picture_has_a_larger_one(name: str) -> None:
    problem, x = InverseProblem(Denoising(), NOISES[name]), truth()
    y = problem.measure(x, seeded(1))
    found = residual_sizes(problem, y, torch.stack([x, x.flip(-1)]))
    assert found[1, 0] > 1.5 * found[0, 0]


@pytest.mark.parametrize(("photons", "logarithm"), [(30.0, False), (5000.0, False), (5000.0, True)])
def test_wrong_attenuations_are_warned_of(photons: float, logarithm: bool) -> None:
    """By the counts and by their logarithm; the right ones are not."""
    x = 3 * torch.rand(1, 1, 16, 16, generator=seeded(0))
    if logarithm:
        problem = InverseProblem(Denoising(), LogPoissonNoise(photons))
    else:
        problem = InverseProblem(Transmission(photons), CountNoise())
    y = problem.measure(x, seeded(1))
    health = recorded()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trust(problem, y, torch.stack([x, x]), [health], "a solver")
    with pytest.warns(SolverWarning, match="1 of 2 draws of a solver should not be trusted"):
        found = trust(problem, y, torch.stack([x, x + 2]), [health], "a solver")
    assert found["residual"][0] > 2


def test_correlated_noise_has_no_such_residual() -> None:
    noise = CorrelatedNoise(GaussianBlur(0.5, "circular", 2.0))
    y, draws = torch.zeros(1, 1, 8, 8), torch.ones(2, 1, 1, 8, 8)
    found = trust(InverseProblem(Denoising(), noise), y, draws, [recorded()], "a solver")
    assert "residual" not in found


def test_few_numbers_are_judged_by_all_draws_together() -> None:
    """Residuals of 2.5 noise levels, in 32 numbers chance for one draw and not for 50."""
    problem, y = InverseProblem(Denoising(), GaussianNoise(0.1)), torch.zeros(1, 1, 32)
    g = seeded(0)
    wide = 0.25 * torch.randn(50, 1, 1, 32, generator=g)
    health = Health(50)
    health.add(torch.zeros(50), torch.zeros(50, dtype=torch.bool))
    with pytest.warns(SolverWarning, match="50 of 50 draws of a solver"):
        trust(problem, y, wide, [health], "a solver")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trust(problem, y, 0.4 * wide, [health], "a solver")


def test_right_draws_of_an_unlikely_measurement_are_not_warned_of() -> None:
    """All draws of a flat posterior share a residual of y that is improbable, not impossible."""
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    m, runs = 4, 20_000
    y = 0.1 * torch.randn(runs, 1, m, generator=seeded(0))  # the truth is 0
    health = Health(2 * runs)
    health.add(torch.zeros(2 * runs), torch.zeros(2 * runs, dtype=torch.bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trust(problem, y, torch.zeros(2, runs, 1, m), [health], "a solver")
