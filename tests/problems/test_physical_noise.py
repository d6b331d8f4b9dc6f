"""Noises in physical units against scipy.stats, and solvers that run on them."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from problems import (
    CountNoise,
    GaussianBlur,
    InverseProblem,
    LogPoissonNoise,
    Noise,
    RicianNoise,
    SpeckleNoise,
)
from scoresde import GaussianPrior
from solvers import solve
from tests.conftest import F64, seeded

BLACK = -1.0


def constant(value: float, n: int = 1) -> Tensor:
    return torch.full((1, n), value, dtype=F64)


def density(noise: Noise, y: float, mean: float) -> float:
    return math.exp(float(noise.log_density(constant(y), constant(mean))))


class TestRician:
    @pytest.mark.parametrize("signal", [0.0, 0.1, 0.9, 3.0])
    def test_density(self, signal: float) -> None:
        """Within 8 standard deviations: scipy takes the logarithm of the density itself.

        Farther out its density underflows.
        """
        r = torch.linspace(max(0.01, signal - 2.4), signal + 2.4, 200, dtype=F64)[None]
        expected = scipy.stats.rice(signal / 0.3, scale=0.3).logpdf(r.numpy())
        found = RicianNoise(0.3).log_density(BLACK + r, constant(BLACK + signal, 200))
        np.testing.assert_allclose(found, expected, atol=1e-11)

    def test_a_negative_signal_has_the_magnitude_of_a_positive_one(self) -> None:
        r = torch.linspace(0.1, 2, 9, dtype=F64)[None]
        noise = RicianNoise(0.3, black=0.0)
        found = noise.log_density(r, constant(-0.7, 9))
        torch.testing.assert_close(found, noise.log_density(r, constant(0.7, 9)), rtol=0, atol=0)

    def test_nothing_is_darker_than_black(self) -> None:
        y = torch.tensor([[-0.01, 0.0, 0.01]], dtype=F64)
        found = RicianNoise(0.3, black=0.0).log_density(y, constant(0.5, 3))[0]
        assert float(found[0]) == float(found[1]) == -math.inf and math.isfinite(found[2])

    def test_a_strong_signal_does_not_overflow(self) -> None:
        """Far from zero the law is normal, up to terms of the order of std / signal.

        For a signal of 1e5 standard deviations, ln p = -1/2 d^2 - ln(std sqrt(2 pi)) + O(1e-5).
        """
        y = torch.tensor([[99.9, 100.0, 100.1]], dtype=F64)
        found = RicianNoise(1e-3, black=0.0).log_density(y / 1.0, constant(100.0, 3))
        expected = scipy.stats.norm(100, 1e-3).logpdf(y.numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        score = RicianNoise(1e-3, black=0.0).score(y, constant(100.0, 3))
        np.testing.assert_allclose(score, (y - 100) / 1e-6, rtol=1e-4, atol=0.01)

    @pytest.mark.parametrize("signal", [10.0, 1e3, 1e5])
    def test_second_moment_of_a_strong_signal(self, signal: float) -> None:
        """1 + O(signal^-2), in single precision too, where signal^2 - signal E[r] cancels."""
        mean = torch.full((1, 3), signal) * torch.tensor([0.9, 1.0, 1.1])
        found = RicianNoise(1.0, black=0.0).covariance_matvec(mean, torch.ones(1, 3))
        assert found.dtype == torch.float32
        assert float((found - 1).abs().max()) < 1 / signal**2 + 1e-5


class TestSpeckle:
    @pytest.mark.parametrize("looks", [0.5, 1.0, 4.0, 100.0])
    def test_density(self, looks: float) -> None:
        y = torch.linspace(0.01, 5, 100, dtype=F64)[None]
        expected = scipy.stats.gamma(looks, scale=0.7 / looks).logpdf(y.numpy())
        found = SpeckleNoise(looks).log_density(BLACK + y, constant(BLACK + 0.7, 100))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


CONTINUOUS = {
    "rician": RicianNoise(0.3),
    "rician-dark": RicianNoise(2.0),
    "speckle": SpeckleNoise(4.0),
    "one-look": SpeckleNoise(1.0),
    "counts-read": CountNoise(0.3, 0.1),
}


class TestAll:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", CONTINUOUS)
    def test_integrates_to_one(self, name: str) -> None:
        """By adaptive quadrature, whose own error is below 1e-8."""
        noise, mean = CONTINUOUS[name], 0.25
        low = BLACK if name != "counts-read" else -2.0
        total = scipy.integrate.quad(
            lambda y: density(noise, y, mean), low, 25.0, limit=400, points=[0.0, 1.0, 3.0]
        )[0]
        assert total == pytest.approx(1, abs=1e-7)

    @pytest.mark.parametrize("noise", [CountNoise(0.3), LogPoissonNoise(20.0, 0.7)], ids=str)
    def test_probabilities_of_counts_sum_to_one(self, noise: Noise) -> None:
        k = torch.arange(200, dtype=F64)[None]
        if isinstance(noise, CountNoise):
            y = noise.gain * k
        else:
            y = -(k.clamp_min(0.5) / 20).log() / 0.7
        total = noise.log_density(y, constant(0.6, 200)).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-10)

    @pytest.mark.parametrize(
        ("noise", "law", "mean"),
        [
            (RicianNoise(0.3), scipy.stats.rice(1.25 / 0.3, BLACK, 0.3), 0.25),
            (RicianNoise(2.0), scipy.stats.rice(1.25 / 2, BLACK, 2.0), 0.25),
            (SpeckleNoise(4.0), scipy.stats.gamma(4, BLACK, 1.25 / 4), 0.25),
            (SpeckleNoise(0.5), scipy.stats.gamma(0.5, BLACK, 1.25 / 0.5), 0.25),
        ],
        ids=["rician", "rician-dark", "speckle", "half-a-look"],
    )
    def test_draws(self, noise: Noise, law: scipy.stats.rv_continuous, mean: float) -> None:
        """Their law by Kolmogorov and Smirnov, and their second moment about the mean."""
        n = 50_000
        y = noise.sample(constant(mean, n), seeded())[0].numpy()
        assert scipy.stats.kstest(y, law.cdf).pvalue > 1e-6
        squares = (y - mean) ** 2
        moment = float(noise.covariance_matvec(constant(mean), constant(1.0)))
        assert moment == pytest.approx(law.var() + (law.mean() - mean) ** 2, rel=1e-12)
        assert abs(squares.mean() - moment) < 5 * squares.std() / n**0.5

    def test_draws_of_counts(self) -> None:
        """Counts of mean 12, also through the logarithm."""
        n, law = 50_000, scipy.stats.poisson(12)
        sinogram = LogPoissonNoise(100.0, 0.7).sample(
            constant(math.log(100 / 12) / 0.7, n), seeded()
        )
        through = 100 * (-0.7 * sinogram).exp()
        through[through < 0.75] = 0  # written as half a photon
        for k in (CountNoise(0.5).sample(constant(6.0, n), seeded()) / 0.5, through):
            torch.testing.assert_close(k, k.round(), atol=1e-9, rtol=0)
            observed = np.bincount(k[0].round().clamp(4, 22).long(), minlength=23)[4:]
            expected = np.array([law.cdf(4), *law.pmf(np.arange(5, 22)), law.sf(21)]) * n
            assert scipy.stats.chisquare(observed, expected).pvalue > 1e-6

    def test_a_ray_without_a_photon(self) -> None:
        """It has the probability of no count, exp(-rate), and stays finite."""
        noise = LogPoissonNoise(100.0)
        y = noise.sample(constant(20.0, 50), seeded())
        assert bool(torch.isfinite(y).all())
        torch.testing.assert_close(y, torch.full_like(y, math.log(200)))
        found = noise.log_density(y, constant(math.log(100 / 0.3), 50))
        torch.testing.assert_close(found, torch.full_like(found, -0.3))

    def test_counts_are_the_density_of_the_sinogram(self) -> None:
        """Count and its logarithm tell the same about the line integral."""
        p = torch.linspace(0, 4, 9, dtype=F64)[None].requires_grad_()
        k = CountNoise().sample(1e3 * (-p.detach()).exp(), seeded())
        scores = [
            torch.autograd.grad(noise.log_prob(y, mean).sum(), p)[0]
            for noise, y, mean in (
                (CountNoise(), k, 1e3 * (-p).exp()),
                (LogPoissonNoise(1e3), -(k / 1e3).log(), p),
            )
        ]
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-10, atol=1e-9)

    def test_negative_counts_are_impossible(self) -> None:
        assert float(CountNoise().log_prob(constant(-1.0), constant(5.0))) == -math.inf

    @pytest.mark.parametrize("solver", ["dps", "mmps"])
    @pytest.mark.parametrize(
        "noise", [RicianNoise(0.1), SpeckleNoise(200.0), CountNoise(0.01)], ids=str
    )
    def test_solvers_run(self, noise: Noise, solver: str) -> None:
        """Draws lie nearer to the truth than the prior mean does."""
        prior = GaussianPrior(
            torch.full((1, 4, 4), 0.5, dtype=F64), 0.04 * torch.eye(16, dtype=F64)
        )
        problem = InverseProblem(GaussianBlur(0.5, "reflect", 2.0), noise)
        x = 0.5 + 0.2 * torch.randn(8, 1, 4, 4, generator=seeded(), dtype=F64)
        y = problem.measure(x, seeded(1))
        mean = solve(prior, problem, y, solver=solver, n=4, generator=seeded(2)).mean
        assert bool(torch.isfinite(mean).all())
        assert float((mean - x).square().mean()) < float((x - 0.5).square().mean())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RicianNoise(0.0), "the level of Rician noise must be positive"),
        (lambda: RicianNoise(1.0, math.nan), "black"),
        (lambda: SpeckleNoise(-1.0), "the number of looks must be positive"),
        (lambda: CountNoise(0.0), "the gain must be positive"),
        (lambda: CountNoise(1.0, -1.0), "the noise level"),
        (lambda: LogPoissonNoise(0.0), "the number of photons must be positive"),
        (lambda: LogPoissonNoise(1.0, 0.0), "mu must be positive"),
    ],
)
def test_errors(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
