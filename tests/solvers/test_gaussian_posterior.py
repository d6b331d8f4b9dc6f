"""Every solver against the exact posterior of a Gaussian prior.

A solver that theory says is right must be right, and one that theory says is biased must have that
bias. Samples are compared by :func:`tests.laws.assert_exact`.
"""

import math

import pytest
import torch
from scipy import integrate
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem, LinearMatrix
from scoresde import EDMSDE, VESDE, VPSDE, GaussianPrior
from scoresde.sde import SDE
from solvers import (
    DDIM,
    DPS,
    MMPS,
    AnnealedLangevin,
    DiffPIR,
    DPMSolver,
    Guided,
    Heun,
    PiGDM,
    PosteriorSampler,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TimeGrid,
)
from tests.conftest import F64, seeded
from tests.laws import assert_exact, gaussian, measured, white, worst_deviations

pytestmark = pytest.mark.slow

SDES = [EDMSDE(), VPSDE(), VESDE()]
LOG_SNR = TimeGrid("log_snr", s_max=50.0, s_min=0.005)

# Every kind of sampler, at settings where its own bias is far below 4 %, the standard error of a
# variance from 1000 draws
GUIDED: dict[str, Sampler] = {
    "heun": Heun(48),
    "heun-churn": Heun(64, churn=4.0),
    "ddim": DDIM(500),
    "ancestral": DDIM(500, eta=1.0),
    "dpm-solver": DPMSolver(48, LOG_SNR),
    "dpm-solver-sde": DPMSolver(96, LOG_SNR, stochastic=True),
    "ode-adaptive": ProbabilityFlowODE(grid=LOG_SNR),
    "ode-rk4": ProbabilityFlowODE(24, LOG_SNR, method="rk4"),
    # the corrector favours large scores in so few dimensions
    "predictor": PredictorCorrector(500, LOG_SNR, corrections=0),
    "langevin": AnnealedLangevin(
        60, TimeGrid("log_snr", s_max=10.0, s_min=0.01), corrections=20, step_size=0.2
    ),
}


def linear_law(
    solver: PosteriorSampler, prior: GaussianPrior, problem: InverseProblem, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of the draws of a deterministic solver.

    On a Gaussian prior it maps the start x_T affinely to x_0.
    """
    assert isinstance(solver, Guided)
    dimension = prior.shape[0]
    cond = solver.guidance.condition(prior, problem, y)
    times = solver.sampler.grid.times(prior.sde, solver.sampler.steps)
    starts = torch.cat([torch.zeros(1, dimension, dtype=F64), torch.eye(dimension, dtype=F64)])
    with torch.no_grad():
        ends = solver.sampler._run(cond, prior.sde.sigma(times[0]) * starts, times, None, None)
    root = ends[1:] - ends[0]
    return ends[0], root.T @ root


# Guidance sees the level sigma / alpha and no SDE, and test_samplers has each sampler under every
# kind of SDE. So here the samplers take the SDEs in turn, and one of them takes all
EACH_IN_TURN = [("heun", sde) for sde in SDES] + [
    (name, SDES[i % 3]) for i, name in enumerate(reversed(GUIDED)) if name != "heun"
]


@pytest.mark.parametrize(
    ("name", "sde"),
    EACH_IN_TURN,
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_mmps_draws_the_exact_posterior(name: str, sde: SDE) -> None:
    prior = gaussian(sde)
    problem, y = measured(prior)
    mean, covariance = prior.posterior(problem, y).moments()
    posterior = Guided(MMPS(iterations=3), GUIDED[name]).sample(
        prior, problem, y, 1000, generator=seeded(0)
    )
    assert_exact(posterior.draws[:, 0], mean, covariance)


@pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)
def test_pigdm_is_exact_on_a_white_prior(sde: SDE) -> None:
    prior = white(sde)
    problem, y = measured(prior)
    mean, covariance = prior.posterior(problem, y).moments()
    posterior = Guided(PiGDM(), Heun(48)).sample(prior, problem, y, 2000, generator=seeded(0))
    assert_exact(posterior.draws[:, 0], mean, covariance)


def test_pigdm_with_the_right_variance_is_exact_and_with_another_is_not() -> None:
    prior = white(EDMSDE(), variance=0.25)
    problem, y = measured(prior)
    mean, covariance = prior.posterior(problem, y).moments()
    right = linear_law(Guided(PiGDM(prior_variance=0.25), Heun(64)), prior, problem, y)
    wrong = linear_law(Guided(PiGDM(), Heun(64)), prior, problem, y)
    assert (right[1] - covariance).norm() < 0.01 * covariance.norm()
    assert (wrong[1] - covariance).norm() > 0.05 * covariance.norm()
    assert (right[0] - mean).norm() < 0.01 * covariance.trace().sqrt()


def test_pigdm_with_adaptive_weights_has_the_bias_of_theory() -> None:
    r"""PiGDM with adaptive weights on N(m, I) seen directly.

    du/ds = a(s) u + ..., with :math:`a = (1 - J + r^2 J^2 / (r^2 + \sigma_y^2))/s`; the variance is
    :math:`s_{max}^2 \exp(-2 \int a\,ds)`.
    """
    noise, prior = 0.5, white(EDMSDE(), 4)
    problem = InverseProblem(Denoising(), GaussianNoise(noise))
    y = problem.measure(prior.sample(1, seeded(5)), seeded(6))

    def rate(log_s: float) -> float:
        s2 = math.exp(2 * log_s)
        J, r2 = 1 / (1 + s2), s2 / (1 + s2)
        return 1 - J + r2 * J**2 / (r2 + noise**2)

    total = integrate.quad(rate, math.log(1e-6), math.log(80), limit=200)[0]
    predicted = 80**2 * math.exp(-2 * total)
    _, law = linear_law(Guided(PiGDM(weight="adaptive"), Heun(256)), prior, problem, y)
    torch.testing.assert_close(law, predicted * torch.eye(4, dtype=F64), rtol=0.01, atol=1e-6)
    exact = noise**2 / (1 + noise**2)
    assert abs(predicted - exact) > 0.2 * exact


def test_pigdm_is_biased_on_a_coloured_prior() -> None:
    prior = gaussian(EDMSDE())
    problem, y = measured(prior)
    _mean, covariance = prior.posterior(problem, y).moments()
    law = linear_law(Guided(PiGDM(), Heun(64)), prior, problem, y)
    assert (law[1] - covariance).norm() > 0.1 * covariance.norm()


@pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)
def test_the_law_of_mmps_converges_at_second_order(sde: SDE) -> None:
    """Second order, without any Monte-Carlo error.

    The affine map from start to draw is computed, and its covariance compared with the posterior's.
    """
    prior = gaussian(sde)
    problem, y = measured(prior)
    _mean, covariance = prior.posterior(problem, y).moments()
    errors = []
    for steps in (32, 128):
        _law_mean, law_covariance = linear_law(
            Guided(MMPS(iterations=3), Heun(steps)), prior, problem, y
        )
        errors.append(((law_covariance - covariance).norm() / covariance.norm()).item())
    # The start leaves a relative error of order lambda / s_max^2, because alpha_T x_0 is not drawn;
    # stopping at s_min leaves the rest
    s_max, s_min = (
        float(sde.noise_to_signal(torch.tensor(t, dtype=F64))) for t in (sde.t_max, sde.t_min)
    )
    lam = torch.linalg.eigvalsh(prior.covariances[0])
    floor = float(lam.max()) / s_max**2 + s_min**2 / float(torch.linalg.eigvalsh(covariance).min())
    assert errors[1] < errors[0] / 8 + floor  # second order would be a sixteenth
    assert errors[1] < 2e-3 + floor


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_dps_likelihood_has_the_bias_of_theory(noise: float) -> None:
    """v exp(-v / sigma_y^2) instead of v sigma_y^2 / (v + sigma_y^2).

    Derived in the docstring of the method's module.
    """
    v = 1.0
    prior = white(EDMSDE(), 4, v)
    problem = InverseProblem(Denoising(), GaussianNoise(noise))
    y = problem.measure(prior.sample(1, seeded(5)), seeded(6))
    _, law = linear_law(Guided(DPS(weight="likelihood"), Heun(256)), prior, problem, y)
    predicted = v * math.exp(-v / noise**2)
    exact = v * noise**2 / (v + noise**2)
    torch.testing.assert_close(law, predicted * torch.eye(4, dtype=F64), rtol=0.01, atol=1e-6)
    assert abs(predicted - exact) > 0.2 * exact


def test_dps_with_the_residual_norm_is_far_from_the_posterior() -> None:
    prior = gaussian(EDMSDE())
    problem, y = measured(prior)
    mean, covariance = prior.posterior(problem, y).moments()
    posterior = Guided(DPS(zeta=0.3), DDIM(300, eta=1.0)).sample(
        prior, problem, y, 500, generator=seeded(0)
    )
    _z, tail = worst_deviations(posterior.draws[:, 0], mean, covariance)
    assert tail < 1e-12, "DPS is a heuristic: its variance is known to be wrong"


@pytest.mark.parametrize("zeta", [0.3, 1.0])
def test_diffpir_follows_its_recursion_and_misses_the_posterior(zeta: float) -> None:
    """On N(m, v I) seen through diag(a), the law of DiffPIR is known.

    It is an affine recursion per direction with Gaussian noise.
    """
    v, lam, noise, steps = 0.7, 8.0, 0.3, 30
    prior = white(EDMSDE(), 4, v)
    a = torch.tensor([0.0, 0.3, 1.0, 2.0], dtype=F64)
    problem = InverseProblem(LinearMatrix(torch.diag(a)), GaussianNoise(noise))
    y = problem.measure(prior.sample(1, seeded(5)), seeded(6))
    m = prior.means[0]

    times = TimeGrid().times(prior.sde, steps)
    mean, variance = torch.zeros(4, dtype=F64), torch.full((4,), float(times[0]) ** 2, dtype=F64)
    x0_slope = x0_offset = torch.zeros(4, dtype=F64)
    for i, s in enumerate(times.tolist()):
        # D = m + gain (x - m); prox: (D / r2 + a y / noise^2) / (1 / r2 + a^2 / noise^2)
        r2, gain = (
            s**2 / lam,
            v / (v + s**2),
        )
        precision = 1 / r2 + a**2 / noise**2
        x0_slope, x0_offset = (
            gain / r2 / precision,
            ((1 - gain) * m / r2 + a * y[0] / noise**2) / precision,
        )
        if i + 1 < steps:
            ratio = times[i + 1].item() / s * math.sqrt(1 - zeta)
            slope, offset = x0_slope + ratio * (1 - x0_slope), (1 - ratio) * x0_offset
            mean, variance = (
                slope * mean + offset,
                slope**2 * variance + zeta * times[i + 1].item() ** 2,
            )
    mean, variance = x0_slope * mean + x0_offset, x0_slope**2 * variance

    draws = (
        DiffPIR(steps, lam, zeta).sample(prior, problem, y, 4000, generator=seeded(0)).draws[:, 0]
    )
    assert_exact(draws, mean, torch.diag(variance))
    exact_mean, exact_covariance = prior.posterior(problem, y).moments()
    _, tail = worst_deviations(draws, exact_mean, exact_covariance)
    assert tail < 1e-12, "DiffPIR is a heuristic: its variance is known to be wrong"


def test_no_measurement_noise_is_refused() -> None:
    prior = white(EDMSDE())
    problem, y = measured(prior, std=0.0)
    for solver in (DiffPIR(5), Guided(MMPS(), Heun(5))):
        with pytest.raises(ValueError, match="noise level above 0"):
            solver.sample(prior, problem, y, 1)
