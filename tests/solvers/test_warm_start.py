"""Warm starts: the law that theory predicts, the width that decides s_0, modes that are kept."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from problems import (
    MRI,
    Denoising,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    SuperResolution,
)
from scoresde import GaussianMixturePrior, GaussianPrior
from scoresde.priors.base import Prior
from solvers import MMPS, PointEstimator, TimeGrid, WarmStart, make_solver
from solvers.posterior.path import DenoisingPath, recording_path
from solvers.posterior.records import Progress
from tests.conftest import F64, randn, seeded

N = 4


@dataclasses.dataclass(frozen=True)
class Wrong(PointEstimator):
    """An estimate that is wrong by a known amount."""

    error: float = 0.8
    requires = frozenset({"vjp"})

    def _estimate(
        self, prior: Prior, problem: InverseProblem, y: Tensor, progress: Progress
    ) -> Tensor:
        return y / 1.25 + self.error


def white(batch: int = 1) -> tuple[GaussianPrior, InverseProblem, Tensor]:
    """N(0, I) seen with noise of variance 1/4: the posterior is N(y / 1.25, I / 5)."""
    prior = GaussianPrior(torch.zeros(1, 2, 2, dtype=F64), torch.eye(N, dtype=F64))
    problem = InverseProblem(Denoising(), GaussianNoise(0.5))
    return prior, problem, randn(batch, 1, 2, 2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("sweeps", [0, 1])
@pytest.mark.parametrize("loss", [0.25, 0.04])
def test_the_draws_have_the_law_that_theory_predicts(loss: float, sweeps: int) -> None:
    """Mean m + e q and variance v (1 - q^2), q^2 = loss^(1 + sweeps), e the error of x_hat."""
    prior, problem, y = white()
    grid = TimeGrid(s_max=20.0, s_min=0.005)
    solver = WarmStart(
        12, loss=loss, sweeps=sweeps, estimate=Wrong(), grid=grid, s_least=0.01, lanczos=1
    )
    n = 4000
    draws = solver.sample(prior, problem, y, n, generator=seeded(0)).draws[:, 0]
    left = loss ** ((1 + sweeps) / 2)
    variance = 0.2 * (1 - left**2)
    expected = y[0] / 1.25 + Wrong.error * left
    assert float((draws.mean(0) - expected).abs().max()) < 4 * math.sqrt(variance / n)
    assert abs(float(draws.var(0).mean()) / variance - 1) < 4 * math.sqrt(2 / (N * n))


@pytest.mark.parametrize("sweeps", [0, 1])
def test_the_mean_of_four_balanced_draws_is_that_of_the_law(sweeps: int) -> None:
    """All steps are linear here, so that noise of sum zero cancels: m + e q, whatever the noise."""
    prior, problem, y = white(3)
    grid, loss = TimeGrid(s_max=20.0, s_min=0.005), 0.04
    solver = WarmStart(
        6, loss=loss, sweeps=sweeps, estimate=Wrong(), grid=grid, s_least=0.01, balanced=True
    )
    draws = solver.sample(prior, problem, y, 8, generator=seeded(0)).draws
    expected = y / 1.25 + Wrong.error * loss ** ((1 + sweeps) / 2)
    for group in draws.split(4):
        torch.testing.assert_close(group.mean(0), expected, rtol=0, atol=1e-6)
    assert float((draws[0] - draws[4]).abs().min()) > 1e-3  # groups differ
    # a draw is the same in every batch and for every number of draws
    apart = solver.sample(prior, problem, y, 6, generator=seeded(0), batch=4).draws
    torch.testing.assert_close(apart, draws[:6], rtol=0, atol=1e-9)
    assert not solver.independently().balanced


@pytest.mark.slow
def test_balanced_draws_have_the_same_law() -> None:
    """Each of four has mean m and variance v."""
    prior, problem, y = white()
    grid, n = TimeGrid(s_max=20.0, s_min=0.005), 8000
    solver = WarmStart(12, loss=1e-4, grid=grid, s_least=0.01, lanczos=1, balanced=True)
    draws = solver.sample(prior, problem, y, n, generator=seeded(0)).draws[:, 0]
    for place in range(4):
        some = draws[place::4]
        assert float((some.mean(0) - y[0] / 1.25).abs().max()) < 4 * math.sqrt(0.2 / (n / 4))
        assert abs(float(some.var(0).mean()) / 0.2 - 1) < 4 * math.sqrt(2 / (N * n / 4))


@pytest.mark.slow
def test_finishing_with_the_mean_lacks_the_variance_of_the_last_level() -> None:
    """At s the variance of x_0 | u, y is v s^2 / (v + s^2); v^2 / (v + s^2) is left without it."""
    prior, problem, y = white()
    grid, n, s = TimeGrid(s_max=20.0, s_min=0.3), 4000, 0.3
    solver = WarmStart(12, loss=1e-4, grid=grid, finish="mean", lanczos=1)
    draws = solver.sample(prior, problem, y, n, generator=seeded(0)).draws[:, 0]
    expected = 0.2 * 0.2 / (0.2 + s**2)
    assert abs(float(draws.var(0).mean()) / expected - 1) < 4 * math.sqrt(2 / (N * n))
    assert float((draws.mean(0) - y[0] / 1.25).abs().max()) < 4 * math.sqrt(expected / n)


def first_level(problem: InverseProblem, s_max: float = 20.0) -> float:
    prior = GaussianPrior(torch.zeros(1, 8, 8, dtype=F64), 1e-4 * torch.eye(64, dtype=F64))
    y = problem.measure(torch.zeros(1, 1, 8, 8, dtype=F64), seeded(0))
    solver = WarmStart(4, grid=TimeGrid(s_max=s_max, s_min=0.005), s_least=0.3)
    with recording_path(DenoisingPath()) as path:
        solver.sample(prior, problem, y, 1, generator=seeded(0))
    return path.estimates[0].s


@pytest.mark.slow
def test_the_start_rises_with_the_distance_between_measured_numbers() -> None:
    """The prior is so narrow that texture alone decides: .3, in proportion from two pixels on."""
    noise = GaussianNoise(0.5)
    every = torch.arange(8)
    for distance, expected in ((1, 0.3), (2, 0.3), (4, 0.6)):
        seen = (every[:, None] % distance == 0) & (every % distance == 0)
        problem = InverseProblem(Inpainting(seen), noise)
        assert first_level(problem) == pytest.approx(expected, rel=1e-6)
        assert first_level(problem, s_max=0.5) == pytest.approx(min(expected, 0.5), rel=1e-6)
    assert first_level(InverseProblem(SuperResolution(4), noise)) == pytest.approx(0.6, rel=1e-6)
    # zeros of k-space that were not sampled do not count, and each sampled point is two numbers
    columns = (every == 4).expand(8, 8)
    assert first_level(InverseProblem(MRI(columns), noise)) == pytest.approx(0.3, rel=1e-6)
    few = columns & (every[:, None] % 4 == 0)
    assert first_level(InverseProblem(MRI(few), noise)) == pytest.approx(0.6, rel=1e-6)


@dataclasses.dataclass(frozen=True)
class Flat(PointEstimator):
    """An estimate without any texture."""

    def _estimate(
        self, prior: Prior, problem: InverseProblem, y: Tensor, progress: Progress
    ) -> Tensor:
        return y.new_zeros(len(y), *prior.shape)


@pytest.mark.slow
@pytest.mark.parametrize("s_0", [0.3, 0.5, 1.0, 2.0])
def test_a_low_start_loses_texture_as_theory_predicts(s_0: float) -> None:
    """Pictures are smooth or textured, and y does not tell: the start tells, if it is too low."""
    d, a, b, n = 64, 0.05, 0.3, 1000
    covariances = torch.stack([one**2 * torch.eye(d, dtype=F64) for one in (a, b)])
    halves, zero = torch.ones(2, dtype=F64) / 2, torch.zeros(2, 1, 8, 8, dtype=F64)
    prior = GaussianMixturePrior(halves, zero, covariances)
    seen = torch.arange(d).reshape(8, 8) == 0
    problem = InverseProblem(Inpainting(seen), GaussianNoise(5.0))
    solver = WarmStart(
        20, estimate=Flat(), grid=TimeGrid(s_max=s_0, s_min=0.005), s_least=s_0, lanczos=2
    )
    y = torch.zeros(1, 1, 8, 8, dtype=F64)
    draws = solver.sample(prior, problem, y, n, generator=seeded()).draws.flatten(1)
    share = float((draws.square().mean(1) > 0.15**2).double().mean())

    # u_0 is noise alone; its probability of being textured, averaged over its length
    energy = (s_0 * randn(20000, d, seed=1)).square().sum(1)
    smooth, textured = (
        -energy / (2 * (s_0**2 + one**2)) - d / 2 * math.log(s_0**2 + one**2) for one in (a, b)
    )
    expected = float(torch.sigmoid(textured - smooth).mean())
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_the_width_is_that_of_the_posterior() -> None:
    """In a Gaussian problem the variances are the eigenvalues, as seen from every level."""
    root = randn(N, N, seed=3)
    covariance = root @ root.T / N + 0.05 * torch.eye(N, dtype=F64)
    prior = GaussianPrior(torch.zeros(1, 2, 2, dtype=F64), covariance)
    matrix = randn(2, N, seed=4)
    problem = InverseProblem(LinearMatrix(matrix, (1, 2, 2)), GaussianNoise(0.3))
    y = problem.measure(prior.sample(1, seeded(1)), seeded(2))
    precision = torch.linalg.inv(covariance) + matrix.T @ matrix / 0.09
    expected = torch.linalg.eigvalsh(torch.linalg.inv(precision))
    solver, x = WarmStart(correction=MMPS(iterations=4)), randn(1, 1, 2, 2, seed=5)
    for s in (0.5, 2.0):
        variances, weights, mean, _ = solver._look(prior, problem, y, x, s, iterations=4)
        torch.testing.assert_close(variances[0], expected, rtol=1e-3, atol=0)
        assert float(weights.sum()) == pytest.approx(1)
        v = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(0)).to(F64)
        exact = prior.posterior(problem, y).denoise(x + s * v, s)
        torch.testing.assert_close(mean, exact, rtol=0, atol=1e-6)


def test_an_estimate_of_an_impossible_mode_is_replaced() -> None:
    """y tells the two modes apart, and the estimate is in the wrong one."""
    means = torch.stack([torch.full((N,), -5.0), torch.full((N,), 5.0)]).double()
    prior = GaussianMixturePrior(
        torch.ones(2), means.reshape(2, 1, 2, 2), torch.eye(N, dtype=F64).expand(2, N, N)
    )
    problem = InverseProblem(LinearMatrix(torch.ones(1, N, dtype=F64), (1, 2, 2)), GaussianNoise(1))
    y = torch.full((1, 1), 20.0, dtype=F64)

    class Opposite(Wrong):
        def _estimate(
            self, prior: Prior, problem: InverseProblem, y: Tensor, progress: Progress
        ) -> Tensor:
            return torch.full((len(y), 1, 2, 2), -5.0, dtype=y.dtype)

    solver = WarmStart(20, estimate=Opposite(), grid=TimeGrid(s_max=80.0), s_least=0.1)
    draws = solver.sample(prior, problem, y, 200, generator=seeded(0)).draws
    assert float(draws.mean(dim=(-1, -2)).min()) > 0
    assert abs(float(draws.mean()) - 5.0) < 0.1


def two_modes() -> tuple[GaussianMixturePrior, InverseProblem, Tensor]:
    """Half of the vector is seen and says nothing about the other half, which has two modes."""
    means = torch.tensor([[0.0, 0, -1, -1], [0, 0, 1, 1]], dtype=F64).reshape(2, 1, 2, 2)
    prior = GaussianMixturePrior(
        torch.tensor([0.3, 0.7], dtype=F64), means, 0.01 * torch.eye(N, dtype=F64).expand(2, N, N)
    )
    problem = InverseProblem(Inpainting(torch.tensor([[1.0, 1], [0, 0]])), GaussianNoise(0.1))
    return prior, problem, torch.zeros(1, 1, 2, 2, dtype=F64)


@pytest.mark.slow
def test_modes_are_kept_though_the_estimate_is_in_one_of_them() -> None:
    prior, problem, y = two_modes()
    solver = WarmStart(30, loss=0.04, sweeps=2, s_least=0.01, grid=TimeGrid(s_max=20.0), lanczos=2)
    prepared, _ = solver._prepare(prior, problem, y)
    # seen from above, the standard deviation along the line that joins the modes is about sqrt 2
    assert float(prepared["s_0"]) > 2.0
    draws = solver.sample(prior, problem, y, 1000, generator=seeded(0)).draws
    share = float((draws[:, 0, 0, 1].mean(-1) > 0).double().mean())
    assert abs(share - 0.7) < 0.06


def test_s_0_follows_the_width() -> None:
    """Half the standard deviation, half the start; never outside of the grid and of s_least."""
    prior, _, y = white()
    starts = []
    for std in (0.5, 0.05, 1e-3):
        problem = InverseProblem(Denoising(), GaussianNoise(std))
        solver = WarmStart(loss=0.04, s_least=0.02, grid=TimeGrid(s_max=20.0, s_min=0.01))
        starts.append(float(solver._prepare(prior, problem, y)[0]["s_0"]))
    assert starts[0] == pytest.approx(2 * math.sqrt(0.2), rel=1e-3)
    assert starts[1] == pytest.approx(2 * 0.05 / math.sqrt(1.0025), rel=1e-3)
    assert starts[2] == pytest.approx(0.01)  # the grid; a quarter of s_least is below it
    small = WarmStart(loss=0.04, grid=TimeGrid(s_max=0.6, s_min=0.01))
    problem = InverseProblem(Denoising(), GaussianNoise(0.5))
    assert float(small._prepare(prior, problem, y)[0]["s_0"]) == pytest.approx(0.6)


def test_the_noise_bounds_the_texture_of_pixels_that_are_seen() -> None:
    """2.5 noise levels, a quarter of s_least at least; s_least itself where pixels are missing."""
    _, _, y = white()
    solver = WarmStart(s_least=1.0)
    for std, expected in ((0.01, 0.25), (0.2, 0.5), (3.0, 1.0)):
        problem = InverseProblem(Denoising(), GaussianNoise(std))
        assert solver._texture_level(problem, y, y) == pytest.approx(expected)
    holes = Inpainting(torch.tensor([[True, False], [True, True]]))
    assert solver._texture_level(InverseProblem(holes, GaussianNoise(0.01)), y, y) == 1.0


def test_each_measurement_starts_by_its_own_width() -> None:
    """A batch of measurements gives the draws of each alone, whatever the size of the batch."""
    prior, problem, y = two_modes()
    y = torch.cat([y, y + 3.0])
    solver = WarmStart(5, grid=TimeGrid(s_max=5.0, s_min=0.02))
    together = solver.sample(prior, problem, y, 3, generator=seeded(0))
    apart = solver.sample(prior, problem, y, 3, generator=seeded(0), batch=1)
    torch.testing.assert_close(together.draws, apart.draws, rtol=0, atol=1e-9)


def test_what_is_done_once_is_shared_by_the_draws() -> None:
    prior, problem, y = white()
    solver = make_solver("warm-start")
    one, many = (solver.sample(prior, problem, y, n, generator=seeded(0)) for n in (1, 8))
    assert one.nfe > many.nfe >= solver.steps + 1
    assert one.vjps > many.vjps


@pytest.mark.parametrize(
    "bad",
    [{"sweeps": -1}, {"loss": 0.0}, {"loss": 1.0}, {"s_least": 0.0}, {"steps": 0}, {"finish": "x"}],
)
def test_bad_settings_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"warm start needs|at least 1|unknown finish"):
        WarmStart(**bad)  # type: ignore[arg-type]


def test_the_level_of_a_hole_is_seen() -> None:
    """Most of what is not known of a smooth field with a hole is in a few directions of 256."""
    side = 16
    axis = torch.arange(side, dtype=F64)
    place = torch.cartesian_prod(axis, axis)
    near = torch.exp(-torch.cdist(place, place).square() / (2 * 3.0**2))
    covariance = 0.25 * near + 1e-3 * torch.eye(side**2, dtype=F64)
    prior = GaussianPrior(torch.zeros(1, side, side, dtype=F64), covariance)
    mask = torch.ones(side, side)
    mask[4:12, 4:12] = 0
    problem = InverseProblem(Inpainting(mask), GaussianNoise(0.05))
    y = problem.measure(prior.sample(1, seeded(1)), seeded(2))
    posterior = prior.posterior(problem, y).moments()[1]
    widest = float(torch.linalg.eigvalsh(posterior).max())
    solver = WarmStart(correction=MMPS(iterations=40))
    x = torch.zeros(1, 1, side, side, dtype=F64)
    found = float(solver._look(prior, problem, y, x, 2.0)[0].amax())
    assert 0.5 * widest < found < 1.1 * widest
