"""The disguise sheet: a mixture in every convention gives back its own denoiser.

It runs over the registries of predictions and time labels, and over all SDEs. A new entry is on the
sheet by itself.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from scoresde.priors.adapted import (
    PREDICTIONS,
    TIMES,
    AdaptedPrior,
    Convention,
    DiscreteSchedule,
)
from scoresde.sde import VPSDE
from solvers import DDIM, MMPS, Guided, TimeGrid, log_likelihood
from tests.conftest import F64, randn, seeded
from tests.scoresde.priors.adapted.disguise import SCHEDULES, Disguise, ddpm, mixture

RANGES = [(-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)]
ROUNDED = ("sigma", "index")  # labels whose rounding in float32 can matter more than 1e-5
CASES = [
    (schedule, prediction, time)
    for schedule, noise in SCHEDULES.items()
    for prediction in PREDICTIONS
    for time, label in TIMES.items()
    if label.schedule in ("any", "discrete" if noise.discrete else "continuous")
]


def levels_in(prior: AdaptedPrior) -> Tensor:
    """Noise levels of the training from 0.02 on, up to 10 in the units of the network.

    With larger states the rounding of float32 alone would exceed 1e-5.
    """
    low, high = max(prior.trained[0], 0.02), min(prior.trained[1], 10 / prior.convention.scale)
    inside = 1 + 1e-9
    return torch.logspace(math.log10(low * inside), math.log10(high / inside), 7, dtype=F64)


def states(levels: Tensor, n: int = 4) -> tuple[Tensor, Tensor]:
    """Noisy samples of the mixture at all levels, and the level of each."""
    t = levels.repeat_interleave(n)
    x = mixture().sample(len(t), seeded(1)).double()
    return x + t[:, None] * randn(len(t), 3, seed=2), t


def of_rounded_label(prior: AdaptedPrior, x_t: Tensor, t: Tensor) -> Tensor:
    """The change of the denoiser within the rounding of a label in float32.

    The scale of the noise saturates where it is near 1, so that a label of 24 bits tells the levels
    apart to a relative error of s^2 2^-24 alone. An index of 24 bits is rounded by up to 8e-6 of a
    step, which a score, of size 1 / sigma, passes on to x_0 with the factor sigma.
    """
    network, exact = prior.network, prior.denoise(x_t, t)
    moved = []
    for factor in (1 - 2.0**-23, 1 + 2.0**-23):
        other = AdaptedPrior(lambda z, label: network(z, label * factor), prior.convention, (3,))  # noqa: B023
        moved.append((other.denoise(x_t, t) - exact).abs())
    return torch.stack(moved).amax(0)


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "prediction", "time"), CASES)
def test_denoiser(schedule: str, prediction: str, time: str) -> None:
    """To 1e-10 in float64 and 1e-5 in float32; for whole steps, the denoiser of the nearest one."""
    noise, exact = SCHEDULES[schedule], mixture()
    for value_range in RANGES:
        convention = Convention(prediction, noise, time, value_range=value_range, sigma_data=0.7)
        prior = AdaptedPrior(Disguise(exact, convention), convention, (3,))
        x_t, t = states(levels_in(prior))
        wanted = exact.denoise(x_t, t)
        if TIMES[time].whole:
            assert isinstance(noise, DiscreteSchedule)
            steps = torch.tensor(noise.ratios, dtype=F64) / convention.scale
            nearest = (t.log()[:, None] - steps.log()).abs().argmin(1)
            wanted = exact.denoise(x_t, steps[nearest])
        torch.testing.assert_close(prior.denoise(x_t, t), wanted, rtol=0, atol=1e-10)
        single = prior.denoise(x_t.float(), t.float())
        assert single.dtype == torch.float32
        allowed = 1e-5 + (of_rounded_label(prior, x_t, t) if time in ROUNDED else 0)
        assert bool(((single.double() - wanted).abs() <= allowed).all())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_error_of_rounding(prediction: str) -> None:
    """With whole steps the error is first order in the distance of the steps.

    It is at most half a step in the log of the noise level times the largest derivative there, and
    it is divided by two with twice as many steps.
    """
    exact, errors = mixture(), []
    # halfway between two of 250 steps, where the error is largest
    for steps in (250, 500, 1000, 2000):
        convention = Convention(prediction, ddpm(steps), "step")
        prior = AdaptedPrior(Disguise(exact, convention), convention, (3,))
        assert isinstance(convention.noise, DiscreteSchedule)
        ratios = torch.tensor(convention.noise.ratios, dtype=F64)
        inside = ratios[(ratios > 0.05) & (ratios < 5)]
        middle = (inside[:-1] * inside[1:]).sqrt() * (1 + 1e-9)
        x_t, t = states(middle, 1)
        error = (prior.denoise(x_t, t) - exact.denoise(x_t, t)).abs()
        width = (inside[1:] / inside[:-1]).log()[:, None]
        # the derivative at nine points between the level and its step
        derivative = torch.stack(
            [
                (exact.denoise(x_t, t * (r + 1e-6)) - exact.denoise(x_t, t * (r - 1e-6))).abs()
                / (2e-6 / r)
                for r in torch.exp(torch.linspace(0, 0.5, 9, dtype=F64) * float(width.max()))
            ]
        ).amax(0)
        assert bool((error <= 0.5 * width * derivative * 1.05 + 1e-9).all())
        assert float(error.max()) > 1e-6
        errors.append(float(error.mean()))
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


@pytest.mark.slow
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["VPSDE", "ddpm-1000"])
def test_posterior_draws(prediction: str, schedule: str) -> None:
    """Draws of MMPS with the same seeds are those of the mixture itself."""
    noise = SCHEDULES[schedule]
    convention = Convention(
        prediction, noise, "index" if noise.discrete else "t", value_range=(0.0, 1.0)
    )
    exact = mixture()
    prior = AdaptedPrior(Disguise(exact, convention), convention, (3,))
    problem = InverseProblem(LinearMatrix(randn(2, 3, seed=3)), GaussianNoise(0.1))
    y = problem.measure(exact.sample(1, seeded(4)), generator=seeded(5))
    # within the levels of the schedule, half of which are left on [0, 1]
    solver = Guided(MMPS(), DDIM(24, TimeGrid("log_snr", s_max=20.0, s_min=0.03), eta=1.0))
    wanted = solver.sample(exact, problem, y, n=8, generator=seeded(6)).draws
    found = solver.sample(prior, problem, y, n=8, generator=seeded(6)).draws
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_log_likelihood(prediction: str) -> None:
    """The exact ODE finds the density of the mixture through the adapter."""
    convention = Convention(prediction, VPSDE(eps=1e-6), "t", value_range=(0.0, 1.0))
    exact = mixture()
    prior = AdaptedPrior(Disguise(exact, convention), convention, (3,))
    x = exact.sample(4, seeded(7))
    found = log_likelihood(prior, x, nodes=96, divergence="exact", end="t_min").value
    torch.testing.assert_close(found, exact.log_prob(x, prior.sde.t_min), rtol=0, atol=1e-3)
