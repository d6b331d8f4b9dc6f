"""The density of photon counts with read noise, against the whole sum."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

import problems.noise.counts as counts
from problems import PoissonGaussianNoise
from problems.noise.counts import log_count_density
from tests.conftest import F64, seeded

RATES = [1e-6, 1e-3, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 400.0, 800.0, 2000.0, 1e4]
STDS = [0.05, 0.3, 1.0, 3.0, 10.0, 30.0, 1e3, 3e4]


def whole_sum(read: Tensor, rate: float, std: float) -> Tensor:
    """Every count within 60 nats of the largest, by SciPy's Poisson law."""
    low = min(rate - 14 * math.sqrt(rate), float(read.min()) - 14 * std)
    high = max(rate + 14 * math.sqrt(rate), float(read.max()) + 14 * std) + 60
    high = min(high, rate + 14 * math.sqrt(rate) + 60 + max(0.0, float(read.max()) - rate))
    k = torch.arange(max(0, int(low)), int(high) + 1, dtype=F64)[:, None]
    count = torch.from_numpy(scipy.stats.poisson(rate).logpmf(k.numpy()))
    normal = -0.5 * ((read - k) / std).square() - math.log(std * math.sqrt(2 * math.pi))
    return (count + normal).logsumexp(0)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("std", STDS)
def test_it_is_the_whole_sum(rate: float, std: float) -> None:
    """The bound on the error is 1e-16 of the sum; SciPy rounds terms as large as the rate."""
    read = rate + torch.linspace(-6, 6, 13, dtype=F64) * math.sqrt(rate + std**2)
    found = log_count_density(read, torch.full_like(read, rate), std)
    rounding = 16 * torch.finfo(F64).eps * max(1.0, rate * math.log(max(rate, 2.0)))
    torch.testing.assert_close(found, whole_sum(read, rate, std), rtol=1e-13, atol=rounding)


@pytest.mark.parametrize(("rate", "std"), [(900.0, 40.0), (2e3, 500.0), (5.0, 0.7)])
def test_the_gradient_is_the_mean_count(rate: float, std: float) -> None:
    """d ln p / d rate = E[k | r] / rate - 1, with the mean over all counts."""
    read = torch.tensor([0.9 * rate, 1.2 * rate], dtype=F64)
    rates = torch.full_like(read, rate).requires_grad_()
    (found,) = torch.autograd.grad(log_count_density(read, rates, std).sum(), rates)
    k = torch.arange(int(3 * rate) + 60, dtype=F64)[:, None]
    terms = torch.distributions.Poisson(rate).log_prob(k) - 0.5 * ((read - k) / std).square()
    expected = (terms.softmax(0) * k).sum(0) / rate - 1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_second_derivatives_are_finite_and_right() -> None:
    read = torch.tensor([3.0, 900.0, 1500.0], dtype=F64)
    rates = torch.tensor([2.0, 1000.0, 1400.0], dtype=F64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda r: log_count_density(read, r, 25.0), rates)


@pytest.mark.parametrize("peak", [1.0, 300.0, 1e3, 1e5, 1e9, 1e12])
@pytest.mark.parametrize("std", [1e-3, 0.05, 1.0])
def test_the_number_of_terms_does_not_grow(
    peak: float, std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over all counts within 8 std would take 8 std peak of them."""
    seen: list[int] = []
    inner = counts._log_poisson

    def spy(k: Tensor, rate: Tensor, log_rate: Tensor) -> Tensor:
        seen.append(len(k))
        return inner(k, rate, log_rate)

    monkeypatch.setattr(counts, "_log_poisson", spy)
    mean = torch.linspace(-1, 1, 64, dtype=F64)[None]
    noise = PoissonGaussianNoise(peak, std)
    density = noise.log_density(noise.sample(mean, seeded()), mean)
    assert bool(torch.isfinite(density).all())
    assert sum(seen) <= 450


def test_many_photons_are_gaussian() -> None:
    """Of 1e12 photons the law is Gaussian, up to the skewness of one part in 1e6."""
    noise = PoissonGaussianNoise(1e12, 1e-5)
    mean = torch.zeros(1, 5, dtype=F64)
    std = math.sqrt(4 * 0.5e12 / 1e24 + 1e-10)
    y = mean + std * torch.linspace(-2, 2, 5, dtype=F64)
    expected = torch.distributions.Normal(mean, std).log_prob(y)
    torch.testing.assert_close(noise.log_density(y, mean), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_density_integrates_to_one() -> None:
    for peak, std in ((2.0, 0.3), (50.0, 0.02), (5e3, 0.05)):
        noise = PoissonGaussianNoise(peak, std)
        y = torch.linspace(-4, 30, 340_001, dtype=F64)[None]
        density = noise.log_density(y, torch.full_like(y, 0.4)).exp()
        torch.testing.assert_close(
            torch.trapezoid(density[0], y[0]), torch.tensor(1.0, dtype=F64), rtol=0, atol=1e-9
        )
