"""Solvers on a denoiser whose Jacobian is wrong as a network's is: neither symmetric nor positive.

The denoiser is that of an exact prior plus a small wave, D(u) + a(s) sin(W u / l). The wave barely
moves the value, but up to 40 % of the Jacobian becomes antisymmetric and A V A^T gets eigenvalues
of minus thousands of noise variances. Its posterior is that of the exact prior for all that matters
here.
"""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients
from scoresde import GaussianMixturePrior, GaussianPrior
from scoresde.priors.base import Wrapper
from solvers import (
    DDIM,
    MMPS,
    Guided,
    Heun,
    PosteriorSampler,
    SecondOrderAncestral,
    SolverWarning,
    TimeGrid,
    WarmStart,
)
from solvers.guidance.health import Health, note, recording
from solvers.guidance.krylov import nearly_symmetric_gain
from solvers.posterior.second_order import lanczos
from tests.conftest import F64, randn, seeded

N, NOISE = 64, 0.028  # 25 dB below the signals
RESTORATION = TimeGrid(s_max=5.0, s_min=0.03)
SOLVERS: dict[str, PosteriorSampler] = {
    "mmps-ancestral": Guided(MMPS(4), DDIM(64, eta=1.0)),
    "mmps-10-ancestral": Guided(MMPS(10), DDIM(24, RESTORATION, eta=1.0)),
    "mmps-churn": Guided(MMPS(4), Heun(24, churn=6.0)),
    "mmps-10-heun": Guided(MMPS(10), Heun(16)),
    "second-order": SecondOrderAncestral(40, lanczos=4, correction=MMPS(4)),
    "warm-start": WarmStart(20, lanczos=4, correction=MMPS(4), loss=0.01, sweeps=2, s_least=0.01),
}


class Learned(Wrapper):
    """A prior whose denoiser has an error of small value and large slope."""

    W: Tensor

    def __init__(self, prior: GaussianMixturePrior, variance: float, size: float) -> None:
        super().__init__(prior)
        self.register_buffer("W", randn(N, N) / (2 * math.sqrt(N)), persistent=False)
        self.variance, self.size = variance, size

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        s = expand_like(self.sde.noise_to_signal(t), x_t)
        u, length = x_t / expand_like(self.sde.alpha(t), x_t), s / 2
        slope = self.size * self.variance / (self.variance + s**2)
        return self.prior._denoise(x_t, t) + slope * length * (u @ self.W.T / length).sin()


def walk() -> GaussianMixturePrior:
    """Cumulative sums of Gaussian increments, of root mean square 1/2."""
    i = torch.arange(1, N + 1, dtype=F64)
    covariance = torch.minimum(i[:, None], i)
    return GaussianPrior(
        torch.zeros(N, dtype=F64), covariance * (0.25 / covariance.diagonal().mean())
    )


def jumps() -> GaussianMixturePrior:
    """Twelve piecewise constant signals, blurred by a small walk and white noise."""
    g, means = seeded(5), torch.zeros(12, N, dtype=F64)
    for one in means:
        one[torch.randint(0, N, (4,), generator=g)] = 0.4 * torch.randn(4, dtype=F64, generator=g)
    i = torch.arange(1, N + 1, dtype=F64)
    covariance = torch.minimum(i[:, None], i) * (0.01 / 32) + 1e-4 * torch.eye(N, dtype=F64)
    return GaussianMixturePrior(
        torch.ones(12, dtype=F64), means.cumsum(1), covariance.expand(12, N, N).contiguous()
    )


def subset() -> Tensor:
    """25 entries at random."""
    return torch.eye(N, dtype=F64)[torch.randperm(N, generator=seeded(7))[:25].sort().values]


def convolution() -> Tensor:
    """A Gaussian blur of 13 taps, where it fits."""
    taps = (-(torch.arange(-6, 7, dtype=F64) ** 2) / 12.5).exp()
    return torch.stack(
        [torch.cat((taps.new_zeros(j), taps / taps.sum(), taps.new_zeros(N - 13 - j))) for j in
         range(N - 12)]
    )  # fmt: skip


def scene(
    make: Callable[[], GaussianMixturePrior], matrix: Tensor, size: float = 0.3
) -> tuple[GaussianMixturePrior, Learned, InverseProblem, Tensor]:
    """The exact prior, the learned one, a problem, and its measurements of eight draws."""
    prior = make()
    variance = float(torch.linalg.eigvalsh(prior.moments()[1])[-1])
    problem = InverseProblem(LinearMatrix(matrix), GaussianNoise(NOISE))
    y = problem.measure(prior.sample(8, seeded(1)), seeded(2))
    return prior, Learned(prior, variance, size), problem, y


def dense_parts(learned: Learned, matrix: Tensor, s: float) -> tuple[float, float]:
    """Asymmetry of the Jacobian at a point; least eigenvalue of A V A^T in noise variances."""
    u, t = s * randn(1, N), torch.tensor([s], dtype=F64)
    J = torch.autograd.functional.jacobian(lambda v: learned._denoise(v, t)[0], u)[:, 0]
    S, K = (J + J.T) / 2, (J - J.T) / 2
    AVA = s**2 * matrix @ S @ matrix.T
    return float(K.norm() / S.norm()), float(torch.linalg.eigvalsh(AVA)[0] / NOISE**2)


def test_the_denoiser_is_wrong_as_learned_ones_are() -> None:
    prior, learned, _, _ = scene(walk, subset())
    asymmetry, least = dense_parts(learned, subset(), 80.0)
    assert asymmetry > 0.1
    assert least < -1000
    x, s = prior.sample(50, seeded(1)), 1.0
    u = x + s * randn(50, N)
    exact, found = ((p.denoise(u, s) - x).square().mean() for p in (prior, learned))
    assert found < 1.6 * exact  # 2 dB


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::solvers.SolverWarning")
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    ("make", "matrix"),
    [(walk, subset), (jumps, subset), (jumps, convolution)],
    ids=["walk-subset", "jumps-subset", "jumps-convolution"],
)
def test_no_draw_is_wild(
    make: Callable[[], GaussianMixturePrior], matrix: Callable[[], Tensor], name: str
) -> None:
    """18 cases of 424 draws, of which none is five standard deviations of the prior away."""
    prior, learned, problem, y = scene(make, matrix())
    mean = torch.stack([prior.posterior(problem, one[None]).moments()[0] for one in y])
    draws = SOLVERS[name].sample(learned, problem, y, 53, generator=seeded(3)).draws
    variance = prior.moments()[1].diagonal()
    assert float((draws - mean).abs().max()) < 5 * float(variance.max().sqrt())
    # y has taught something: each measurement's draws are nearer to its mean than the prior's
    assert float((draws - mean).square().mean((0, 2)).max()) < float(variance.mean())


def covariance_gain(r: Tensor, noise: float, iterations: int, rtol: float = 0.0) -> Tensor:
    """The gain of the walk seen through the subset."""
    A, V = subset(), walk().moments()[1]
    return nearly_symmetric_gain(
        lambda w: w @ A @ V, lambda x: x @ A.T, lambda w: noise**2 * w, r, iterations, rtol
    )


@pytest.mark.parametrize("iterations", [1, 2, 4, 6])
def test_for_a_covariance_it_is_the_iterate_of_conjugate_gradients(iterations: int) -> None:
    """Later ones differ by rounding, which both recurrences amplify until they converge."""
    A, V, r = subset(), walk().moments()[1], randn(8, 25)
    M = 0.25 * torch.eye(25, dtype=F64) + A @ V @ A.T
    weights = conjugate_gradients(lambda p: p @ M, r, iterations=iterations, rtol=0.0, warn=False)
    found = covariance_gain(r, 0.5, iterations)
    torch.testing.assert_close(found, weights @ A @ V, rtol=1e-7, atol=1e-8)


def test_for_a_covariance_it_converges_to_the_exact_gain() -> None:
    A, V, r = subset(), walk().moments()[1], randn(8, 25)
    M = NOISE**2 * torch.eye(25, dtype=F64) + A @ V @ A.T
    exact = torch.linalg.solve(M, r.T).T @ A @ V
    torch.testing.assert_close(covariance_gain(r, NOISE, 60, 1e-13), exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_the_prediction_is_bounded_for_any_matrix(seed: int) -> None:
    V = 1e4 * randn(6, 6, seed=seed)
    r = randn(5, 6, seed=100 + seed)
    found = nearly_symmetric_gain(lambda w: w @ V, lambda x: x, lambda w: w, r, 6, 0.0)
    assert bool((found.norm(dim=1) <= 3 * r.norm(dim=1) * (1 + 1e-9)).all())


def test_a_sample_does_not_depend_on_its_batch() -> None:
    V, r = randn(6, 6), randn(5, 6, seed=1)
    r[2] = 0
    r[3] = torch.eye(6, dtype=F64)[0]
    V[:, 0] = V[0] = 0  # r[3] is done after one product

    def gain(some: Tensor) -> Tensor:
        return nearly_symmetric_gain(lambda w: w @ V, lambda x: x, lambda w: w, some, 5, 1e-12)

    torch.testing.assert_close(gain(r), torch.cat([gain(one[None]) for one in r]))
    assert float(gain(r)[2].abs().max()) == 0


def test_lanczos_takes_the_symmetric_part() -> None:
    J, z = randn(5, 5), randn(3, 5, seed=1)
    T, Q = lanczos(lambda v: v @ J, z, 5)
    basis = torch.stack(list(Q), -1)
    torch.testing.assert_close(T, basis.mT @ ((J + J.T) / 2) @ basis)


def test_the_record_is_right_and_closed_afterwards() -> None:
    V = torch.tensor([[1.0, 3.0], [-1.0, 1.0]], dtype=F64)  # symmetric part [[1, 1], [1, 1]]
    r = randn(1, 2)

    def gain(matrix: Tensor) -> None:
        nearly_symmetric_gain(lambda w: w @ matrix, lambda x: x, lambda w: w, r, 2, 0.0)

    with recording(Health(1)) as health:
        gain(V)
        gain(-torch.eye(2, dtype=F64))
        note(torch.ones(7), torch.ones(7, dtype=torch.bool))  # tiles: another batch
    gain(V)
    torch.testing.assert_close(health.asymmetry(), torch.ones(1, dtype=F64) * math.sqrt(8) / 2)
    assert health.guarded().tolist() == [0.5]


def test_exact_denoisers_have_nothing_to_report() -> None:
    prior, _, problem, y = scene(walk, subset())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = SOLVERS["second-order"].sample(prior, problem, y, 4, generator=seeded(3))
    assert max(found.diagnostics["asymmetry"]) < 1e-6
    assert found.diagnostics["guarded"] == [0.0] * 8
    # the largest of 4 with a standard deviation of sqrt(1 / 50)
    assert all(0.8 < one < 1.8 for one in found.diagnostics["residual"])


def test_the_diagnostics_do_not_depend_on_the_batch() -> None:
    _, learned, problem, y = scene(walk, subset())
    solver = SecondOrderAncestral(4)
    with pytest.warns(SolverWarning):  # four steps from s = 80 do not settle
        found = [
            solver.sample(learned, problem, y, 3, generator=seeded(), batch=batch).diagnostics
            for batch in (None, 5)
        ]
    for key in ("asymmetry", "guarded", "residual"):
        torch.testing.assert_close(*(torch.tensor(one[key], dtype=F64) for one in found))
    assert min(found[0]["asymmetry"]) > 0.05
    assert min(found[0]["guarded"]) > 0


def test_a_residual_far_from_its_law_warns() -> None:
    prior, _, problem, y = scene(walk, subset())
    coarse = Guided(MMPS(4), DDIM(20, TimeGrid(s_max=5.0, s_min=1.0), eta=1.0))
    far = InverseProblem(problem.operator, GaussianNoise(NOISE / 100))
    with pytest.warns(SolverWarning, match=r"of 4 draws of Guided should not be trusted.* times"):
        found = Guided(MMPS(1), coarse.sampler).sample(prior, far, y[:1], 4, generator=seeded(3))
    assert found.diagnostics["residual"][0] > 3
