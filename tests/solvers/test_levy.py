"""Sums of independent increments: laws, Gibbs sampling, the exact denoiser.

Chains of length one, many at once and each with its own start, give independent draws. Their means,
variances and probabilities are then compared with sums over a grid of the increments, by tests
whose level is known. ``LEVEL`` is divided among the numbers that one test compares.
"""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from scoresde import VPSDE
from solvers.registry import make_solver
from solvers.verification.levy import (
    LAWS,
    MEASUREMENTS,
    BernoulliLaplaceIncrements,
    GaussianIncrements,
    GibbsDraws,
    Increments,
    LaplaceIncrements,
    LevyProcess,
    MarkovDenoiser,
    StudentIncrements,
    WhiteDenoiser,
    gibbs,
    judge,
    levy_problem,
    levy_process,
    score,
    smooth,
)
from solvers.verification.levy.chains import effective_size, r_hat
from solvers.verification.levy.gibbs import evidence, sweep
from solvers.verification.levy.spikes import collapsed_variance
from tests.conftest import F64, randn, seeded
from tests.laws import LEVEL, assert_exact

each_law = pytest.mark.parametrize("name", LAWS)


def p_of_mean(draws: Tensor, mean: float) -> float:
    """p-value of independent draws having this mean."""
    z = float((draws.mean() - mean) / (draws.std() / math.sqrt(len(draws))))
    return 2 * float(scipy.stats.norm.sf(abs(z)))


def p_of_share(hits: Tensor, share: float) -> float:
    """p-value of independent events having this probability."""
    return float(scipy.stats.binomtest(int(hits.sum()), len(hits), min(share, 1.0)).pvalue)


def accept(p_values: list[float]) -> None:
    """Fail if one of them is too small for their number."""
    assert min(p_values) > LEVEL / len(p_values), sorted(p_values)[:5]


# Laws


def scipy_law(law: Increments) -> scipy.stats.rv_continuous:
    if isinstance(law, StudentIncrements):
        return scipy.stats.t(law.dof, scale=law.std * math.sqrt((law.dof - 2) / law.dof))
    if isinstance(law, LaplaceIncrements):
        return scipy.stats.laplace(scale=law.scale)
    return scipy.stats.norm(scale=law.std)


@each_law
def test_the_mixture_of_gaussians_has_the_law_of_the_name(name: str) -> None:
    law = LAWS[name](0.7)
    u = law.sample((20_000,), seeded(1))
    moving = u[u != 0]
    p = [float(scipy.stats.kstest(moving.numpy(), scipy_law(law).cdf).pvalue)]
    if isinstance(law, BernoulliLaplaceIncrements):
        assert law.scale == pytest.approx(0.7 / math.sqrt(2 * 0.1))
        p.append(p_of_share(u != 0, 0.1))
    else:
        assert len(moving) == len(u)
    accept(p)
    at = torch.linspace(-3, 3, 11, dtype=F64)
    np.testing.assert_allclose(law.log_density(at), scipy_law(law).logpdf(at.numpy()), rtol=1e-12)


@pytest.mark.parametrize("law", [LaplaceIncrements(0.7), StudentIncrements(0.7, 4)])
@pytest.mark.parametrize("u", [0.0, 1e-9, 0.3, 40.0])
def test_variances_given_an_increment(law: Increments, u: float) -> None:
    w = law.variances_given(torch.full((10_000,), u, dtype=F64), seeded(2)).numpy()
    if isinstance(law, StudentIncrements):
        exact = scipy.stats.invgamma(2.5, scale=(4 * law.scale**2 + u**2) / 2)
    else:  # p(w|u) ~ w^{-1/2} exp(-u^2/(2w) - w/(2b^2)), at u = 0 a gamma law
        b = law.scale
        exact = (
            scipy.stats.geninvgauss(0.5, u / b, scale=u * b)
            if u > 1e-6 * b
            else scipy.stats.gamma(0.5, scale=2 * b**2)
        )
    assert scipy.stats.kstest(w, exact.cdf).pvalue > LEVEL


@pytest.mark.slow
def test_the_scale_of_a_process() -> None:
    x = levy_process("laplace", 64, rms=0.5).sample(5000, seeded(3))
    power = x.square().mean(1)
    accept([p_of_mean(power, 0.25)])
    covariance = levy_process("student", 5).covariance()
    place = torch.arange(1, 6, dtype=F64)
    torch.testing.assert_close(
        covariance, torch.minimum(place[:, None], place) * 0.25 / 3, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: levy_process("cauchy"), "gaussian"),
        (lambda: levy_process("laplace", rms=0.0), "the RMS of a signal"),
        (lambda: StudentIncrements(1.0, 2), "the degrees of freedom"),
        (lambda: BernoulliLaplaceIncrements(1.0, 1.0), "the rate of jumps"),
        (lambda: GaussianIncrements(-1.0), "the standard deviation of an increment"),
        (lambda: LevyProcess(GaussianIncrements(1.0), 0), "the length of a signal"),
        (
            lambda: evidence(levy_process("laplace", 4), randn(2, 3), randn(1, 2), 0.1),
            r"A must be \(m, 4\)",
        ),
        (lambda: r_hat(randn(2, 3)), "four draws"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


# Gibbs sampling


def measured(name: str, n: int, m: int, noise: float) -> tuple[LevyProcess, Tensor, Tensor]:
    """A process, a matrix (m, n) and one measurement of a draw."""
    process = levy_process(name, n)
    A = randn(m, n, seed=n) / math.sqrt(n)
    x = process.sample(1, seeded(10 + n))
    return process, A, x @ A.T + noise * randn(1, m, seed=20 + n)


def independent(process: LevyProcess, A: Tensor, y: Tensor, noise: float) -> Tensor:
    """Independent draws of the posterior, (4000, n): one of each of 4000 chains."""
    found = gibbs(process, A, y, noise, draws=1, chains=4000, burn_in=150, generator=seeded(4))
    return found.draws[:, 0, 0]


@pytest.mark.slow
def test_gaussian_increments_have_the_closed_form() -> None:
    process, A, y = measured("gaussian", 6, 3, 0.15)
    C = process.covariance()
    gain = torch.linalg.solve(A @ C @ A.T + 0.15**2 * torch.eye(3, dtype=F64), A @ C).T
    assert_exact(independent(process, A, y, 0.15), gain @ y[0], C - gain @ A @ C)


class Sums:
    """The posterior of up to four increments by sums over a grid, one for each pattern of zeros."""

    def __init__(
        self, process: LevyProcess, A: Tensor, y: Tensor, noise: float, cells: int, reach: float
    ):
        """Take increments up to ``reach`` scales."""
        law, n = process.law, process.length
        reach = reach * law.scale
        step = 2 * reach / cells
        self.step = step
        axis = (torch.arange(cells, dtype=F64) + 0.5) * step - reach  # no cell has the kink inside
        mass = torch.log_softmax(law.log_density(axis), 0)
        patterns = itertools.product([False, True], repeat=n) if law.silence else [(True,) * n]
        points, weights = [], []
        for moving in patterns:
            none = torch.zeros(1, dtype=F64)
            axes = [axis if move else none for move in moving]
            u = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, n)
            prior = [
                mass + math.log(1 - law.silence) if move else none + math.log(law.silence)
                for move in moving
            ]
            log_w = torch.stack(torch.meshgrid(*prior, indexing="ij")).sum(0).flatten()
            residual = y - u @ (A @ process.sums()).T
            log_w -= residual.square().sum(1) / (2 * noise**2)
            points.append(u)
            weights.append(log_w)
        self.u = torch.cat(points)
        self.w = torch.softmax(torch.cat(weights), 0)
        self.x = self.u.cumsum(1)

    def mean(self, f: Tensor) -> float:
        """Posterior mean of a function, given on the points."""
        return float(self.w @ f)

    def quantile(self, f: Tensor, q: float) -> float:
        order = f.argsort()
        return float(f[order][self.w[order].cumsum(0) >= q][0])

    def share_below(self, k: int, end: float) -> float:
        """P(x_k <= end); the mass of a point that moved is spread over the width of its cell."""
        x, moved = self.x[:, k], (self.u[:, : k + 1] != 0).any(1)
        spread = ((end - x) / self.step + 0.5).clamp(0, 1)
        return self.mean(torch.where(moved, spread, (x <= end).double()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n", "m", "cells", "noise"),
    [
        ("laplace", 1, 1, 20_000, 0.15),
        ("laplace", 2, 1, 1500, 0.15),
        ("laplace", 3, 2, 160, 0.15),
        ("student", 1, 1, 20_000, 0.15),
        ("student", 2, 2, 1500, 0.15),
        ("bernoulli-laplace", 1, 1, 20_000, 0.15),
        ("bernoulli-laplace", 2, 1, 1500, 0.15),
        ("bernoulli-laplace", 4, 3, 40, 0.5),
    ],
)
def test_gibbs_against_sums_over_a_grid(
    name: str, n: int, m: int, cells: int, noise: float
) -> None:
    process, A, y = measured(name, n, m, noise)
    exact = Sums(process, A, y, noise, cells, 14 if name == "student" else 9)
    draws = independent(process, A, y, noise)
    u = process.increments(draws)
    u = torch.where(u.abs() < 1e-12, 0.0, u)  # differences of equal samples
    p = []
    for k in range(n):
        mean = exact.mean(exact.x[:, k])
        p.append(p_of_mean(draws[:, k], mean))
        second = (exact.x[:, k] - mean).square()
        p.append(p_of_mean((draws[:, k] - mean).square(), exact.mean(second)))
        for q in (0.1, 0.5, 0.9):
            at = exact.quantile(exact.x[:, k], q)
            p.append(p_of_share(draws[:, k] <= at, exact.share_below(k, at)))
        if name == "bernoulli-laplace":
            p.append(p_of_share(u[:, k] == 0, exact.mean((exact.u[:, k] == 0).double())))
    accept(p)


@pytest.mark.parametrize(("q", "r"), [(0.0, 0.0), (3.0, -40.0), (1e4, 30.0), (1e-3, 1.0)])
def test_the_variance_of_a_jump_without_its_increment(q: float, r: float) -> None:
    """The law of w by quadrature: prior times the integral over u of both Gaussian factors."""
    law = BernoulliLaplaceIncrements(0.5, 0.3)
    rows = torch.ones(20_000, dtype=F64)
    w = collapsed_variance(law, q * rows, r * rows, seeded(5))
    b = law.scale

    def density(v: np.ndarray) -> np.ndarray:
        likelihood = -0.5 * np.log1p(v * q) + 0.5 * v * r**2 / (1 + v * q)
        return np.exp(likelihood - v / (2 * b**2)) / (2 * b**2)

    roots = np.linspace(0, 14 * b, 200_001)  # w = root^2, smooth at 0
    values = density(roots**2) * 2 * roots
    masses = np.concatenate([[0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(roots))])
    jump = 0.3 * masses[-1] / (0.3 * masses[-1] + 0.7)
    moving = w[w > 0].sqrt().numpy()
    found = scipy.stats.kstest(moving, lambda root: np.interp(root, roots, masses / masses[-1]))
    accept([p_of_share(w > 0, jump), float(found.pvalue)])


@each_law
@pytest.mark.slow
def test_a_sweep_keeps_the_joint_law(name: str) -> None:
    """Geweke's test: signals and measurements of the prior keep their law through two sweeps."""
    process, m, noise = levy_process(name, 5), 3, 0.2
    A = randn(m, 5, seed=6)

    def start(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        g = seeded(seed)
        w = process.law.variances((count, 5), g)
        u = w.sqrt() * torch.randn(count, 5, dtype=F64, generator=g)
        y = u.cumsum(1) @ A.T + noise * torch.randn(count, m, dtype=F64, generator=g)
        return u, w, y

    def functions(u: Tensor, w: Tensor, y: Tensor) -> list[Tensor]:
        residual = (y - u.cumsum(1) @ A.T).square().sum(1)
        return [*u.T, *w.T, u.abs().sum(1), (u == 0).double().sum(1), residual, u[:, 0] * y[:, 0]]

    _, w, y = start(20_000, 7)
    g = seeded(8)
    for _ in range(2):
        u, w = sweep(process.law, evidence(process, A, y, noise), w, g)
    p = [
        float(scipy.stats.ks_2samp(a.numpy(), b.numpy()).pvalue)
        for a, b in zip(functions(u, w, y), functions(*start(20_000, 9)), strict=True)
    ]
    accept(p)


@each_law
@pytest.mark.slow
def test_chains_agree(name: str) -> None:
    process = levy_process(name, 16)
    A = torch.eye(16, dtype=F64)[::2]
    x = process.sample(2, seeded(11))
    y = x @ A.T + 0.03 * randn(2, 8, seed=12)
    found = gibbs(process, A, y, 0.03, draws=1000, burn_in=200, generator=seeded(13))
    assert found.r_hat.max() < 1.05
    assert found.effective_size.min() > 100
    # the second chain is an independent run: its means agree within the stated errors
    one, two = found.draws.mean(1)
    z = (one - two) / (2 * found.standard_error)
    assert z.abs().max() < scipy.stats.norm.isf(LEVEL / z.numel() / 2)


@pytest.mark.slow
def test_sizes_of_autoregressive_chains() -> None:
    """Chains z' = .8 z + noise are worth a share (1 - .8)/(1 + .8) of their length."""
    z = [randn(4, 40, seed=14)]
    noise = randn(10_000, 4, 40, seed=15) * 0.6
    for one in noise:
        z.append(0.8 * z[-1] + one)
    chains = torch.stack(z[1:], 1)
    sizes = effective_size(chains)
    assert float(sizes.mean()) == pytest.approx(40_000 / 9, rel=0.05)
    assert r_hat(chains).max() < 1.01
    apart = chains + torch.tensor([0.0, 0.0, 2.0, 2.0])[:, None, None]
    assert r_hat(apart).min() > 1.2


# The exact denoiser


NOISES = (0.002, 0.03, 0.16, 0.4, 5.0, 80.0)
"""Windows of their own, up to .16 or .4; one window for all, above."""


@pytest.mark.parametrize("s", NOISES)
def test_the_smoother_of_gaussian_increments(s: float) -> None:
    process = levy_process("gaussian", 32)
    z = process.sample(4, seeded(16)) + s * randn(4, 32, seed=17)
    found = smooth(process, z, s)
    C = process.covariance()
    noisy = C + s**2 * torch.eye(32, dtype=F64)
    gain = torch.linalg.solve(noisy, C).T
    spread = (C - gain @ C).diagonal().sqrt()
    torch.testing.assert_close(found.mean / spread, z @ gain.T / spread, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.variance.sqrt(), spread.expand(4, -1), rtol=1e-6, atol=0)
    law = torch.distributions.MultivariateNormal(torch.zeros(32, dtype=F64), noisy)
    torch.testing.assert_close(found.log_density, law.log_prob(z), rtol=0, atol=1e-5)


@each_law
@pytest.mark.parametrize("s", NOISES)
def test_derivatives_of_the_smoother(name: str, s: float) -> None:
    """Tweedie: the mean from the log-density; and the tangent from the means."""
    process = levy_process(name, 16)
    z = process.sample(4, seeded(18)) + s * randn(4, 16, seed=19)
    v = torch.nn.functional.normalize(randn(4, 16, seed=20), dim=1)
    found, h = smooth(process, z, s, v), 1e-4 * s
    up, down = smooth(process, z + h * v, s), smooth(process, z - h * v, s)
    slope = (up.log_density - down.log_density) / (2 * h)
    expected = ((found.mean - z) * v).sum(1) / s**2
    torch.testing.assert_close(s * slope, s * expected, rtol=0, atol=1e-6)
    assert found.tangent is not None
    torch.testing.assert_close(found.tangent, (up.mean - down.mean) / (2 * h), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["laplace", "student", "bernoulli-laplace"])
@pytest.mark.parametrize("s", [0.03, 0.3, 3.0])
def test_the_smoother_against_sums_over_a_grid(name: str, s: float) -> None:
    process = levy_process(name, 2)
    z = process.sample(1, seeded(21)) + s * randn(1, 2, seed=22)
    reach = 200 if name == "student" else 18
    exact = Sums(process, torch.eye(2, dtype=F64), z, s, 2500, reach)
    found = smooth(process, z, s)
    for k in range(2):
        mean = exact.mean(exact.x[:, k])
        variance = exact.mean((exact.x[:, k] - mean).square())
        error = float(found.mean[0, k]) - mean
        assert abs(error) < 1e-3 * math.sqrt(variance)
        assert float(found.variance[0, k]) == pytest.approx(variance, rel=2e-3)


@each_law
@pytest.mark.slow
def test_two_ways_to_the_posterior_of_long_signals(name: str) -> None:
    """Gibbs and the smoother for signals seen with noise, within the errors that Gibbs states."""
    case = levy_problem(name, "identity", length=16)
    _, y = case.pairs(2, seeded(23))
    found = case.posterior(y, 1200, seeded(24), burn_in=200)
    assert found.r_hat.max() < 1.05
    exact = smooth(case.process, y, case.noise_std)
    z = (found.mean - exact.mean) / found.standard_error
    assert z.abs().max() < scipy.stats.norm.isf(LEVEL / z.numel() / 2)
    assert float((found.std / exact.variance.sqrt()).mean()) == pytest.approx(1, abs=0.03)


def test_the_denoiser_as_a_prior() -> None:
    process = levy_process("laplace", 8)
    prior = MarkovDenoiser(process)
    vp = prior.with_sde(VPSDE())
    x, t = process.sample(3, seeded(25)), torch.tensor([0.1, 0.5, 0.1], dtype=F64)
    alpha, sigma = vp.sde.alpha(t), vp.sde.sigma(t)
    x_t = alpha[:, None] * x + sigma[:, None] * randn(3, 8, seed=26)
    each = [
        smooth(process, x_t[i : i + 1] / alpha[i], float(sigma[i] / alpha[i])) for i in range(3)
    ]
    expected = torch.cat([one.mean for one in each])
    torch.testing.assert_close(vp.denoise(x_t, t), expected, rtol=1e-9, atol=1e-12)
    # products with the Jacobian, one by one against columns by differences
    u = x_t[:1].clone().requires_grad_()
    D = prior.denoise(u, 0.2)
    row = torch.autograd.grad(D[0, 3], u)[0][0]
    h = 1e-6 * torch.eye(8, dtype=F64)
    column = (prior.denoise(u.detach() + h, 0.2) - prior.denoise(u.detach() - h, 0.2))[:, 3] / 2e-6
    torch.testing.assert_close(row, column, rtol=0, atol=1e-7)
    spread = torch.cat([one.variance for one in each])
    torch.testing.assert_close(vp.variance(x_t[:1], 0.1), spread[:1], rtol=1e-9, atol=0)


# White signals

SPARSE = [LaplaceIncrements(0.5), BernoulliLaplaceIncrements(0.5, rate=0.1)]
each_sparse = pytest.mark.parametrize("law", SPARSE, ids=lambda law: type(law).__name__)


@each_sparse
@pytest.mark.parametrize("s", [0.01, 0.3, 4.0, 80.0])
def test_white_signals_are_signals_of_length_one(law: LaplaceIncrements, s: float) -> None:
    x_t = max(s, 1.0) * 2 * randn(5, 30, seed=40)
    lattice = smooth(LevyProcess(law, 1), x_t.reshape(-1, 1), s)
    white = WhiteDenoiser(law, 30)
    torch.testing.assert_close(
        white.denoise(x_t, s), lattice.mean.reshape(5, 30), rtol=0, atol=5e-4 * law.std
    )
    u = x_t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(white.denoise(u, s).sum(), u)
    variance = s**2 * slope.detach()  # Tweedie, to second order
    torch.testing.assert_close(
        variance, lattice.variance.reshape(5, 30), rtol=1e-3, atol=1e-3 * law.std**2
    )


@each_sparse
def test_the_white_denoiser_against_an_integral(law: LaplaceIncrements) -> None:
    for s, z in ((0.3, 0.4), (0.3, -0.7), (0.01, 5.0), (80.0, -100.0)):

        def moment(k: int, s: float = s, z: float = z) -> float:
            def inside(x: float) -> float:
                fit = math.exp(x * z / s**2 - x**2 / (2 * s**2) - z**2 / (2 * s**2))
                return float(x**k * fit * math.exp(-abs(x) / law.scale))

            reach = min(40 * law.scale, 12 * s)
            places = (max(z - 12 * s, -reach), 0.0, min(max(z + 12 * s, 0), reach + abs(z)))
            total = sum(
                scipy.integrate.quad(inside, low, high, epsabs=0, epsrel=1e-11, limit=500)[0]
                for low, high in itertools.pairwise(sorted({*places, z} if s < 1 else places))
            )
            silent = math.exp(-(z**2) / (2 * s**2)) if k == 0 else 0.0
            return (1 - law.silence) / (2 * law.scale) * total + law.silence * silent

        mean = moment(1) / moment(0)
        variance = moment(2) / moment(0) - mean**2
        u = torch.tensor([[z]], dtype=F64, requires_grad=True)
        D = WhiteDenoiser(law, 1).denoise(u, s)
        (slope,) = torch.autograd.grad(D.sum(), u)
        assert D.item() == pytest.approx(mean, rel=1e-7)
        assert s**2 * slope.item() == pytest.approx(variance, rel=1e-6)


@each_sparse
def test_the_white_denoiser_under_another_sde(law: LaplaceIncrements) -> None:
    white = WhiteDenoiser(law, 4)
    vp, x_t = white.with_sde(VPSDE()), randn(2, 4, seed=41)
    t = torch.tensor([0.2, 0.7], dtype=F64)
    alpha, sigma = vp.sde.alpha(t), vp.sde.sigma(t)
    for i in range(2):
        one = white.denoise(x_t[i : i + 1] / alpha[i], float(sigma[i] / alpha[i]))
        torch.testing.assert_close(vp.denoise(x_t, t)[i : i + 1], one, rtol=1e-9, atol=1e-12)
    assert torch.equal(white.denoise(x_t, 0.0), x_t)


@pytest.mark.slow
def test_gibbs_of_white_signals_seen_with_noise() -> None:
    case = levy_problem("bernoulli-laplace", "identity", length=12, decibels=6.0, summed=False)
    assert case.process.rms == pytest.approx(0.5)
    _, y = case.pairs(2, seeded(42))
    found = case.posterior(y, 1200, seeded(43), burn_in=200)
    z = (found.mean - case.prior.denoise(y, case.noise_std)) / found.standard_error
    assert z.abs().max() < scipy.stats.norm.isf(LEVEL / z.numel() / 2)


def test_white_signals_of_other_laws_have_no_exact_denoiser() -> None:
    case = levy_problem("student", "identity", length=8, summed=False)
    with pytest.raises(ValueError, match="not for StudentIncrements"):
        _ = case.prior
    with pytest.raises(ValueError, match="WhiteDenoiser is for white signals"):
        MarkovDenoiser(case.process)
    with pytest.raises(ValueError, match="WhiteDenoiser is for white ones"):
        smooth(case.process, randn(1, 8), 0.1)


# Problems


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_noise_of_a_problem(name: str) -> None:
    case = levy_problem("laplace", name, length=16, decibels=10.0)
    x, y = case.pairs(20_000, seeded(27))
    clean = x @ case.matrix.T
    accept(
        [
            p_of_mean((y - clean).square().mean(1), case.noise_std**2),
            p_of_mean(clean.square().mean(1), 10 * case.noise_std**2),
        ]
    )


def test_fourier_rows_are_orthogonal() -> None:
    A = levy_problem("laplace", "fourier", length=16).matrix
    gram = A @ A.T
    torch.testing.assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-12)
    torch.testing.assert_close(A[0], torch.full((16,), 0.25, dtype=F64))


# Scores


def gaussian_draws(count: int, spread: float = 1.0, shift: float = 0.0, seed: int = 28) -> Tensor:
    """Draws (count, 3, 4) of a law with standard deviations 1 to 4."""
    std = torch.arange(1, 5, dtype=F64)
    return (spread * randn(count, 3, 4, seed=seed) + shift) * std


@pytest.mark.slow
def test_scores_of_exact_wide_and_shifted_draws() -> None:
    exact = GibbsDraws(gaussian_draws(20_000, seed=29).unflatten(0, (2, -1)))
    good = judge(gaussian_draws(2000), exact)
    assert good.gap == pytest.approx(0, abs=0.03)
    assert good.coverage == pytest.approx(0.9, abs=0.01)
    assert good.distance == pytest.approx(1, abs=0.35)
    # mean off by half a standard deviation: the error is 1.25 times the least one
    shifted = judge(gaussian_draws(2000, shift=0.5), exact)
    assert shifted.gap == pytest.approx(10 * math.log10(1.25), abs=0.1)
    assert shifted.distance > 5
    narrow = judge(gaussian_draws(2000, spread=0.5), exact)
    inside = 2 * scipy.stats.norm.cdf(0.5 * scipy.stats.norm.isf(0.05)) - 1
    assert narrow.coverage == pytest.approx(inside, abs=0.01)
    few = judge(gaussian_draws(19), exact)  # ranks cover .9 on average for any number of draws
    assert few.coverage == pytest.approx(0.9, abs=0.05)
    with pytest.raises(ValueError, match="19 draws"):
        judge(gaussian_draws(10), exact)


@pytest.mark.slow
def test_a_solver_is_scored() -> None:
    case = levy_problem("laplace", "sampling", length=8)
    _, y = case.pairs(2, seeded(30))
    exact = case.posterior(y, 400, seeded(31), burn_in=100)
    found = score(make_solver("second-order"), case, y, exact, draws=40)
    assert abs(found.gap) < 1
    assert 0.8 < found.coverage < 0.97
    assert found.nfe > 1
    assert found.seconds > 0
