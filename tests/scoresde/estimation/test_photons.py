"""The estimated photons: the likelihood's maximum where x is known, the evidence's where exact."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from scipy import optimize
from torch import Tensor

from problems import (
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    Noise,
    Operator,
    PoissonGaussianNoise,
    PoissonNoise,
    Quantisation,
    random_mask,
)
from scoresde import GaussianPrior
from scoresde.estimation import PhotonEstimate, estimate_photons
from scoresde.estimation.photon_denoiser import PhotonDenoiser
from scoresde.estimation.photon_transfer import photon_transfer
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from tests.conftest import F64, seeded

SIDE = 24
PRIOR = GaussianPrior(torch.zeros(1, SIDE, SIDE), torch.eye(SIDE**2))
"""A prior that a sampler of the known picture does not look at."""


def known_picture(side: int = SIDE) -> Tensor:
    """Waves between dark and bright."""
    axis = torch.linspace(0, 6, side, dtype=F64)
    return (0.9 * torch.sin(axis[:, None] + 0.3) * torch.cos(axis))[None, None]


@dataclass(frozen=True)
class Known(IndependentSampler):
    """The picture itself: the posterior of a prior that is one picture."""

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset()

    x: Tensor = field(default_factory=known_picture)

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        return self.x.expand(len(run.randn()), *self.x.shape[1:]), 0


# the blur has no denoiser of its own, so that the draws are asked
PASSING = GaussianBlur(0.3, "reflect")


def estimated(
    noise: Noise, seed: int, x: Tensor | None = None, *, both: bool = False
) -> tuple[PhotonEstimate, Tensor, Tensor]:
    """The estimate of a known picture, the measurement and its mean."""
    x = known_picture() if x is None else x
    problem = InverseProblem(PASSING, noise)
    y = problem.measure(x, seeded(seed))
    found = estimate_photons(problem, y, PRIOR, read_noise=both, solver=Known(x), draws=4)
    return found, y, problem.operator.apply(x)


def gaussian_cost(y: Tensor, mean: Tensor, gain: float, variance: float) -> float:
    v = 2 * gain * (mean + 1) + variance
    return 0.5 * float(((y - mean).square() / v + v.log()).sum())


# ---- a known picture


@pytest.mark.parametrize("peak", [20.0, 300.0])
def test_it_is_the_maximum_of_the_likelihood_of_a_known_picture(peak: float) -> None:
    found, y, mean = estimated(PoissonGaussianNoise(peak, 0.05), 0)
    best = optimize.minimize_scalar(
        lambda t: gaussian_cost(y, mean, math.exp(-t), 0.05**2),
        bounds=(math.log(peak) - 2, math.log(peak) + 2),
        method="bounded",
        options={"xatol": 1e-6},
    )
    assert found.photons == pytest.approx(math.exp(best.x), rel=1e-3)
    assert found.read_noise == 0.05 and found.read_noise_error is None
    assert isinstance(found.problem.noise, PoissonGaussianNoise)
    assert found.problem.noise.peak == found.photons


def test_both_numbers_are_the_maximum_of_the_likelihood_of_a_known_picture() -> None:
    found, y, mean = estimated(PoissonGaussianNoise(80.0, 0.1), 1, both=True)
    best = optimize.minimize(
        lambda t: gaussian_cost(y, mean, math.exp(-t[0]), math.exp(2 * t[1])),
        [math.log(80), math.log(0.1)],
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9},
    )
    # the search ends with a step of a tenth of the standard error, and is closer than that
    assert found.read_noise_error is not None
    assert abs(found.photons - math.exp(best.x[0])) < 0.05 * found.error
    assert abs(found.read_noise - math.exp(best.x[1])) < 0.05 * found.read_noise_error


def test_it_is_close_to_the_maximum_of_the_density_of_counts() -> None:
    """Of 300 photons, whose skewness moves the maximum by a small part of the standard error."""
    found, y, mean = estimated(PoissonGaussianNoise(300.0, 0.05), 2)
    best = optimize.minimize_scalar(
        lambda t: -float(PoissonGaussianNoise(math.exp(t), 0.05).log_prob(y, mean)),
        bounds=(math.log(300) - 1, math.log(300) + 1),
        method="bounded",
        options={"xatol": 1e-5},
    )
    assert abs(found.photons - math.exp(best.x)) < 0.5 * found.error


@pytest.mark.slow
@pytest.mark.parametrize(
    "noise",
    [PoissonNoise(8.0), PoissonGaussianNoise(15.0, 0.05)],
    ids=["counts alone", "with read noise"],
)
def test_standard_errors_cover(noise: Any) -> None:
    """200 measurements of one picture: 90 % intervals hold the truth in 85 to 95 %."""
    held = 0
    for seed in range(200):
        found, _, _ = estimated(noise, seed)
        z = math.log(found.photons / noise.peak) / (found.error / found.photons)
        held += abs(z) < 1.645
    assert 170 <= held <= 190


@pytest.mark.slow
def test_standard_errors_of_both_cover() -> None:
    peak, std, held = 60.0, 0.12, [0, 0]
    for seed in range(200):
        found, _, _ = estimated(PoissonGaussianNoise(peak, std), seed, both=True)
        assert found.read_noise_error is not None
        z = (
            math.log(found.photons / peak) / (found.error / found.photons),
            math.log(found.read_noise / std) / (found.read_noise_error / found.read_noise),
        )
        held = [count + (abs(one) < 1.645) for count, one in zip(held, z, strict=True)]
    assert all(170 <= count <= 190 for count in held), held


# ---- a picture that is uncertain, with an exact posterior

AXIS = torch.arange(14, dtype=F64)
FIELD = torch.exp(-(AXIS[:, None] - AXIS).abs() / 5)
LAW = GaussianPrior(torch.zeros(1, 14, 14, dtype=F64), 0.05**2 * torch.kron(FIELD, FIELD))
"""Pictures of nearly one brightness, so that the posterior of x hardly depends on that of v."""


def posterior_mean(problem: InverseProblem, y: Tensor) -> Tensor:
    noise: Any = problem.noise
    flat = GaussianNoise(math.sqrt(2 / noise.peak + noise.std**2))
    return LAW.posterior(InverseProblem(problem.operator, flat), y).means.reshape(y.shape)


def gaussian_evidence(
    operator: Operator, y: Tensor, light: Tensor, gain: float, variance: float
) -> float:
    """The ln p(y) of Gaussian noise with the variance of this light, (m,)."""
    A = InverseProblem(operator, GaussianNoise(1.0)).linear_operator.dense(LAW.shape, F64)
    S = A @ LAW.covariances[0] @ A.T + torch.diag(4 * gain * light + variance)
    law = torch.distributions.MultivariateNormal(torch.zeros(len(A), dtype=F64), S)
    return float(law.log_prob(y.flatten()))


@dataclass(frozen=True)
class Exact(IndependentSampler):
    """Exact draws under noise with the variance of mean light."""

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset({"linear"})

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        noise: Any = run.problem.noise
        flat = GaussianNoise(math.sqrt(2 / noise.peak + noise.std**2))
        posterior = LAW.posterior(InverseProblem(run.problem.operator, flat), run.y[:1])
        root = torch.linalg.cholesky(posterior.covariances[0])
        white = run.randn().to(F64).flatten(1)
        return (posterior.means + white @ root.T).reshape(len(white), *LAW.shape), 0


@pytest.mark.parametrize("operator", [GaussianBlur(1.0, "reflect"), Denoising()], ids=repr)
@pytest.mark.parametrize("peak", [200.0, 800.0])
def test_the_posterior_finds_the_maximum_of_the_evidence(
    operator: Operator, peak: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By draws under a blur, and by the denoiser where y shows the picture."""
    monkeypatch.setattr("scoresde.estimation.photon_denoiser._COPIES", 64)  # less noise of its own
    noise = PoissonGaussianNoise(peak, 0.02)
    problem = InverseProblem(operator, noise)
    y = problem.measure(LAW.sample(1, seeded(3)), seeded(4))

    light = (operator.apply(posterior_mean(problem, y)).flatten() + 1) / 2

    def cost(t: float) -> float:
        return -gaussian_evidence(operator, y, light, math.exp(-t), 0.02**2)

    best = optimize.minimize_scalar(
        cost, bounds=(math.log(peak) - 2, math.log(peak) + 2), method="bounded"
    ).x
    information = (cost(best + 0.05) - 2 * cost(best) + cost(best - 0.05)) / 0.05**2
    found = estimate_photons(problem, y, LAW, solver=Exact(), draws=400)
    assert found.source == ("denoiser" if isinstance(operator, Denoising) else "draws")
    # the Monte-Carlo error of 400 draws or of 128 probes is a tenth of the standard error
    distance = abs(math.log(found.photons) - best)
    assert distance < 0.3 * information**-0.5
    assert found.error / found.photons == pytest.approx(information**-0.5, rel=0.2)


def test_missing_pixels_are_filled() -> None:
    problem = InverseProblem(
        Inpainting(random_mask(14, 14, 0.3, seeded())), PoissonGaussianNoise(200.0, 0.02)
    )
    y = problem.measure(LAW.sample(1, seeded(3)), seeded(4))
    found = estimate_photons(problem, y, LAW, solver=Exact(), draws=32)
    assert found.source == "denoiser" and PhotonDenoiser.fits(problem)
    assert found.entries == int(problem.operator.observed(y).sum())
    assert abs(found.photons - 200) < 3 * found.error < 200


# ---- the first guess


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6])
def test_the_line_is_seen_on_a_slope_through_holes(missing: float) -> None:
    mask = random_mask(96, 96, missing, seeded()) if missing else torch.ones(96, 96) == 1
    problem = InverseProblem(Inpainting(mask), PoissonGaussianNoise(50.0, 0.1))
    slope = torch.linspace(-0.9, 0.9, 96, dtype=F64).expand(1, 3, 96, 96)
    y = problem.measure(slope, seeded(1))
    known = photon_transfer(problem, y, 0.1**2)
    assert known.gain == pytest.approx(1 / 50, rel=0.15)
    both = photon_transfer(problem, y)
    assert both.gain == pytest.approx(1 / 50, rel=0.25)
    assert both.read_variance == pytest.approx(0.1**2, rel=0.6)  # a fifth of the whole variance


def test_clipped_pixels_do_not_count() -> None:
    problem = InverseProblem(Denoising(), PoissonGaussianNoise(30.0, 0.1))
    slope = torch.linspace(-1.2, 1.2, 96, dtype=F64).expand(1, 3, 96, 96).clamp(-1, None)
    y = problem.measure(slope, seeded()).clamp(-1, 1)
    line = photon_transfer(problem, y, 0.1**2)
    assert line.gain == pytest.approx(1 / 30, rel=0.25)
    counted = slope[line.unclipped]
    assert -0.9 < float(counted.min()) < -0.4 < 0.2 < float(counted.max()) < 0.6
    everything = photon_transfer(problem, problem.measure(slope, seeded()), 0.1**2)
    assert bool(everything.unclipped.all())


# ---- what cannot be estimated


@pytest.mark.parametrize(
    ("operator", "noise", "y", "message"),
    [
        (Denoising(), PoissonNoise(9.0), torch.full((1, 1, 14, 14), 0.2), "shows no noise"),
        (Denoising(), PoissonNoise(9.0), torch.rand(1, 1, 5, 5), "from 25 numbers"),
        (Denoising(), GaussianNoise(1.0), torch.rand(1, 1, 14, 14), "not of GaussianNoise"),
        (Quantisation(8), PoissonNoise(9.0), torch.rand(1, 1, 14, 14), "hides the noise"),
        (Denoising(), PoissonNoise(9.0), torch.rand(2, 1, 14, 14), "one measurement"),
        (Denoising(), PoissonNoise(9.0), torch.full((1, 1, 14, 14), torch.nan), "not finite"),
    ],
    ids=["constant", "few", "Gaussian", "rounded", "two", "NaN"],
)
def test_hopeless_requests_end_in_one_line(
    operator: Operator, noise: Noise, y: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        estimate_photons(InverseProblem(operator, noise), y, LAW)
    assert "\n" not in str(raised.value)


def test_read_noise_above_all_photons_is_refused() -> None:
    """A hundred thousand photons under read noise of 0.5 change nothing that can be seen."""
    with pytest.raises(ValueError, match="says too little about its photons"):
        estimated(PoissonGaussianNoise(1e5, 0.5), 0, both=True)


def test_noise_below_the_rounding_of_a_file_is_refused() -> None:
    x = known_picture()
    y = (PASSING.apply(x) * 8).round() / 8
    problem = InverseProblem(PASSING, PoissonGaussianNoise(1.0, 0.001))
    with pytest.raises(ValueError, match="below the rounding"):
        estimate_photons(problem, y, PRIOR, solver=Known(x), draws=4)


def test_read_noise_that_is_not_seen_has_an_error_that_says_so() -> None:
    found, _, _ = estimated(PoissonGaussianNoise(30.0, 0.001), 1, both=True)
    assert found.read_noise_error is not None and found.read_noise < 0.01
    # a share of the noise of the dark pixels, 2 sqrt(u / P) with u = 0.05
    assert 0.005 < found.read_noise_error < 0.08
    assert abs(found.photons - 30) < 3 * found.error < 15


def test_counts_alone_have_no_read_noise() -> None:
    found, _, _ = estimated(PoissonNoise(30.0), 0)
    assert found.read_noise == 0 and isinstance(found.problem.noise, PoissonNoise)
    report = found.report()
    assert report["source"] == "draws" and report["entries"] == SIDE**2
    assert report["read_noise_error"] is None
