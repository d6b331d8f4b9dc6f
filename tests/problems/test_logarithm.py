"""Counts as line integrals: the same likelihood, on a scale on which little is curved."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from problems import (
    CountNoise,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    LinearOperator,
    LogCountNoise,
    NonlinearFunction,
    ParallelBeam,
    Transmission,
    take_logarithm,
)
from tests.conftest import F64, randn, seeded

BEAM = ParallelBeam((0.0, 30.0, 90.0), (6, 6), 0.5, 8, 0.6)
FIELD = torch.linspace(20.0, 40.0, 8, dtype=F64)
LAWS = {
    "many": (Transmission(1e5), CountNoise()),
    "few": (Transmission(3.0), CountNoise()),
    "field": (Transmission(FIELD), CountNoise()),
    "background": (Transmission(5.0, background=2.5), CountNoise()),
    "gain": (Transmission(200.0, background=20.0), CountNoise(gain=7.0)),
    "read noise": (Transmission(FIELD, background=3.0), CountNoise(gain=2.0, std=3.0)),
}


@pytest.mark.parametrize("name", LAWS)
class TestSameLikelihood:
    def test_of_every_x(self, name: str) -> None:
        law, noise = LAWS[name]
        problem = InverseProblem(law @ BEAM, noise)
        truth, others = randn(1, 1, 6, 6).abs() / 3, randn(5, 1, 6, 6, seed=1)
        y = problem.measure(truth, seeded(2))
        by_log, q = take_logarithm(problem, y)
        assert isinstance(by_log.operator, LinearOperator)
        expected = problem.log_likelihood(y, others)
        torch.testing.assert_close(by_log.log_likelihood(q, others), expected, rtol=1e-9, atol=1e-8)

    def test_nothing_is_lost(self, name: str) -> None:
        """Readings of every size, below the background and below 0 too, come back."""
        law, noise = LAWS[name]
        y = torch.cat(
            [torch.arange(-10.0, 30, 1.5, dtype=F64), torch.tensor([3e3, 1e6], dtype=F64)]
        )
        y = y[:, None].expand(-1, 8)
        log = LogCountNoise(law.photons, law.background, noise.gain, noise.std)
        q = log.written(y)
        assert bool((q.diff(dim=0) < 0).all())
        torch.testing.assert_close(log.readings(q), y, rtol=1e-12, atol=1e-12)


def test_a_chain_is_taken_apart() -> None:
    """The exponential is found behind other operators, linear or not."""
    scale = NonlinearFunction(lambda x: 0.5 * (x + 1) ** 2, (1, 6, 6))
    problem = InverseProblem(
        (Transmission(50.0) @ BEAM) @ (scale @ GaussianBlur(0.5)), CountNoise()
    )
    x = randn(2, 1, 6, 6)
    y = problem.measure(x, seeded(0))
    by_log, q = take_logarithm(problem, y)
    torch.testing.assert_close(
        by_log.operator.apply(x), -(problem.operator.apply(x) / 50).log(), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(by_log.log_likelihood(q, x), problem.log_likelihood(y, x))


def test_other_problems_stay() -> None:
    y = torch.ones(1, 1, 3, 8)
    for problem in (
        InverseProblem(Transmission(5.0) @ BEAM, GaussianNoise(0.1)),
        InverseProblem(BEAM, CountNoise()),
        InverseProblem(BEAM @ NonlinearFunction(torch.exp, (1, 6, 6)), CountNoise()),
    ):
        same, q = take_logarithm(problem, y)
        assert same is problem and q is y


def test_negative_counts_are_refused() -> None:
    problem = InverseProblem(Transmission(5.0) @ BEAM, CountNoise())
    y = torch.ones(1, 1, 3, 8)
    y[0, 0, 1, 2] = -1
    with pytest.raises(ValueError, match="at least 0; subtract no offset"):
        take_logarithm(problem, y)
    take_logarithm(InverseProblem(problem.operator, CountNoise(std=1.0)), y)
    y[0, 0, 1, 2] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        take_logarithm(problem, y)


class TestScale:
    @pytest.mark.parametrize("mean", [8.0, 30.0, 200.0])
    def test_bias(self, mean: float) -> None:
        """E ln(k + 1/2) is ln s to within 1 / (6 s^2), and E ln k is off by 1 / (2 s).

        With d = k - s and a = s + 1/2, ln(k + 1/2) = ln a + d/a - d^2/(2 a^2) + d^3/(3 a^3) -
        d^4/(4 a^4) + ..., and the moments of d are 0, s, s, 3 s^2 + s, so that the mean is
        ln s + (1/2 - 1/8/s) / s - 1/(2 s) + (1/2 + 1/3 - 3/4) / s^2 + O(1/s^3): off by -1/24/s^2
        and by terms of the next order, for which the bound leaves room from s = 8 on.
        """
        k = np.arange(int(mean + 60 * math.sqrt(mean)))
        q = LogCountNoise(1e3).written(torch.from_numpy(k.astype(float))[None])[0].numpy()
        found = (scipy.stats.poisson(mean).pmf(k) * q).sum()
        assert abs(found + math.log(mean / 1e3)) < 1 / (6 * mean**2)

    def test_variance_is_that_of_many_photons(self) -> None:
        """Against draws: with s photons, a background b and read noise r, (s + b + r^2) / s^2."""
        noise, s = LogCountNoise(4000.0, background=500.0, std=30.0), 4000 * math.exp(-0.7)
        mean = torch.full((1, 200_000), 0.7, dtype=F64)
        q = noise.sample(mean, seeded(0))
        expected = (s + 500 + 900) / s**2
        torch.testing.assert_close(
            noise.covariance_matvec(mean, torch.ones_like(mean))[0, 0],
            torch.tensor(expected, dtype=F64),
        )
        # chance: 4 sqrt(2 / n); the next order of the logarithm: a few times the variance
        assert float(q.var()) == pytest.approx(expected, rel=4 * math.sqrt(1e-5) + 4 * expected)
