"""The estimated noise level: exact where the evidence is, and refused where nothing shows it."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from problems import (
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    Operator,
    PoissonNoise,
    Quantisation,
    SuperResolution,
    random_mask,
)
from scoresde import GaussianMixturePrior, GaussianPrior
from scoresde.estimation import estimate_noise
from scoresde.estimation.evidence import GaussianEvidence
from scoresde.estimation.first_guess import first_guess
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from tests.conftest import F64, seeded

SIDE = 14
AXIS = torch.arange(SIDE, dtype=F64)
FIELD = torch.exp(-(AXIS[:, None] - AXIS).abs() / 5)
PRIOR = GaussianPrior(torch.zeros(1, SIDE, SIDE, dtype=F64), 0.09 * torch.kron(FIELD, FIELD))
HOLES = Inpainting(random_mask(SIDE, SIDE, 0.3, seeded()))
OPERATORS: dict[str, Operator] = {
    "denoise": Denoising(),
    "blur": GaussianBlur(1.0, "reflect"),
    "inpaint": HOLES,
}


def without_evidence(prior: GaussianPrior) -> GaussianMixturePrior:
    """The same law, which is not known to be a Gaussian."""
    return GaussianMixturePrior(
        torch.ones(1), prior.means.reshape(1, *prior.shape), prior.covariances
    )


@dataclass(frozen=True)
class Exact(IndependentSampler):
    """Exact draws of a mixture."""

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "normal"})

    law: GaussianPrior = field(default_factory=lambda: PRIOR)

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        posterior = self.law.posterior(run.problem, run.y[:1])
        root = torch.linalg.cholesky(posterior.covariances[0])
        white = run.randn().to(F64).flatten(1)
        return (posterior.means + white @ root.T).reshape(len(white), *self.law.shape), 0


# ---- the exact evidence


@pytest.mark.parametrize("name", OPERATORS)
def test_the_evidence_is_the_density_of_the_measurement(name: str) -> None:
    problem = InverseProblem(OPERATORS[name], GaussianNoise(0.1))
    y = problem.measure(PRIOR.sample(3, seeded()), seeded(1))
    seen = problem.operator.observed(y[:1]).expand_as(y[:1]).flatten()
    A = problem.linear_operator.dense(PRIOR.shape, F64)[seen]
    for sigma in (0.05, 0.3):
        S = A @ PRIOR.covariances[0] @ A.T + sigma**2 * torch.eye(len(A), dtype=F64)
        law = torch.distributions.MultivariateNormal(torch.zeros(len(A), dtype=F64), S)
        flat = y.flatten(1)[:, seen]
        found = GaussianEvidence.of(PRIOR, problem, y[:1]).log_prob(
            flat, torch.full((3,), sigma, dtype=F64)
        )
        torch.testing.assert_close(found, law.log_prob(flat), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", OPERATORS)
def test_its_maximum_has_no_slope_and_the_stated_curvature(name: str) -> None:
    problem = InverseProblem(OPERATORS[name], GaussianNoise(0.15))
    y = problem.measure(PRIOR.sample(4, seeded()), seeded(1))
    seen = problem.operator.observed(y[:1]).expand_as(y[:1]).flatten()
    evidence, flat = GaussianEvidence.of(PRIOR, problem, y[:1]), y.flatten(1)[:, seen]
    best = evidence.maximise(flat)
    theta = best.sigma.log().requires_grad_()
    slope = torch.autograd.grad(
        evidence.log_prob(flat, theta.exp()).sum(), theta, create_graph=True
    )[0]
    curvature = torch.autograd.grad(slope.sum(), theta)[0]
    assert float(slope.detach().abs().max()) < 1e-6
    torch.testing.assert_close(-curvature, best.information, rtol=1e-6, atol=1e-6)
    around = torch.stack([best.sigma * f for f in (0.3, 0.7, 1.0, 1.5, 3.0)], 1)
    assert bool((evidence.log_prob(flat, around).argmax(1) == 2).all())


@pytest.mark.parametrize("name", OPERATORS)
def test_standard_errors_cover(name: str) -> None:
    """500 measurements: 95 and 68 % intervals of ln sigma, within binomial scatter of 4 sd."""
    sigma, runs = 0.15, 500
    problem = InverseProblem(OPERATORS[name], GaussianNoise(sigma))
    y = problem.measure(PRIOR.sample(runs, seeded(2)), seeded(3))
    seen = problem.operator.observed(y[:1]).expand_as(y[:1]).flatten()
    found = GaussianEvidence.of(PRIOR, problem, y[:1]).maximise(y.flatten(1)[:, seen])
    z = (found.sigma.log() - math.log(sigma)) / found.error
    for level, reach in ((0.95, 1.96), (0.6827, 1.0)):
        covered = float((z.abs() < reach).double().mean())
        assert abs(covered - level) < 4 * (level * (1 - level) / runs) ** 0.5, level
    assert abs(float(z.mean())) < 0.3  # the bias is of second order


def test_a_measurement_without_noise_has_no_maximum() -> None:
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    smooth = GaussianPrior(
        torch.zeros(100, dtype=F64),
        torch.exp(-((torch.arange(100.0, dtype=F64)[:, None] - torch.arange(100.0)) ** 2) / 50)
        + 1e-9 * torch.eye(100, dtype=F64),
    )
    with pytest.raises(ValueError, match="cannot be told from none"):
        estimate_noise(problem, smooth.sample(1, seeded()), smooth)


# ---- the posterior in place of the evidence


@pytest.mark.parametrize("sigma", [0.08, 0.2])
def test_draws_find_the_maximum_of_the_evidence(sigma: float) -> None:
    """EM's fixed point is the maximum, whose error with n draws Louis's formula states."""
    problem = InverseProblem(OPERATORS["blur"], GaussianNoise(sigma))
    y = problem.measure(PRIOR.sample(1, seeded(4)), seeded(5))
    exact = estimate_noise(problem, y, PRIOR)
    assert exact.source == "evidence"
    found = estimate_noise(problem, y, without_evidence(PRIOR), solver=Exact(), draws=400)
    assert found.source == "draws"
    # of 400 draws the Monte-Carlo error is below a fifth of the standard error; secants stop at 1 %
    assert abs(found.sigma[0] - exact.sigma[0]) < 0.3 * exact.error[0] + 0.01 * exact.sigma[0]
    assert found.error[0] == pytest.approx(exact.error[0], rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_eight_draws_know_how_little_information_is_left(seed: int) -> None:
    """The error of the maximum and of eight draws: 1/I + (J - I) / 8 I^2 with the exact I."""
    axis = torch.arange(32, dtype=F64)
    field = torch.exp(-(axis[:, None] - axis).abs() / 5)
    prior = GaussianPrior(torch.zeros(1, 32, 32, dtype=F64), 0.09 * torch.kron(field, field))
    problem = InverseProblem(SuperResolution(2), GaussianNoise(0.08))
    y = problem.measure(prior.sample(1, seeded(seed)), seeded(seed + 5))
    exact = estimate_noise(problem, y, prior)
    found = estimate_noise(problem, y, without_evidence(prior), solver=Exact(prior), draws=8)
    assert found.source == "draws"
    J, known = 2 * exact.entries, (exact.sigma[0] / exact.error[0]) ** 2
    stated = found.error[0] / found.sigma[0]
    expected = math.sqrt(1 / known + (J - known) / 8 / known**2)
    assert known < 0.3 * J
    assert stated == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("name", ["denoise", "inpaint"])
def test_the_denoiser_finds_the_maximum_of_the_evidence(name: str) -> None:
    problem = InverseProblem(OPERATORS[name], GaussianNoise(0.15))
    y = problem.measure(PRIOR.sample(1, seeded(6)), seeded(7))
    exact = estimate_noise(problem, y, PRIOR)
    found = estimate_noise(problem, y, without_evidence(PRIOR), solver=Exact(), draws=64)
    assert found.source == "denoiser"
    # the divergence of 4 probes of 196 signs has an error of 3 % of that of the noise
    assert abs(found.sigma[0] / exact.sigma[0] - 1) < 0.06
    assert found.error[0] == pytest.approx(exact.error[0], rel=0.35)


def test_each_channel_has_its_level() -> None:
    side = 10
    axis = torch.exp(-(AXIS[:side, None] - AXIS[:side]).abs() / 5)
    covariance = 0.09 * torch.kron(torch.eye(2, dtype=F64), torch.kron(axis, axis))
    prior = GaussianPrior(torch.zeros(2, side, side, dtype=F64), covariance)
    levels = torch.tensor([0.1, 0.3], dtype=F64)
    problem = InverseProblem(Denoising(), GaussianNoise(levels[:, None, None]))
    y = problem.measure(prior.sample(1, seeded()), seeded(1))
    found = estimate_noise(problem, y, prior, solver=Exact(prior), draws=64, per_channel=True)
    assert len(found.sigma) == 2
    for sigma, error, true in zip(found.sigma, found.error, levels.tolist(), strict=True):
        assert abs(sigma - true) < 3 * error
        assert error < 0.35 * true
    assert isinstance(found.problem.noise, GaussianNoise)
    assert tuple(torch.as_tensor(found.problem.noise.std).shape) == (2, 1, 1)


# ---- the first guess


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.7])
def test_the_first_guess_sees_noise_on_a_slope_through_holes(missing: float) -> None:
    mask = random_mask(96, 96, missing, seeded()) if missing else torch.ones(96, 96) == 1
    operator = Inpainting(mask)
    slope = torch.linspace(-0.5, 0.5, 96, dtype=F64).expand(1, 1, 96, 96)
    y = operator.mask_unobserved(slope + 0.05 * torch.randn(1, 1, 96, 96, generator=seeded(1)))
    found = first_guess(InverseProblem(operator, GaussianNoise(1.0)), y)
    assert found == pytest.approx(0.05, rel=0.1 if missing < 0.5 else 0.25)


def test_a_vector_has_a_guess_too() -> None:
    problem = InverseProblem(LinearMatrix(torch.eye(80)), GaussianNoise(1.0))
    assert 0 < first_guess(problem, torch.randn(1, 80, generator=seeded())) < 1


# ---- what cannot be estimated


@pytest.mark.parametrize(
    ("operator", "noise", "y", "message"),
    [
        (Denoising(), GaussianNoise(1.0), torch.full((1, 1, 14, 14), 0.2), "shows no noise"),
        (
            Denoising(),
            GaussianNoise(1.0),
            torch.zeros(1, 1, 5, 5),
            "from 25 numbers, 64 are needed",
        ),
        (Denoising(), PoissonNoise(9.0), torch.zeros(1, 1, 14, 14), "not of PoissonNoise"),
        (Quantisation(8), GaussianNoise(1.0), torch.zeros(1, 1, 14, 14), "hides the noise"),
        (Denoising(), GaussianNoise(1.0), torch.zeros(2, 1, 14, 14), "one measurement"),
        (Denoising(), GaussianNoise(1.0), torch.full((1, 1, 14, 14), torch.nan), "not finite"),
    ],
    ids=["constant", "few", "Poisson", "rounded", "two", "NaN"],
)
def test_hopeless_requests_end_in_one_line(
    operator: Operator, noise: Any, y: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        estimate_noise(InverseProblem(operator, noise), y, PRIOR)
    assert "\n" not in str(raised.value)


def test_noise_below_the_rounding_of_a_file_is_refused() -> None:
    """A field that a prior explains down to its rounding."""
    i = torch.arange(400, dtype=F64)
    smooth = torch.exp(-((i[:, None] - i) ** 2) / 2 / 30**2) + 1e-10 * torch.eye(400, dtype=F64)
    prior = GaussianPrior(torch.zeros(400, dtype=F64), smooth)
    step = 0.1
    y = (prior.sample(1, seeded()) / step).round() * step
    with pytest.raises(ValueError, match="below the rounding"):
        estimate_noise(InverseProblem(Denoising(), GaussianNoise(1.0)), y, prior)


def test_a_prior_of_noise_leaves_nothing_to_estimate() -> None:
    """Under a white prior noise and signal cannot be told apart below its level."""
    y = 0.9 * torch.randn(1, 100, generator=seeded(), dtype=F64)
    law = GaussianPrior(torch.zeros(100, dtype=F64), torch.eye(100, dtype=F64))
    with pytest.raises(ValueError, match=r"told from none|too little"):
        estimate_noise(InverseProblem(Denoising(), GaussianNoise(1.0)), y, law)


def test_the_report_is_plain() -> None:
    problem = InverseProblem(Denoising(), GaussianNoise(0.15))
    y = problem.measure(PRIOR.sample(1, seeded()), seeded(1))
    report = estimate_noise(problem, y, PRIOR).report()
    assert report["source"] == "evidence" and len(report["sigma"]) == 1
    assert report["entries"] == SIDE**2
