"""Kernels of any shape: the M step, EM on the exact evidence, and the trap of no blur."""

from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from problems import Blur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from problems.operators.convolution import Boundary, Convolution
from scoresde.estimation.evidence import measured_moments
from scoresde.estimation.free_kernel import (
    DrawnMoments,
    ExactMoments,
    KernelEstimate,
    framed,
    kernel_by_em,
)
from scoresde.estimation.kernel_step import (
    KernelMoments,
    minimise_on_simplex,
    on_simplex,
    patches,
)
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from tests.conftest import F64, seeded
from tests.smooth_prior import smooth_prior

SIDE, SIGMA = 12, 0.02
PRIOR = smooth_prior(SIDE)
TRUE = torch.tensor([[0.0, 0.1, 0.3], [0.1, 0.3, 0.0], [0.2, 0.0, 0.0]], dtype=F64)
PROBLEM = InverseProblem(Blur(TRUE, "reflect"), GaussianNoise(SIGMA))
START = GaussianBlur(0.6, truncate=1.5)


def measured(number: int = 0, kernel: Tensor = TRUE, boundary: Boundary = "reflect") -> Tensor:
    problem = InverseProblem(Blur(kernel, boundary), GaussianNoise(SIGMA))
    return problem.measure(PRIOR.sample(1, seeded(number)), seeded(number + 100))


def evidence(kernel: Tensor, y: Tensor, boundary: Boundary = "reflect") -> Tensor:
    problem = InverseProblem(Blur(kernel, boundary), GaussianNoise(SIGMA))
    mean, covariance = measured_moments(PRIOR, problem, y)
    covariance = covariance + SIGMA**2 * torch.eye(len(mean), dtype=F64)
    law = torch.distributions.MultivariateNormal(mean, covariance)
    found: Tensor = law.log_prob(y.double().flatten())
    return found


class PosteriorDraws(IndependentSampler):
    """Exact draws under a Gaussian prior; with `spread` 0 its mean in their place."""

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "normal"})

    spread: float = 1.0

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        posterior = PRIOR.posterior(run.problem, run.y[:1])
        mean, covariance = posterior.moments()
        root = torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(mean), dtype=F64))
        x = mean + self.spread * run.randn().to(F64).flatten(1) @ root.T
        return x.reshape(-1, *PRIOR.shape), 0


def climbed(
    y: Tensor, rounds: int, plain: bool, start: Convolution = START
) -> tuple[KernelEstimate, list[float]]:
    values: list[float] = []
    found = kernel_by_em(
        ExactMoments(y, PRIOR), start, 3, SIGMA, "reflect", rounds=rounds, plain=plain,
        watch=lambda k: values.append(float(evidence(k, y))),
    )  # fmt: skip
    return found, values


@pytest.mark.parametrize("boundary", get_args(Boundary))
def test_patches_times_a_kernel_are_the_blur(boundary: Boundary) -> None:
    x = torch.randn(1, 2, 9, 11, generator=seeded(), dtype=F64)
    y = Blur(TRUE, boundary).apply(x)
    assert torch.allclose(patches(x, 3, boundary) @ TRUE.flatten(), y.flatten())


def test_patches_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="must be odd, got 4"):
        patches(torch.zeros(1, 1, 9, 9), 4, "zero")
    with pytest.raises(ValueError, match="too large for a picture of 9x5"):
        patches(torch.zeros(1, 1, 5, 9), 7, "zero")
    with pytest.raises(ValueError, match="do not fit y"):
        KernelMoments.of(torch.zeros(1, 1, 9, 9), torch.zeros(2, 1, 9, 9), 3, "valid")


def test_the_programme_on_the_simplex() -> None:
    g = seeded()
    A, b = torch.randn(12, 8, generator=g, dtype=F64), torch.randn(8, generator=g, dtype=F64)
    G = A.T @ A
    found = minimise_on_simplex(G, b, torch.full((8,), 1 / 8))
    best = minimize(
        lambda k: float(0.5 * k @ G.numpy() @ k - b.numpy() @ k),
        np.full(8, 1 / 8), bounds=[(0, 1)] * 8, method="SLSQP", tol=1e-12,
        constraints={"type": "eq", "fun": lambda k: k.sum() - 1},
    )  # fmt: skip
    assert (found == 0).any()  # the bound matters
    assert torch.allclose(found, torch.from_numpy(best.x), atol=1e-5)
    inside = torch.tensor([0.2, 0.3, 0.5])
    assert torch.allclose(on_simplex(inside), inside)


@pytest.mark.parametrize("boundary", ["reflect", "zero", "circular"])
def test_the_slope_is_that_of_the_evidence(boundary: Boundary) -> None:
    """Fisher's identity, with the covariance of the posterior in the second moments."""
    y, k = measured(boundary=boundary), framed(START.taps[0], 3)
    problem = InverseProblem(Blur(k, boundary), GaussianNoise(SIGMA))
    moments, _ = ExactMoments(y, PRIOR).at(problem, 3, 0)
    for at in (0, 4, 5):
        step = torch.zeros(9, dtype=F64)
        step[at] = 1e-5
        high, low = (evidence(k + s * step.reshape(3, 3), y, boundary) for s in (1, -1))
        difference = float(high - low) / 2e-5
        assert float(moments.slope(k.flatten(), SIGMA)[at]) == pytest.approx(difference, rel=1e-4)


def test_the_moments_of_draws_tend_to_the_exact_ones() -> None:
    y = measured()
    problem = InverseProblem(Blur(TRUE, "reflect"), GaussianNoise(SIGMA))
    exact, _ = ExactMoments(y, PRIOR).at(problem, 3, 0)
    posterior = PRIOR.posterior(problem, y)
    drawn = KernelMoments.of(y, posterior.sample(400, seeded()), 3, "reflect")
    assert torch.allclose(drawn.G, exact.G, rtol=0.02)
    assert torch.allclose(drawn.b, exact.b, atol=0.02 * float(exact.b.abs().max()))
    assert drawn.misfit(TRUE.flatten()) == pytest.approx(exact.misfit(TRUE.flatten()), rel=0.03)


@pytest.mark.slow
def test_em_climbs_the_evidence_and_the_fast_steps_reach_its_maximum() -> None:
    y = measured()
    _, values = climbed(y, 100, plain=True)
    assert min(b - a for a, b in pairwise(values)) > -1e-9
    found, fast = climbed(y, 60, plain=False)
    assert values[-1] - 1e-3 < fast[-1] < values[-1] + 0.1  # EM has a little way to go
    # the conditions of a maximum on the simplex: the slope is the same in all taps that are not 0
    moments, _ = ExactMoments(y, PRIOR).at(found.problem, 3, 0)
    slope, k = moments.slope(found.kernel, SIGMA), found.kernel.flatten()
    first, _ = ExactMoments(y, PRIOR).at(
        InverseProblem(Blur(framed(START.taps[0], 3), "reflect"), GaussianNoise(SIGMA)), 3, 0
    )
    before = first.slope(framed(START.taps[0], 3), SIGMA)
    level = float(slope[k > 1e-3].mean())
    assert float((slope[k > 1e-3] - level).abs().max()) < 0.01 * float(before.std())
    assert float(slope.max()) < level + 0.01 * float(before.std())


@pytest.mark.slow
def test_the_evidence_has_several_maxima_and_the_start_decides() -> None:
    """From a Gaussian the search ends below the evidence of the truth, from a line above it."""
    y = measured()
    _, gaussian = climbed(y, 40, plain=False)
    _, line = climbed(y, 40, plain=False, start=MotionBlur(3, 45.0))
    assert gaussian[-1] < float(evidence(TRUE, y)) < line[-1]


@pytest.mark.slow
def test_draws_find_the_same_maximum() -> None:
    y = measured(1)
    exact, _ = climbed(y, 60, plain=False)
    source = DrawnMoments(y, PRIOR, PosteriorDraws(), 16)
    found = kernel_by_em(source, START, 3, SIGMA, "reflect", rounds=60)
    below = float(evidence(exact.kernel, y) - evidence(found.kernel, y))
    # nats; the noise itself costs the 8 free taps of a maximum 4 of them
    assert -0.1 < below < 1.0
    assert abs(found.spread - exact.spread) < 0.05


@pytest.mark.slow
def test_a_point_estimate_prefers_less_blur_and_draws_do_not() -> None:
    truth = framed(GaussianBlur(1.0, truncate=2.0).taps[0], 5)
    y = measured(2, truth)
    spreads = []
    for spread in (0.0, 1.0):
        sampler = PosteriorDraws()
        sampler.spread = spread
        found = kernel_by_em(
            DrawnMoments(y, PRIOR, sampler, 8),
            GaussianBlur(1.0, truncate=2.0), 5, SIGMA, "reflect", rounds=24,
        )  # fmt: skip
        spreads.append(found.spread)
    exact = kernel_by_em(
        ExactMoments(y, PRIOR), GaussianBlur(1.0, truncate=2.0), 5, SIGMA, "reflect", rounds=24
    )
    point, ours = spreads
    assert abs(ours - exact.spread) < 0.1
    assert point < ours - 0.2


@pytest.mark.slow
def test_the_noise_is_found_with_the_kernel() -> None:
    y = measured(3)
    found = kernel_by_em(
        ExactMoments(y, PRIOR), START, 3, 2 * SIGMA, "reflect", rounds=60, joint=True
    )
    assert found.sigma == pytest.approx(SIGMA, rel=0.25)
    noise = found.problem.noise
    assert isinstance(noise, GaussianNoise) and noise.std == found.sigma


def test_a_kernel_is_cut_or_filled_around_its_middle() -> None:
    line = MotionBlur(5).kernel
    assert framed(line, 7)[3].tolist() == [0, *line[2].tolist(), 0]
    assert framed(line, 3)[1].tolist() == pytest.approx([1 / 3] * 3)
    found = KernelEstimate(line, 0.1, SIGMA, "", (1.0,), PROBLEM)
    assert found.spread == pytest.approx(1.0)  # of 5 points on a line, over both axes
    assert replace(found, path=(1.23456,)).report()["path"] == [[1.235]]
