"""X-rays in counts: solvers find what the exact posterior, and the logarithm, say."""

import math

import pytest
import torch

from problems import (
    CountNoise,
    Denoising,
    FanBeam,
    InverseProblem,
    NonlinearFunction,
    Transmission,
    angles_between,
    attenuation_of,
)
from scoresde import GaussianPrior, load_prior
from scoresde.data.phantoms import body_phantoms
from solvers import (
    MMPS,
    Guided,
    Heun,
    PosteriorSampler,
    SecondOrderAncestral,
    WarmStart,
    make_solver,
)
from tests.conftest import F64, seeded

ONE = MMPS(iterations=1)  # which is exact for one pixel
SOLVERS: dict[str, PosteriorSampler] = {
    "second-order": SecondOrderAncestral(40, lanczos=1, correction=ONE),
    "warm-start": WarmStart(20, lanczos=1, correction=ONE, loss=0.01, sweeps=2, s_least=0.01),
    "mmps": Guided(ONE, Heun(64, churn=20.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_one_pixel(name: str) -> None:
    """Mean and spread against a sum over a grid, two and a half widths from the prior's mean.

    300 of 10,000 photons are left, where the mean of the prior promises 3,700. The Gaussian
    approximation is off by the order of one over the count: half of it is the curvature of the
    logarithm, which makes the mean uncertain by 1 / (2 k) and the variance by a share of 1 / k.
    """
    photons, k, n = 1e4, 300.0, 4000
    prior = GaussianPrior(torch.ones(1, 1, 1, dtype=F64), torch.eye(1, dtype=F64))
    problem = InverseProblem(Transmission(photons) @ Denoising(), CountNoise())
    x = torch.linspace(0, 8, 100_001, dtype=F64)
    density = (-((x - 1) ** 2) / 2 - k * x - photons * (-x).exp()).softmax(0)
    mean = float(density @ x)
    std = math.sqrt(float(density @ (x - mean) ** 2))
    y = torch.full((1, 1, 1, 1), k, dtype=F64)
    found = SOLVERS[name].sample(prior, problem, y, n, generator=seeded(0))
    assert abs(float(found.mean) - mean) < 4 * std / math.sqrt(n) + 1 / (2 * k)
    # chance, the count, and the grids of 20 to 64 levels, which are within 3 % on Gaussians
    assert float(found.std) == pytest.approx(std, rel=4 / math.sqrt(2 * n) + 1 / k + 0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["warm-start", "mmps", "hqs"])
def test_a_phantom(name: str) -> None:
    """A learned prior and counts from 17 to 5,000 a ray: no worse than by the logarithm.

    Linearised exponentials give 100 to 700 HU here, filtered back-projection 60. A mean of draws
    that is right is nearer: about half of that is asked for, and residuals as large as the noise.
    """
    water, photons, side = 0.02, 5000.0, 64
    fan = FanBeam(angles_between(90, 0, 360), (side, side), 5.0, 540.0, 410.0, 96, 6.2)
    truth = body_phantoms(1, side, seeded(21))[None, 0]
    counts = InverseProblem(Transmission(photons) @ fan, CountNoise())
    y = counts.measure(attenuation_of(truth, water), seeded(22))
    units = NonlinearFunction(lambda x: attenuation_of(1000 * (x - 0.5), water), (1, side, side))
    problem = InverseProblem(Transmission(photons) @ fan @ units, CountNoise())
    prior = load_prior("phantoms/body", precision="fp32")
    n = 1 if name == "hqs" else 2
    found = make_solver(name).sample(prior, problem, y, n, generator=seeded(0))
    error = 1000 * (found.mean - 0.5) - truth
    assert float(error.square().mean().sqrt()) < 35
    if name != "hqs":
        assert max(found.diagnostics["residual"]) < 1.2
