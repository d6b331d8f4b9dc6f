"""Samplers on priors whose law is known.

Where theory says that a sampler is right, its draws are compared with exact ones. Where theory says
that it is biased, they are compared with that bias. ``LEVEL`` is the probability that a right
sampler fails one check.
"""

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from problems import GaussianNoise, Inpainting, InverseProblem
from scoresde import (
    EDMSDE,
    SDE,
    VESDE,
    VPSDE,
    CosineVPSDE,
    CountingPrior,
    FlowMatchingSDE,
    GaussianMixturePrior,
    GaussianPrior,
    Prior,
    ScorePrior,
    SubVPSDE,
)
from solvers import (
    DDIM,
    MMPS,
    SAMPLERS,
    AnnealedLangevin,
    DPMSolver,
    Guided,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TimeGrid,
)
from solvers.ode import dopri5
from solvers.streams import NormalStream, spawn
from tests.conftest import F64, seeded
from tests.laws import LEVEL

pytestmark = pytest.mark.slow

SDES: list[SDE] = [
    VPSDE(),
    SubVPSDE(),
    CosineVPSDE(),
    VESDE(sigma_max=80.0),
    EDMSDE(),
    FlowMatchingSDE(),
]
each_sde = pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
WHOLE = TimeGrid("log_snr", s_max=80.0, s_min=0.02)  # within the range of every SDE above
SHORT = TimeGrid("log_snr", s_max=10.0, s_min=0.1)


def kernel(length: float, amplitude: float, nugget: float, side: int = 8) -> Tensor:
    """amplitude exp(-|p - q|^2 / (2 length^2)) + nugget, between the pixels p and q."""
    line = torch.arange(side, dtype=F64)
    pixels = torch.cartesian_prod(line, line)
    return amplitude * (
        -torch.cdist(pixels, pixels).square() / (2 * length**2)
    ).exp() + nugget * torch.eye(side**2, dtype=F64)


def pictures(sde: SDE | None = None) -> GaussianMixturePrior:
    """6 components with full covariances in 64 dimensions, at least 8 apart.

    The spread of the whole is 5, that of the finest detail 0.3.
    """
    g = seeded()
    means = (
        torch.randn(6, 64, dtype=F64, generator=g) @ torch.linalg.cholesky(kernel(2.0, 1.0, 1e-3)).T
    )
    covariances = torch.stack(
        [
            kernel(length, 0.6, 0.1)
            for length in (1 + 2 * torch.rand(6, dtype=F64, generator=g)).tolist()
        ]
    )
    weights = (0.5 * torch.randn(6, dtype=F64, generator=g)).softmax(0)
    return GaussianMixturePrior(weights, means.reshape(6, 1, 8, 8), covariances, sde)


def mixture(sde: SDE | None = None) -> GaussianMixturePrior:
    g = seeded()
    roots = torch.randn(3, 8, 8, dtype=F64, generator=g)
    covariances = 0.05 * roots @ roots.mT / 8 + 0.01 * torch.eye(8, dtype=F64)
    return GaussianMixturePrior(
        torch.tensor([0.5, 0.3, 0.2]), torch.randn(3, 8, dtype=F64, generator=g), covariances, sde
    )


VARIANCES = torch.tensor([0.1, 0.5, 1.0, 4.0], dtype=F64)
MEAN = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=F64)


def gaussian(sde: SDE | None = None) -> GaussianPrior:
    return GaussianPrior(MEAN, torch.diag(VARIANCES), sde)


def draw(sampler: Sampler, prior: Prior, n: int = 6, seed: int = 0) -> Tensor:
    return sampler.sample(prior, n, generator=seeded(seed))


def assert_variances(x: Tensor, expected: Tensor) -> None:
    """Independent Gaussian columns: (n - 1) times the variance over its value is chi-squared."""
    statistic = ((len(x) - 1) * x.var(0) / expected).numpy()
    tails = 2 * np.minimum(
        stats.chi2.cdf(statistic, len(x) - 1), stats.chi2.sf(statistic, len(x) - 1)
    )
    assert (tails > LEVEL / len(tails)).all(), (
        f"variance over theory: {(x.var(0) / expected).tolist()}"
    )


# The law of the draws, under every SDE


class Judge:
    """Statistics of n draws of :func:`pictures`, with their scatter over 40 sets of exact draws."""

    def __init__(self, n: int, sets: int = 40) -> None:
        self.prior, self.n = pictures(), n
        self.mean, covariance = self.prior.moments()
        self.root = torch.linalg.cholesky(covariance)
        g = seeded(1000)
        directions = torch.randn(64, 200, dtype=F64, generator=g)
        self.directions = directions / directions.norm(dim=0)
        self.reference = self._profile(self.prior.sample(n, g).flatten(1))
        exact = [self.prior.sample(n, g).flatten(1) for _ in range(sets)]
        spread = torch.stack([self.distances(x) for x in exact])
        # The quantile of one more observation from a normal law estimated from ``sets`` of them.
        # Both distances are positive, so their logarithms are used
        factor = stats.t.isf(LEVEL, sets - 1) * math.sqrt(1 + 1 / sets)
        self.limits = (spread.mean(0) + factor * spread.std(0)).tolist()
        self.responsibility_std = self.prior.responsibilities(torch.cat(exact)).std(0)

    def _profile(self, x: Tensor) -> Tensor:
        return (x @ self.directions).sort(0).values

    def _whitened(self, x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.root, (x - self.mean).T, upper=False).T

    def distances(self, x: Tensor) -> Tensor:
        """Logarithms of two distances from the exact law.

        The Frobenius norm of the error of the whitened covariance, and the sliced Wasserstein
        distance to an exact set.
        """
        covariance = torch.cov(self._whitened(x).T)
        sliced = (self._profile(x) - self.reference).square().mean().sqrt()
        return torch.stack([(covariance - torch.eye(64, dtype=F64)).norm(), sliced]).log()

    def check(self, x: Tensor) -> None:
        x = x.flatten(1)
        hotelling = self.n * float(self._whitened(x).mean(0).square().sum())
        assert stats.chi2.sf(hotelling, 64) > LEVEL, (
            f"the mean is off: chi-squared {hotelling:.0f} of 64"
        )
        z = (self.prior.responsibilities(x).mean(0) - self.prior.weights) / (
            self.responsibility_std / math.sqrt(self.n)
        )
        assert float(z.abs().max()) < stats.norm.isf(LEVEL / 2 / 6), (
            f"component weights are off: z-scores {z.tolist()}"
        )
        covariance, sliced = self.distances(x).tolist()
        assert covariance < self.limits[0], (
            f"the covariance is off by {math.exp(covariance):.3f}, "
            f"exact draws by {math.exp(self.limits[0]):.3f}"
        )
        assert sliced < self.limits[1], (
            f"sliced Wasserstein distance {math.exp(sliced):.3f}, "
            f"of exact draws {math.exp(self.limits[1]):.3f}"
        )


judge = functools.cache(Judge)

# Settings at which theory predicts a bias of at most 1 or 2 % of each variance, where n draws have
# a standard error of 6 or 14 %. The noise of the start hides the mean m up to |m|/s_max = 0.04
# standard errors of one draw. First-order and Langevin samplers need many evaluations for that, and
# have fewer draws; the covariance check finds a bias common to all directions just as well.
LAWS: dict[str, tuple[Sampler, int]] = {
    "heun": (Heun(48, WHOLE), 600),
    "heun-churn": (Heun(56, WHOLE, churn=3.0), 600),
    "dpm-solver": (DPMSolver(36, WHOLE), 600),
    "dpm-solver-sde": (DPMSolver(50, WHOLE, stochastic=True), 600),
    "dpm-solver-mean": (
        DPMSolver(32, TimeGrid("log_snr", s_max=20.0, s_min=0.02), start="mean"),
        600,
    ),
    "ode-adaptive": (ProbabilityFlowODE(grid=WHOLE, rtol=1e-3, atol=1e-3), 600),
    "ode-rk4": (ProbabilityFlowODE(12, WHOLE, method="rk4"), 600),
    "ddim": (DDIM(400, WHOLE), 96),
    "ancestral": (DDIM(600, WHOLE, eta=1.0), 96),
    "pc-reverse-diffusion": (
        PredictorCorrector(400, WHOLE, predictor="reverse_diffusion", snr=0.05),
        96,
    ),
    "pc-ancestral": (PredictorCorrector(400, WHOLE, predictor="ancestral", snr=0.05), 96),
    "pc-euler-maruyama": (PredictorCorrector(400, WHOLE, predictor="euler_maruyama", snr=0.05), 96),
    # At s = 10 there are no modes yet, so that the walk forgets its start; at least 100 steps of
    # size 0.4 for each e-fold of s, and 200 without the Metropolis rule
    "langevin": (
        AnnealedLangevin(
            60, TimeGrid("log_snr", s_max=10.0, s_min=0.05), corrections=20, step_size=0.4
        ),
        96,
    ),
    "mala": (
        AnnealedLangevin(
            30,
            TimeGrid("log_snr", s_max=10.0, s_min=0.05),
            corrections=20,
            step_size=0.4,
            mala=True,
        ),
        96,
    ),
}


@functools.cache
def drawn(name: str, index: int) -> Tensor:
    """Draws by a sampler of ``LAWS`` under one of ``SDES``, once in each process."""
    sampler, n = LAWS[name]
    return draw(sampler, pictures(SDES[index]), n, seed=1 + index)


# The levels are the same under every SDE, which is then only a clock: two kinds suffice where the
# draws are many. Few draws come from all SDEs, because they are judged together as well
KINDS = (SDES[0], SDES[3])
FEW = [name for name, (_, n) in LAWS.items() if n == 96]


def law(name: str, *more: int, label: str) -> Any:
    """A case of this sampler, on the worker that has its draws."""
    return pytest.param(name, *more, id=label, marks=pytest.mark.xdist_group(f"law-{name}"))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        law(name, index, label=f"{name}-{type(sde).__name__}")
        for name in LAWS
        for index, sde in enumerate(SDES)
        if name in FEW or sde in KINDS
    ],
)
def test_samplers_draw_the_mixture(name: str, index: int) -> None:
    """Mean, component weights, covariance and distance agree with exact draws.

    The mean by Hotelling's test, the weights by z-scores, the covariance and the sliced Wasserstein
    distance by their scatter over exact sets.
    """
    judge(LAWS[name][1]).check(drawn(name, index))


@pytest.mark.parametrize("name", [law(name, label=name) for name in FEW])
def test_few_draws_are_judged_together(name: str) -> None:
    """96 draws could miss a rare component, but not those under all SDEs together.

    These are six times as many, from other seeds.
    """
    judge(6 * LAWS[name][1]).check(torch.cat([drawn(name, index) for index in range(len(SDES))]))


# The settings of the command line, on the whole range of each SDE. At their own few steps these
# four are a few per cent wider than exact draws (benchmarks/results/samplers.md); twice the steps
# remove that
MENDED_BY_TWICE = ("heun", "dpm-solver", "dpm-solver-fast", "langevin")
SLOW = ("predictor-corrector", "langevin")


@pytest.mark.parametrize(
    ("name", "sde"),
    [
        pytest.param(name, sde, id=f"{name}-{type(sde).__name__}")
        for name in SAMPLERS
        for sde in SDES
        # 1000 evaluations and more: under one SDE of each kind
        if name not in SLOW or sde in (*KINDS, SDES[5])
    ],
)
def test_named_samplers_as_they_come_draw_the_mixture(name: str, sde: SDE) -> None:
    make, n = SAMPLERS[name], 96 if name in SLOW else 600
    sampler = make(make.steps * (2 if name in MENDED_BY_TWICE else 1))
    judge(n).check(draw(sampler, pictures(sde), n, seed=50 + SDES.index(sde)))


@pytest.mark.parametrize("n", [576, 600])
def test_the_judge_misses_no_component(n: int) -> None:
    """The check fails when any one component is left out.

    With as many draws as the samplers are checked with.
    """
    prior = pictures()
    x = prior.sample(2 * n, seeded(6))
    component = prior.responsibilities(x).argmax(1)
    judge(n).check(x[:n])
    for missing in range(6):
        with pytest.raises(AssertionError):
            judge(n).check(x[component != missing][:n])


def test_the_judge_sees_small_errors() -> None:
    """Exact draws pass; slightly wrong draws fail.

    12 % too much variance, a faint checkerboard in each, or too few of one component.
    """
    prior = pictures()
    mean = prior.moments()[0].reshape(1, 8, 8)
    x = prior.sample(1000, seeded(5))
    judge(1000).check(x)
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2 - 1
    heaviest = prior.responsibilities(x).argmax(1) == int(prior.weights.argmax())
    common, rest = x[heaviest], x[~heaviest]
    fewer = torch.cat([common[80:], rest, rest[:80]])
    for wrong, what in [
        (mean + 1.06 * (x - mean), "covariance"),
        (x + 0.03 * board, "mean"),
        (fewer, "weights"),
    ]:
        with pytest.raises(AssertionError, match=what):
            judge(1000).check(wrong)


@pytest.mark.parametrize("sde", SDES[:4:3] + SDES[5:], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize(
    "sampler",
    [
        Heun(12, SHORT, churn=4.0),
        DDIM(12, SHORT, eta=0.5),
        DPMSolver(12, SHORT),
        DPMSolver(12, SHORT, stochastic=True),
        DPMSolver(12, SHORT, start="mean"),
        ProbabilityFlowODE(grid=SHORT),
        ProbabilityFlowODE(6, SHORT, method="rk4"),
        AnnealedLangevin(4, SHORT, corrections=3, mala=True),
        PredictorCorrector(12, SHORT, predictor="ancestral", corrections=0),
    ],
    ids=lambda sampler: f"{type(sampler).__name__}-{sampler.start}",
)
def test_the_sde_is_only_a_clock(sampler: Sampler, sde: SDE) -> None:
    """Under another SDE the same noise gives the same draws up to rounding.

    On the same levels sigma / alpha.
    """
    prior = pictures(EDMSDE())
    torch.testing.assert_close(
        draw(sampler, prior.with_sde(sde)), draw(sampler, prior), rtol=1e-9, atol=1e-9
    )


# Biases that theory predicts


@each_sde
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_on_a_gaussian_is_an_affine_recursion(sde: SDE, eta: float) -> None:
    """On a Gaussian the deviation u - m shrinks by a known factor at each step.

    With D(u) = m + g (u - m) and g = v / (v + s^2) the factor is g + (1 - g) sqrt(s'^2 - eta^2 w) /
    s.
    """
    sampler, prior = DDIM(7, SHORT, eta=eta), gaussian(sde)
    s = sde.noise_to_signal(SHORT.times(sde, 7))
    slope, variance = torch.ones(4, dtype=F64), torch.full((4,), float(s[0]) ** 2, dtype=F64)
    for now, then in zip(s[:-1].tolist(), s[1:].tolist(), strict=True):
        g, w = VARIANCES / (VARIANCES + now**2), then**2 * (1 - then**2 / now**2)
        c = g + (1 - g) * math.sqrt(then**2 - eta**2 * w) / now
        slope, variance = c * slope, c**2 * variance + eta**2 * w
    g = VARIANCES / (VARIANCES + s[-1] ** 2)
    x = draw(sampler, prior, 20_000)
    assert_variances(x, g**2 * variance)
    if eta == 0:
        start = s[0] * torch.randn(20_000, 4, dtype=F64, generator=seeded())
        torch.testing.assert_close(x, MEAN + g * slope * (start - MEAN), rtol=1e-9, atol=1e-9)
    # and the bias is visible: 7 steps lose much of the variance
    assert float((g**2 * variance / VARIANCES).min()) < 0.9


@pytest.mark.parametrize("step_size", [0.4, 1.5])
@pytest.mark.parametrize("sde", [EDMSDE(), FlowMatchingSDE()], ids=lambda sde: type(sde).__name__)
def test_unadjusted_langevin_is_too_wide_and_mala_is_not(sde: SDE, step_size: float) -> None:
    r"""On one level the target has the variance V = v + s^2.

    The unadjusted walk has :math:`V / (1 - \epsilon / (4 V))`.
    """
    n, s, prior = 8000, 1.0, gaussian(sde)
    grid = TimeGrid(s_max=s)
    V, epsilon = VARIANCES + s**2, step_size * s**2
    # what remains of the variance of the start: exp(-8)
    corrections = math.ceil(4 * 2 * float(V.max()) / epsilon)
    for mala, expected in [(False, V / (1 - epsilon / (4 * V))), (True, V)]:
        sampler = AnnealedLangevin(1, grid, corrections=corrections, step_size=step_size, mala=mala)
        run = sampler.trajectory(prior, n, generator=seeded(3))
        u = run.x_t[-1] / sde.alpha(grid.times(sde, 1))
        left = (1 - epsilon / (2 * V)) ** (2 * corrections) * (s**2 - expected)
        assert_variances(u, expected + (0 if mala else left))
        # a draw is the denoised state, an affine function of the state for Gaussian data
        torch.testing.assert_close(
            run.draws, MEAN + VARIANCES / V * (u - MEAN), rtol=1e-9, atol=1e-9
        )
        assert_variances(run.draws, (VARIANCES / V) ** 2 * (expected + (0 if mala else left)))


def test_mala_accepts_as_metropolis_and_hastings_say() -> None:
    """Decisions are those of the exact density.

    For a Gaussian the rule gives the log-ratio of densities exactly.
    """
    n, s, step_size, prior = 500, 1.3, 3.0, gaussian()
    sampler = AnnealedLangevin(1, TimeGrid(s_max=s), corrections=1, step_size=step_size, mala=True)
    g = seeded(4)
    u = s * torch.randn(n, 4, dtype=F64, generator=g)
    noise = torch.randn(n, 5, dtype=F64, generator=g)
    epsilon = step_size * s**2

    def drift(x: Tensor) -> Tensor:
        return x + epsilon / 2 * prior.score(x, s)

    def log_kernel(to: Tensor, by: Tensor) -> Tensor:
        return -(to - drift(by)).square().sum(1) / (2 * epsilon)

    proposal = drift(u) + math.sqrt(epsilon) * noise[:, :4]
    log_ratio = (
        prior.log_prob(proposal, s)
        - prior.log_prob(u, s)
        + log_kernel(u, proposal)
        - log_kernel(proposal, u)
    )
    accept = torch.special.ndtr(noise[:, 4]).log() < log_ratio
    assert 0.1 < float(accept.double().mean()) < 0.9
    state = sampler.trajectory(prior, n, generator=seeded(4)).x_t[-1]
    torch.testing.assert_close(
        state, torch.where(accept[:, None], proposal, u), rtol=1e-9, atol=1e-9
    )


def test_mala_keeps_the_weights_of_modes_that_it_crosses_between() -> None:
    """From exact draws, after 100 steps in which a third of them change sides.

    The trapezoidal rule loses 0.035 there.
    """
    n, s, grid = 20_000, 2.0, TimeGrid(s_max=2.0)
    weights, means = torch.tensor([0.8, 0.2], dtype=F64), torch.tensor([[-3.0], [3.0]], dtype=F64)
    prior = GaussianMixturePrior(weights, means, 0.5 * torch.ones(2, 1, 1, dtype=F64), EDMSDE())
    g = seeded(11)
    u = prior.sample(n, generator=g) + s * torch.randn(n, 1, dtype=F64, generator=g)
    states: list[Tensor] = []
    sampler = AnnealedLangevin(1, grid, corrections=100, step_size=0.6, mala=True)
    sampler._run(
        prior,
        u,
        grid.times(prior.sde, 1),
        NormalStream(spawn(g, n)),
        lambda i, k, t, x_t, x0_hat: states.append(x_t),
    )
    right = float((weights * torch.special.ndtr(means[:, 0] / math.sqrt(0.5 + s**2))).sum())
    assert float(((states[-1] > 0) != (u > 0)).double().mean()) > 0.2
    assert abs(float((states[-1] > 0).double().mean()) - right) < 4 * math.sqrt(
        right * (1 - right) / n
    )


class White(Prior):
    """N(0, v I) in so many dimensions that norms hardly vary."""

    def __init__(self, v: float, dimension: int, sde: SDE) -> None:
        super().__init__(sde, (dimension,))
        self.v = v

    @property
    def dtype(self) -> torch.dtype:
        return F64

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.alpha(t)[:, None], self.sde.sigma(t)[:, None]
        return alpha * self.v / (alpha**2 * self.v + sigma**2) * x_t


@pytest.mark.parametrize("snr", [0.16, 0.5])
def test_the_corrector_is_too_wide_by_its_snr_squared(snr: float) -> None:
    r"""The corrector's variance is too large by the factor 1 + r^2.

    On one level epsilon = 2 r^2 D / |score|^2. The variance rho V of the walk gives |score|^2 = rho
    D / V, and the Langevin walk in turn :math:`\rho = 1 / (1 - \epsilon / (2 V)) = 1 / (1 - r^2 /
    \rho)`, that is, :math:`\rho = 1 + r^2`.
    """
    grid = TimeGrid("log_snr", s_max=1 + 1e-9, s_min=1.0)
    steps = 2 + math.ceil(12 / (4 * snr**2))
    sampler = PredictorCorrector(steps, grid, predictor="none", snr=snr)
    state = sampler.trajectory(White(0.5, 4096, EDMSDE()), 16, generator=seeded()).x_t[-1]
    ratio = float(state.square().mean()) / 1.5
    assert abs(ratio / (1 + snr**2) - 1) < 5 * math.sqrt(2 / state.numel()) + 2 / 4096


# Orders of convergence, and identities between samplers


@functools.cache
def exact_ends(sde: SDE) -> Tensor:
    """The ends of the probability-flow ODE for 20 starts."""
    return draw(ProbabilityFlowODE(grid=SHORT, rtol=1e-11, atol=1e-11), pictures(sde), 20)


def slope(make, steps: tuple[int, int], reference: Tensor, prior: Prior) -> float:
    """Slope of ln error against ln of the number of intervals."""
    errors = [float((draw(make(n + 1), prior, len(reference)) - reference).norm()) for n in steps]
    return math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0])


@pytest.mark.parametrize("sde", [VPSDE(), FlowMatchingSDE()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize(
    ("order", "make"),
    [
        (1, lambda n: DDIM(n, SHORT)),
        (2, lambda n: Heun(n, SHORT)),
        (2, lambda n: DPMSolver(n, SHORT)),
        (2, lambda n: DPMSolver(n, TimeGrid(s_max=10.0, s_min=0.1))),  # uneven steps
        (1, lambda n: ProbabilityFlowODE(n, SHORT, method="euler")),
        (2, lambda n: ProbabilityFlowODE(n, SHORT, method="midpoint")),
        (3, lambda n: ProbabilityFlowODE(n, SHORT, method="heun3")),
        (4, lambda n: ProbabilityFlowODE(n, SHORT, method="rk4")),
    ],
    ids=["ddim", "heun", "dpm-solver", "dpm-solver-karras", "euler", "midpoint", "heun3", "rk4"],
)
def test_order_of_convergence(sde: SDE, order: int, make) -> None:  # type: ignore[no-untyped-def]
    """Halving the steps divides the error of the solution by 2^order.

    Up to a term of the next order, against the exact solution from the same start.
    """
    assert abs(slope(make, (64, 128), exact_ends(sde), pictures(sde)) - order) < 0.15


def test_the_ode_solvers_agree() -> None:
    prior = pictures(VPSDE())
    own, scipy, torchdiffeq = (
        draw(ProbabilityFlowODE(grid=SHORT, method=method, rtol=1e-9, atol=1e-9), prior, 3)
        for method in ("adaptive", "scipy", "dopri5")
    )
    torch.testing.assert_close(own, scipy, rtol=0, atol=1e-6)
    torch.testing.assert_close(own, torchdiffeq, rtol=0, atol=1e-6)
    exact = gaussian(VPSDE())  # where u - m shrinks by sqrt((v + s^2) / (v + s_max^2))
    start = 10 * torch.randn(3, 4, dtype=F64, generator=seeded())
    x = draw(ProbabilityFlowODE(grid=SHORT, rtol=1e-9, atol=1e-9), exact, 3)
    u = (start - MEAN) * ((VARIANCES + 0.01) / (VARIANCES + 100)).sqrt()
    torch.testing.assert_close(x, MEAN + VARIANCES / (VARIANCES + 0.01) * u, rtol=0, atol=1e-6)


def test_tolerances_hold_and_steps_have_no_meaning_for_the_adaptive_method() -> None:
    prior, reference = pictures(VPSDE()), exact_ends(VPSDE())
    for tolerance in (1e-3, 1e-5, 1e-7):
        sampler = ProbabilityFlowODE(grid=SHORT, rtol=tolerance, atol=tolerance)
        error = (draw(sampler, prior, 20) - reference).norm() / reference.norm()
        assert float(error) < 30 * tolerance  # the tolerance is that of one step
    for method in ("adaptive", "dopri5", "scipy"):
        one, many = (
            draw(ProbabilityFlowODE(steps, SHORT, method=method), prior, 2) for steps in (1, 9)
        )  # type: ignore[arg-type]
        assert torch.equal(one, many)


def test_first_orders_are_ddim() -> None:
    """DPM-Solver++ of order 1 is DDIM, under every SDE.

    Its stochastic form and the ancestral predictor are DDIM with eta = 1.
    """
    for sde in SDES:
        prior = pictures(sde)
        torch.testing.assert_close(
            draw(DPMSolver(9, SHORT, order=1), prior), draw(DDIM(9, SHORT), prior)
        )
        ancestral = draw(DDIM(9, SHORT, eta=1.0), prior)
        torch.testing.assert_close(
            draw(DPMSolver(9, SHORT, order=1, stochastic=True), prior), ancestral
        )
        torch.testing.assert_close(
            draw(PredictorCorrector(9, SHORT, predictor="ancestral", corrections=0), prior),
            ancestral,
        )


def test_churn_without_effect_is_no_churn() -> None:
    prior = pictures()
    assert torch.equal(
        draw(Heun(6, SHORT, churn=5.0, churn_min=20.0), prior), draw(Heun(6, SHORT), prior)
    )
    assert not torch.allclose(draw(Heun(6, SHORT, churn=5.0), prior), draw(Heun(6, SHORT), prior))


# The adaptive Runge-Kutta method


def test_dopri5_keeps_a_clock_for_each_sample() -> None:
    """dz/dw = k (w - z) with a different k per row, forwards and backwards.

    Each row is integrated as if it were alone.
    """
    k = torch.tensor([[0.1], [3.0], [40.0]], dtype=F64)

    def f(w: Tensor, z: Tensor, k: Tensor = k) -> Tensor:
        return k * (w[:, None] - z)

    def exact(w: float, k: Tensor) -> Tensor:
        return w - 1 / k + (2 + 1 / k) * (-k * w).exp()  # from z(0) = 2

    z = torch.full((3, 1), 2.0, dtype=F64)
    clocks: list[Tensor] = []
    end = dopri5(
        f, z, 0.0, 1.0, rtol=1e-9, atol=1e-9, on_step=lambda w, *_: clocks.append(w.clone())
    )
    torch.testing.assert_close(end, exact(1.0, k), rtol=0, atol=1e-7)
    # the third no longer depends on its start
    back = dopri5(lambda w, z: f(w, z, k[:2]), end[:2], 1.0, 0.0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back, z[:2], rtol=0, atol=1e-6)
    assert (
        clocks[0].tolist() == [0.0, 0.0, 0.0]
        and len(set(clocks[3].tolist())) > 1
        and 1.0 in clocks[-1].tolist()
    )
    for i in range(3):
        alone = dopri5(
            lambda w, z, i=i: f(w, z, k[i : i + 1]), z[i : i + 1], 0.0, 1.0, rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(alone, end[i : i + 1], rtol=0, atol=1e-14)
    assert torch.equal(dopri5(f, z, 0.5, 0.5), z)


def test_dopri5_is_of_order_5_and_counts() -> None:
    calls, rounds = [0], [0]

    def f(w: Tensor, z: Tensor) -> Tensor:
        calls[0] += 1
        return torch.stack([z[:, 1], -z[:, 0]], 1)

    def count(w: Tensor, z: Tensor, slope: Tensor) -> None:
        rounds[0] += 1

    errors, steps = [], []
    for tolerance in (1e-6, 1e-9):
        calls[0] = rounds[0] = 0
        end = dopri5(
            f,
            torch.tensor([[1.0, 0.0]], dtype=F64),
            0.0,
            6.0,
            rtol=tolerance,
            atol=tolerance,
            on_step=count,
        )
        errors.append(float((end - torch.tensor([[math.cos(6), -math.sin(6)]], dtype=F64)).norm()))
        steps.append(rounds[0])
        assert calls[0] == 6 * rounds[0] + 1
    assert math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0]) > 4.5


def test_dopri5_says_what_went_wrong() -> None:
    z = torch.ones(2, 3, dtype=F64)
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        dopri5(lambda w, z: z / 0, z, 0.0, 1.0)
    with pytest.raises(
        RuntimeError, match=r"more than 5 steps; loosen rtol and atol \(now 1e-10 and 1e-05\)"
    ):
        dopri5(lambda w, z: -50 * z, z, 0.0, 1.0, rtol=1e-10, max_steps=5)


# The contract of every sampler


@each_sde
@pytest.mark.parametrize("spacing", ["karras", "log_snr", "uniform"])
def test_grids_decrease_between_the_ends(sde: SDE, spacing: str) -> None:
    times = TimeGrid(spacing).times(sde, 17)  # type: ignore[arg-type]
    assert float(times[0]) == sde.t_max and float(times[-1]) == sde.t_min
    assert bool((times.diff() < 0).all()) and len(times) == 17
    assert TimeGrid(spacing).times(sde, 1).tolist() == [sde.t_max]  # type: ignore[arg-type]


def test_the_karras_grid_of_the_paper() -> None:
    """18 steps from 80 to 0.002 with rho 7.

    The second level is (80^(1/7) + (0.002^(1/7) - 80^(1/7)) / 17)^7.
    """
    times = TimeGrid().times(EDMSDE(), 18)
    a, b = 80 ** (1 / 7), 0.002 ** (1 / 7)
    assert float(times[1]) == pytest.approx((a + (b - a) / 17) ** 7, rel=1e-12)
    assert float(times[1]) == pytest.approx(57.586, abs=1e-3)


@each_sde
def test_a_grid_can_be_cut_short(sde: SDE) -> None:
    s = sde.noise_to_signal(TimeGrid(s_max=20.0, s_min=0.05).times(sde, 9))
    assert float(s[0]) == pytest.approx(20.0, rel=1e-9) and float(s[-1]) == pytest.approx(
        0.05, rel=1e-9
    )
    # beyond the range of the SDE: its own range
    whole = TimeGrid(s_max=1e9, s_min=1e-9).times(sde, 9)
    assert torch.equal(whole, TimeGrid().times(sde, 9))


def test_langevin_defaults_are_the_paper_s() -> None:
    """Levels as far apart as 10 from 1 to 0.01, and epsilon = 2e-5 at sigma = 0.01.

    Song and Ermon 2019, section 5.
    """
    sampler = AnnealedLangevin()
    s = sampler.grid.times(EDMSDE(), sampler.steps)
    assert float(s[0]) == pytest.approx(50) and float(s[-1]) == pytest.approx(0.01)
    torch.testing.assert_close(
        s[:-1] / s[1:], torch.full((17,), 100 ** (1 / 9), dtype=F64), rtol=0.02, atol=0
    )
    assert sampler.corrections == 100 and sampler.step_size * 0.01**2 == pytest.approx(2e-5)


@pytest.mark.parametrize(
    ("sampler", "nfe"),
    [
        (DDIM(7), 7),
        (DDIM(7, eta=1.0), 7),
        (Heun(7), 13),
        (Heun(7, churn=10.0), 13),
        (Heun(1), 1),
        (DPMSolver(7), 7),
        (DPMSolver(7, stochastic=True), 7),
        (DPMSolver(7, start="mean"), 8),
        (AnnealedLangevin(3, corrections=5), 3 * 5 + 1),
        (AnnealedLangevin(3, corrections=5, start="mean"), 3 * 5 + 2),
        (AnnealedLangevin(3, corrections=5, mala=True), 3 * (2 * 5 + 1)),
        (PredictorCorrector(7, SHORT), 7 * 2 - 1),
        (PredictorCorrector(7, SHORT, corrections=3, predictor="ancestral"), 7 * 4 - 3),
        (PredictorCorrector(7, SHORT, corrections=0, predictor="euler_maruyama"), 7),
        (PredictorCorrector(7, SHORT, corrections=3, predictor="none"), 7 * 4 - 3 - 6),
        (ProbabilityFlowODE(7, method="euler"), 6 + 1),
        (ProbabilityFlowODE(7, method="midpoint"), 2 * 6 + 1),
        (ProbabilityFlowODE(7, method="heun3"), 3 * 6 + 1),
        (ProbabilityFlowODE(7, method="rk4"), 4 * 6 + 1),
    ],
    ids=str,
)
def test_evaluations_are_as_documented(sampler: Sampler, nfe: int) -> None:
    counted = CountingPrior(mixture())
    sampler.sample(counted, 2, generator=seeded())
    assert counted.nfe == nfe == sampler.trajectory(mixture(), 2, generator=seeded()).nfe


def test_evaluations_of_the_adaptive_ode() -> None:
    """Six evaluations per round, one at the start, and the denoiser at the end.

    A tighter tolerance costs more.
    """
    runs = [
        ProbabilityFlowODE(rtol=tol, atol=tol).trajectory(mixture(), 4, generator=seeded())
        for tol in (1e-3, 1e-6)
    ]
    for run in runs:
        assert run.nfe == 6 * (len(run.x_t) - 1) + 2
    assert runs[0].nfe < runs[1].nfe < 300


def test_a_step_that_is_refused_leaves_no_state() -> None:
    """A rejected step costs six evaluations and stores no state.

    A single draw has all its rejected steps to itself, and the state before them is kept once.
    """
    refused = 0
    for seed in range(6):
        run = ProbabilityFlowODE(grid=SHORT, rtol=1e-2, atol=1e-2).trajectory(
            mixture(VPSDE()), 1, generator=seeded(seed)
        )
        assert not any(torch.equal(a, b) for a, b in itertools.pairwise(run.x_t))
        refused += (run.nfe - 2) // 6 - (len(run.x_t) - 1)
    assert refused > 0


# Few evaluations of each named sampler, and of methods without a name
NAMED: dict[str, Sampler] = {name: make(4, SHORT) for name, make in SAMPLERS.items()} | {
    "langevin": AnnealedLangevin(3, SHORT, corrections=4),
    "mala": AnnealedLangevin(3, SHORT, corrections=4, mala=True),
    "heun-churn": Heun(4, SHORT, churn=5.0),
    "ode": ProbabilityFlowODE(grid=SHORT, rtol=1e-2, atol=1e-2),
    "ode-rk4": ProbabilityFlowODE(4, SHORT, method="rk4"),
    "pc-ancestral": PredictorCorrector(4, SHORT, predictor="ancestral"),
    "pc-euler-maruyama": PredictorCorrector(4, SHORT, predictor="euler_maruyama"),
    "pc-none": PredictorCorrector(4, SHORT, predictor="none"),
}
each_sampler = pytest.mark.parametrize("sampler", NAMED.values(), ids=NAMED)


def test_every_named_sampler_is_made_with_steps_and_a_grid() -> None:
    for make in SAMPLERS.values():
        assert make(6).steps == 6 and make(6, SHORT).grid == SHORT
    assert (
        SAMPLERS["ancestral"](6) == DDIM(6, eta=1.0)
        and SAMPLERS["dpm-solver-fast"](6).start == "mean"
    )


@each_sampler
def test_same_seed_same_draws_and_seed_zero_counts(sampler: Sampler) -> None:
    first, again, other = (draw(sampler, mixture(), 3, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert first.shape == (3, 8) and first.dtype == F64 and bool(first.isfinite().all())


@each_sampler
def test_nothing_is_mutated(sampler: Sampler) -> None:
    prior, before = mixture(), repr(sampler)
    kept, global_state = (
        {k: v.clone() for k, v in prior.state_dict().items()},
        torch.get_rng_state(),
    )
    draw(sampler, prior)
    # a given generator is the only source of randomness
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(torch.equal(v, kept[k]) for k, v in prior.state_dict().items())
    assert repr(sampler) == before


@each_sampler
def test_a_draw_does_not_depend_on_its_batch(sampler: Sampler) -> None:
    prior = pictures(VPSDE())
    together = sampler.sample(prior, 4, generator=spawn(seeded(), 4))
    for rows in ([2], [1, 3], [3, 2, 1, 0]):
        streams = spawn(seeded(), 4)
        some = sampler.sample(prior, len(rows), generator=[streams[i] for i in rows])
        torch.testing.assert_close(some, together[rows], rtol=1e-9, atol=1e-9)


@each_sampler
def test_callbacks_and_trajectories_see_every_step(sampler: Sampler) -> None:
    prior, seen = mixture(VPSDE()), []
    x = sampler.sample(
        prior,
        3,
        generator=seeded(),
        callback=lambda i, steps, t, x_t, x0_hat: seen.append((i, steps, x_t.shape, x0_hat.shape)),
    )
    run = sampler.trajectory(prior, 3, generator=seeded())
    # the last step ends in the denoiser
    assert torch.equal(run.draws, x) and torch.equal(run.x0_hat[-1], x)
    assert run.x_t.shape == run.x0_hat.shape == (len(seen), 3, 8) and run.t.shape == (len(seen), 3)
    indices = [i for i, *_ in seen]
    assert indices == sorted(indices) and {steps for _, steps, *_ in seen} == {indices[-1]}
    assert {shape for *_, a, b in seen for shape in (a, b)} == {x.shape}
    if not isinstance(sampler, ProbabilityFlowODE):
        assert indices == list(range(1, sampler.steps + 1))


@each_sampler
def test_trajectories_pair_each_state_with_its_time_and_what_the_denoiser_makes_of_it(
    sampler: Sampler,
) -> None:
    prior = mixture(VPSDE())
    run = sampler.trajectory(prior, 3, generator=seeded())
    # states one update after their x0_hat, except for the last
    behind = isinstance(sampler, AnnealedLangevin) and not sampler.mala
    for i in range(len(run.t) - 1 if behind else 0, len(run.t)):
        torch.testing.assert_close(
            run.x0_hat[i], prior.denoise(run.x_t[i], run.t[i]), rtol=1e-9, atol=1e-9
        )
    # each state is kept, none twice
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(run.x_t))
    churned = getattr(sampler, "churn", 0) > 0
    assert churned or bool((run.t[1:] <= run.t[:-1]).all())
    times = sampler.grid.times(prior.sde, 4)
    assert run.t[-1].tolist() == pytest.approx(
        [float(times[-1])] * 3, rel=0.5 if churned else 1e-12
    )
    if sampler.start == "noise" and not churned and not isinstance(sampler, AnnealedLangevin):
        noise = prior.sde.sigma(times[0]) * NormalStream(seeded())((3, 8), F64, torch.device("cpu"))
        # the first state is the noise itself
        torch.testing.assert_close(run.x_t[0], noise, rtol=1e-9, atol=1e-9)


@each_sampler
def test_guided_priors_can_be_sampled(sampler: Sampler) -> None:
    """Three draws for each of two measurements; alone or together they are the same."""
    prior = pictures()
    problem = InverseProblem(
        Inpainting(torch.rand(8, 8, generator=seeded(1)) < 0.6), GaussianNoise(0.1)
    )
    y = problem.measure(prior.sample(2, seeded(2)), seeded(3))
    solver = Guided(MMPS(iterations=2), sampler)
    posterior = solver.sample(prior, problem, y, 3, generator=seeded())
    assert posterior.draws.shape == (3, 2, 1, 8, 8) and bool(posterior.draws.isfinite().all())
    assert posterior.nfe > 0 and posterior.vjps > 0
    alone = solver.sample(prior, problem, y, 3, generator=seeded(), batch=1)
    torch.testing.assert_close(alone.draws, posterior.draws, rtol=1e-7, atol=1e-7)


class Single(Prior):
    """A prior in single precision, as networks are."""

    def __init__(self, prior: GaussianMixturePrior) -> None:
        super().__init__(prior.sde, prior.shape)
        self.prior = prior

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        assert x_t.dtype == t.dtype == torch.float32
        return self.prior._denoise(x_t.double(), t.double()).float()


class SameNoise(NormalStream):
    """The random numbers of double precision, rounded."""

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        return super().__call__(shape, F64, device).to(dtype)


@each_sde
@each_sampler
def test_single_precision_is_enough(sampler: Sampler, sde: SDE) -> None:
    """From the same noise the draws agree with double precision.

    Up to its rounding, and the amplification by the prior.
    """
    prior, x = pictures(sde), []
    grid = (
        sampler.grid
        if isinstance(sampler, AnnealedLangevin)
        else TimeGrid("log_snr", s_max=80.0, s_min=0.02)
    )
    for one in (prior, Single(prior)):
        times, noise = grid.times(sde, 12).to(one.dtype), SameNoise(seeded())
        start = sde.sigma(times[0]) * noise((3, 1, 8, 8), one.dtype, one.device)
        x.append(sampler._run(one, start, times, noise, None))
    assert x[1].dtype == torch.float32
    torch.testing.assert_close(x[1].double(), x[0], rtol=0, atol=5e-3)


def test_a_network_in_single_precision() -> None:
    class Shrink(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return -0.1 * x

    prior = ScorePrior(Shrink(), VPSDE(), (1, 4, 4))
    for sampler in NAMED.values():
        x = sampler.sample(prior, 2, generator=seeded(), shape=(1, 6, 5))
        assert x.shape == (2, 1, 6, 5) and x.dtype == torch.float32 and bool(x.isfinite().all())


@each_sde
def test_a_start_at_the_mean_forgets_what_the_noise_could_not_hide(sde: SDE) -> None:
    r"""A start at the mean removes the error of the mean.

    The ODE on a Gaussian shrinks u - m by r = sqrt(v / (v + s^2)). Starts around 0 leave the mean
    off by -r m, and starts around D(0, s) by :math:`-r\,v/(v + s^2)\,m`. With the same noise the
    draws differ by exactly the difference.
    """
    prior = gaussian(sde)
    s = 5.0
    grid = TimeGrid("log_snr", s_max=s, s_min=0.02)
    noise, mean = (
        ProbabilityFlowODE(grid=grid, rtol=1e-9, atol=1e-9, start=start)
        for start in ("noise", "mean")
    )  # type: ignore[arg-type]
    difference = draw(mean, prior) - draw(noise, prior)
    # denoising at the end replaces the shrinking below s_min by v / (v + s_min^2)
    r = ((VARIANCES + 0.02**2) / (VARIANCES + s**2)).sqrt() * VARIANCES / (VARIANCES + 0.02**2)
    shift = s**2 / (VARIANCES + s**2) * MEAN
    torch.testing.assert_close(difference, (r * shift).expand(6, 4), rtol=0, atol=1e-6)
    assert bool(((r * (shift - MEAN)).abs() < 0.15 * (r * MEAN).abs()).all())


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Heun(0), "steps must be a whole number of at least 1, got 0"),
        (
            lambda: Heun(5, start="median"),
            r"unknown start 'median'; did you mean 'mean'\? known: noise, mean",
        ),
        (lambda: Heun(5, churn=-1.0), "churn"),
        (lambda: Heun(5, churn_min=2.0, churn_max=1.0), "churn_min=2.0, churn_max=1.0"),
        (lambda: Heun(5, churn_noise=float("nan")), "churn_noise=nan"),
        (lambda: DDIM(5, eta=2.0), "got 2.0"),
        (lambda: DPMSolver(5, order=3), "order must be 1 or 2, got 3"),
        (lambda: AnnealedLangevin(corrections=0), "got 0 and 0.2"),
        (lambda: AnnealedLangevin(step_size=4.0), "got 100 and 4.0"),
        (
            lambda: PredictorCorrector(predictor="heun"),
            "'heun'; known: reverse_diffusion, ancestral, euler_maruyama, none",
        ),
        (lambda: PredictorCorrector(corrections=-1), "got -1 and 0.16"),
        (lambda: PredictorCorrector(snr=0.0), "got 1 and 0.0"),
        (lambda: PredictorCorrector(predictor="none", corrections=0), "does nothing"),
        (
            lambda: ProbabilityFlowODE(method="rk5"),
            r"'rk5'; did you mean 'rk4'\? known: adaptive, euler, midpoint, heun3, rk4, dopri5",
        ),
        (lambda: ProbabilityFlowODE(rtol=0.0), "got 0.0 and"),
        (lambda: TimeGrid("nope"), "'nope'; known: karras, log_snr, uniform"),
        (lambda: TimeGrid(rho=-1), "got -1"),
        (lambda: TimeGrid(s_max=0.1, s_min=1), "got 1 and 0.1"),
        (lambda: DDIM(2).sample(mixture(), 3, generator=[seeded()]), "1 generators for 3 draws"),
    ],
)
def test_bad_settings_are_named(attempt, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        attempt()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"s_max": 0.0}, "0 < s_min < s_max"),
        ({"s_min": 0.0}, "0 < s_min < s_max"),
        ({"s_min": 2.0, "s_max": 1.0}, "0 < s_min < s_max"),
    ],
)
def test_a_grid_that_cannot_be(limits: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeGrid(**limits)


@pytest.mark.parametrize("limits", [{"s_max": 1e-3}, {"s_min": 100.0}], ids=str)
def test_a_grid_outside_of_the_sde_is_refused(limits: dict) -> None:
    with pytest.raises(ValueError, match=r"levels from 0\.002 to 80"):
        Heun(4, TimeGrid(**limits)).sample(gaussian(EDMSDE(0.002, 80.0)), 1)
