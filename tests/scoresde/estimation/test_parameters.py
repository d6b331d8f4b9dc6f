"""Parameters of operators: the maximum of the evidence, its error bar, and the trap of no blur."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from problems import (
    Blur,
    Denoising,
    DiskBlur,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    PoissonNoise,
    Quantisation,
    random_mask,
)
from scoresde import GaussianMixturePrior
from scoresde.estimation import OutOfRange, Parameter, estimate_parameters
from scoresde.estimation.family import Family, ParametricSource
from scoresde.estimation.parametric_evidence import EvidenceSource
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from tests.conftest import F64, seeded
from tests.smooth_prior import smooth_prior

SIDE, SIGMA = 14, 0.02
PRIOR = smooth_prior(SIDE)
MIXTURE = GaussianMixturePrior(  # the same law, which is not known to be a Gaussian
    torch.ones(1), PRIOR.means.reshape(1, *PRIOR.shape), PRIOR.covariances
)
PRIOR_COVARIANCE = PRIOR.covariances[0]
PRIOR_ROOT = torch.linalg.cholesky(PRIOR_COVARIANCE)
WIDTH = Parameter("the width", 1.6, 0.3, 2.0)
HOLES = Inpainting(random_mask(SIDE, SIDE, 0.2, seeded()))


def gaussian(std: float) -> InverseProblem:
    return InverseProblem(GaussianBlur(std, "reflect", truncate=3.0), GaussianNoise(SIGMA))


def disk(radius: float) -> InverseProblem:
    return InverseProblem(DiskBlur(radius, "reflect"), GaussianNoise(SIGMA))


def holes(std: float) -> InverseProblem:
    blur = GaussianBlur(std, "reflect", truncate=3.0)
    return InverseProblem(HOLES @ blur, GaussianNoise(SIGMA))


def oblique(length: float, angle: float) -> InverseProblem:
    """An elongated Gaussian: two parameters, of which its kernel is a smooth function."""
    i = torch.arange(-4, 5, dtype=F64)
    a = math.radians(angle)
    along, across = (
        i * math.cos(a) - i[:, None] * math.sin(a),
        i * math.sin(a) + i[:, None] * math.cos(a),
    )
    kernel = torch.exp(-0.5 * ((along / length) ** 2 + (across / 0.6) ** 2))
    return InverseProblem(Blur(kernel / kernel.sum(), "reflect"), GaussianNoise(SIGMA))


FAMILIES: dict[str, tuple[Callable[..., InverseProblem], tuple[Parameter, ...], tuple[float, ...]]]
FAMILIES = {
    "Gaussian": (gaussian, (WIDTH,), (1.0,)),
    "disk": (disk, (Parameter("the radius", 1.7, 0.6, 4.0),), (2.3,)),
    "Gaussian with holes": (holes, (WIDTH,), (1.2,)),
    "oblique": (
        oblique,
        (Parameter("the length", 1.0, 0.7, 3.0),
         Parameter("the angle", 10.0, -60.0, 120.0, 15.0, linear=True)),
        (1.6, 30.0),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Exact(IndependentSampler):
    """Exact draws of a mixture; with `spread` 0, its mode in their place."""

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "normal"})

    spread: float = 1.0

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        # Matheron's rule: a draw of x and of the noise, moved to fit y
        seen = run.problem.operator.observed(run.y[:1]).expand_as(run.y[:1]).flatten()
        A = run.problem.linear_operator.dense(PRIOR.shape, F64)[seen]
        y, C = run.y.double().flatten(1)[:, seen], PRIOR_COVARIANCE
        x = self.spread * run.randn().to(F64).flatten(1) @ PRIOR_ROOT.T
        n = self.spread * SIGMA * run.randn().to(F64).flatten(1)[:, seen[: x.shape[1]]]
        S = A @ C @ A.T + SIGMA**2 * torch.eye(len(A), dtype=F64)
        moved = torch.linalg.solve(S, (y - n - x @ A.T).T)
        return (x + (C @ A.T @ moved).T).reshape(len(x), *PRIOR.shape), 0


def measured(name: str, number: int = 0) -> Tensor:
    problem_of, _, truth = FAMILIES[name]
    return problem_of(*truth).measure(PRIOR.sample(1, seeded(2 * number)), seeded(2 * number + 1))


# ---- the evidence in closed form


@pytest.mark.parametrize("name", FAMILIES)
def test_the_evidence_and_its_slope_are_those_of_the_density(name: str) -> None:
    problem_of, parameters, truth = FAMILIES[name]
    family, y = Family(problem_of, parameters), measured(name)
    source = EvidenceSource(family, y, PRIOR)
    u = [p.coordinate(v) for p, v in zip(parameters, truth, strict=True)]
    problem = problem_of(*truth)
    seen = problem.operator.observed(y).expand_as(y).flatten()
    A = problem.linear_operator.dense(PRIOR.shape, F64)[seen]
    S = A @ PRIOR.covariances[0] @ A.T + SIGMA**2 * torch.eye(len(A), dtype=F64)
    law = torch.distributions.MultivariateNormal(torch.zeros(len(A), dtype=F64), S)
    flat = y.flatten(1)[:, seen]
    torch.testing.assert_close(source.log_prob(u, flat), law.log_prob(flat.double()))
    for i, p in enumerate(parameters):
        d = p.difference
        sides = [source.log_prob([*u[:i], u[i] + s, *u[i + 1 :]], flat) for s in (-d, d)]
        slope = float(sides[1] - sides[0]) / (2 * d)
        # a difference of 0.05 sqrt(I) moves the estimate by 0.05 standard errors
        here = source.at(u)
        assert abs(slope - float(here.slope[i])) < 0.05 * float(here.complete[i, i]) ** 0.5


@pytest.mark.parametrize("name", FAMILIES)
def test_the_estimate_is_the_maximum_of_the_evidence(name: str) -> None:
    problem_of, parameters, truth = FAMILIES[name]
    y = measured(name)
    found = estimate_parameters(problem_of, parameters, y, PRIOR)
    assert found.source == "evidence"
    source = EvidenceSource(Family(problem_of, parameters), y, PRIOR)
    seen = found.problem.operator.observed(y).expand_as(y)
    u = [p.coordinate(v) for p, v in zip(parameters, found.values, strict=True)]
    best = float(source.log_prob(u, y[seen][None]))
    for i, (p, error) in enumerate(zip(parameters, found.error, strict=True)):
        sd = error / p.step if p.linear else error / found.values[i]
        for share in (-1.0, -0.3, 0.3, 1.0):
            beside = [*u[:i], u[i] + share * sd, *u[i + 1 :]]
            assert float(source.log_prob(beside, y[seen][None])) < best
        assert abs(found.values[i] - truth[i]) < 3 * error


@pytest.mark.slow
def test_standard_errors_cover() -> None:
    """300 measurements, the maximum on a grid: 95 and 68 % intervals within 4 sd of binomials."""
    runs, truth = 300, math.log(1.0)
    problem = gaussian(1.0)
    y = problem.measure(PRIOR.sample(runs, seeded(7)), seeded(8))
    source = EvidenceSource(Family(gaussian, (WIDTH,)), y[:1], PRIOR)
    error = float(source.at([truth]).complete[0, 0]) ** -0.5
    step = error / 4
    grid = [truth + k * step for k in range(-20, 21)]
    values = torch.stack([source.log_prob([u], y.flatten(1)) for u in grid], 1)
    k = values.argmax(1).clamp(1, len(grid) - 2)
    low, mid, high = (values.gather(1, (k + d)[:, None])[:, 0] for d in (-1, 0, 1))
    curvature = (2 * mid - low - high) / step**2
    best = torch.tensor(grid)[k] + (high - low) / (2 * step) / curvature
    z = (best - truth) * curvature.sqrt()
    for level, reach in ((0.95, 1.96), (0.6827, 1.0)):
        covered = float((z.abs() < reach).double().mean())
        assert abs(covered - level) < 4 * (level * (1 - level) / runs) ** 0.5, (level, covered)
    # what estimate_parameters states is this error, on average over measurements
    stated = []
    for one in y[:16].split(1):
        found = estimate_parameters(gaussian, [WIDTH], one, PRIOR)
        stated.append(found.error[0] / found.values[0])
    scatter = statistics.stdev(stated) / len(stated) ** 0.5
    assert scatter < error / 10
    assert abs(statistics.fmean(stated) - error) < 4 * scatter


# ---- draws in the place of the evidence


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Gaussian", "oblique"])
def test_the_slope_of_draws_is_that_of_the_evidence(name: str) -> None:
    """Fisher's identity, and Louis's information, within the Monte-Carlo error that is stated."""
    problem_of, parameters, truth = FAMILIES[name]
    family, y = Family(problem_of, parameters), measured(name)
    u = [p.coordinate(v) for p, v in zip(parameters, truth, strict=True)]
    exact = EvidenceSource(family, y, PRIOR).at(u)
    found = ParametricSource(family, y, MIXTURE, Exact(), weighted=False).at(u, 2000)
    z = (found.slope - exact.slope) / found.monte_carlo.diagonal().sqrt()
    assert float(z.abs().max()) < 3.5
    # the observed information scatters around Fisher's by itself
    ratio = found.variance.diagonal() / exact.variance.diagonal()
    assert float((ratio.log()).abs().max()) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Gaussian", "Gaussian with holes"])
def test_draws_find_the_maximum_of_the_evidence(name: str) -> None:
    problem_of, parameters, _ = FAMILIES[name]
    y = measured(name)
    exact = estimate_parameters(problem_of, parameters, y, PRIOR)
    found = estimate_parameters(
        problem_of, parameters, y, MIXTURE, solver=Exact(), draws=1000, weighted=False
    )
    assert found.source == "draws"
    # of 1000 draws the Monte-Carlo error is 0.15 standard errors
    assert abs(found.values[0] - exact.values[0]) < 0.5 * exact.error[0]
    assert found.error[0] == pytest.approx(exact.error[0], rel=0.35)


@pytest.mark.slow
def test_weighted_equations_of_few_draws_have_mean_0_and_the_stated_variance() -> None:
    """50 measurements, 8 draws each: the sum of z and of its squares, within 4 sd."""
    source = Family(gaussian, (WIDTH,))
    z = []
    for number in range(50):
        y = measured("Gaussian", 10 + number)
        found = ParametricSource(source, y, MIXTURE, Exact(), seed=number).at([0.0], 8)
        z.append(float(found.slope / (found.variance + found.monte_carlo).sqrt()))
    values = torch.tensor(z)
    assert abs(float(values.mean())) < 4 / 50**0.5
    assert abs(float(values.square().mean()) - 1) < 4 * (2 / 50) ** 0.5


@pytest.mark.parametrize("number", range(3))
def test_few_draws_find_the_width(number: int) -> None:
    y = measured("Gaussian", 20 + number)
    found = estimate_parameters(gaussian, [WIDTH], y, MIXTURE, solver=Exact(), draws=8)
    assert abs(found.values[0] - 1) < 4 * found.error[0] and found.error[0] < 0.1


def test_a_point_estimate_falls_into_the_trap_of_no_blur() -> None:
    r"""With the mode for the draws the slope asks for less blur whatever y is (Levin et al. 2009).

    For one frequency of a Gaussian prior it is a da C |y|^2 / S^2, never positive for a > 0.
    """
    y = measured("Gaussian")
    family = Family(gaussian, (WIDTH,))
    mode = ParametricSource(family, y, MIXTURE, Exact(0.0), weighted=False)
    drawn = ParametricSource(family, y, MIXTURE, Exact(), weighted=False)
    narrow = [math.log(0.6)]
    assert float(drawn.at(narrow, 200).slope) > 0 > float(mode.at(narrow, 4).slope)
    for width in (0.35, 0.6, 1.0, 1.6, 1.9):
        assert float(mode.at([math.log(width)], 4).slope) < 0
    with pytest.raises(OutOfRange) as raised:
        estimate_parameters(gaussian, [WIDTH], y, MIXTURE, solver=Exact(0.0), weighted=False)
    assert raised.value.low and raised.value.parameter is WIDTH


# ---- what cannot be estimated


@pytest.mark.parametrize("number", range(3))
def test_a_sharp_picture_has_no_blur(number: int) -> None:
    y = PRIOR.sample(1, seeded(3 + number))
    y = y + SIGMA * torch.randn(y.shape, generator=seeded(40 + number), dtype=F64)
    visible = Parameter("the width", 1.6, 0.4, 2.0)  # its neighbours have 4 % of the kernel
    with pytest.raises(OutOfRange, match=r"the width at the lower end of its range, 0\.4"):
        estimate_parameters(gaussian, [visible], y, PRIOR)


def test_a_blur_beyond_the_range_is_named() -> None:
    narrow = Parameter("the width", 0.5, 0.3, 0.7)
    with pytest.raises(OutOfRange, match=r"the width at the upper end of its range, 0\.7"):
        estimate_parameters(gaussian, [narrow], measured("Gaussian"), PRIOR)


def test_pure_noise_says_nothing_about_a_blur() -> None:
    loud = 30.0

    def problem_of(std: float) -> InverseProblem:
        return InverseProblem(GaussianBlur(std, "reflect", truncate=3.0), GaussianNoise(loud))

    y = loud * torch.randn(1, 1, SIDE, SIDE, generator=seeded(), dtype=F64)
    with pytest.raises(ValueError, match=r"too little about the width|end of its range"):
        estimate_parameters(problem_of, [WIDTH], y, PRIOR)


@pytest.mark.parametrize(
    ("problem", "y", "message"),
    [
        (InverseProblem(Denoising(), GaussianNoise(0.1)), torch.zeros(1, 1, 14, 14),
         "does not depend on the width"),
        (InverseProblem(Denoising(), PoissonNoise(9.0)), torch.zeros(1, 1, 14, 14),
         "not with PoissonNoise"),
        (InverseProblem(Denoising(), GaussianNoise(0.0)), torch.zeros(1, 1, 14, 14),
         "a level above 0"),
        (InverseProblem(Quantisation(8), GaussianNoise(0.1)), torch.zeros(1, 1, 14, 14), "rounds"),
        (InverseProblem(Denoising(), GaussianNoise(0.1)), torch.zeros(2, 1, 14, 14),
         "one measurement"),
        (InverseProblem(Denoising(), GaussianNoise(0.1)), torch.full((1, 1, 14, 14), torch.nan),
         "not finite"),
    ],
    ids=["no dependence", "Poisson", "no noise", "rounded", "two", "NaN"],
)  # fmt: skip
def test_hopeless_requests_end_in_one_line(
    problem: InverseProblem, y: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        estimate_parameters(lambda _: problem, [WIDTH], y, PRIOR)
    assert "\n" not in str(raised.value)


def test_any_matrix_may_have_a_parameter() -> None:
    """A gain: y = g B x, with B fixed; nothing but the operator's apply is used."""
    B = torch.randn(120, SIDE**2, generator=seeded(), dtype=F64) / SIDE

    def problem_of(gain: float) -> InverseProblem:
        return InverseProblem(LinearMatrix(gain * B, PRIOR.shape), GaussianNoise(SIGMA))

    y = problem_of(2.0).measure(PRIOR.sample(1, seeded(1)), seeded(2))
    found = estimate_parameters(problem_of, [Parameter("the gain", 1.0, 0.1, 10.0)], y, PRIOR)
    assert abs(found.values[0] - 2.0) < 3 * found.error[0] < 0.6
    report = found.report()
    assert report["source"] == "evidence" and len(report["path"]) == len(found.path)
