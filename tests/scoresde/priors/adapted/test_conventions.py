"""Names against the definitions of the papers, schedules, and errors."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from torch import Tensor

from scoresde import EDMSDE, VPSDE, Convention, FlowMatchingSDE
from scoresde.priors.adapted import (
    PREDICTIONS,
    TIMES,
    DiscreteSchedule,
    FunctionSchedule,
    Level,
    SDESchedule,
    schedule_from,
)
from tests.conftest import F64, randn
from tests.scoresde.priors.adapted.disguise import SCHEDULES, ddpm, mixture, without_signal

ALPHA, SIGMA, X0, N = (
    torch.tensor([v], dtype=F64) for v in (0.8, 0.6, 0.37, -1.21)
)  # alpha^2 + sigma^2 = 1
Z = ALPHA * X0 + SIGMA * N
SD = 0.5
S = SIGMA / ALPHA
NORM = (S**2 + SD**2).sqrt()
EDM_F = (X0 - SD**2 / NORM**2 * (Z / ALPHA)) / (S * SD / NORM)

# Written as in the papers; a new prediction or label needs a line here
TARGETS = {
    "x0": X0,
    "eps": N,
    "v": ALPHA * N - SIGMA * X0,
    "score": -(Z - ALPHA * X0) / SIGMA**2,
    "velocity": N - X0,
    "velocity_to_data": X0 - N,
    "residual": Z - ALPHA * X0,
    "edm": EDM_F,
    "edm_v": -EDM_F,
}
LABELS = {
    "index": 7.3,
    "step": 7,
    "t": 7.3,
    "sigma": 0.6,
    "ratio": 0.75,
    "log_ratio": math.log(0.75),
    "edm": math.log(0.75) / 4,
    "log_snr": math.log(0.8**2 / 0.6**2),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions(name: str) -> None:
    """The target is that of the paper, and the inverse gives x_0 back."""
    prediction = PREDICTIONS[name]
    p, q = prediction.coefficients(ALPHA, SIGMA, SD)
    torch.testing.assert_close(p * X0 + q * N, TARGETS[name], rtol=1e-12, atol=1e-12)
    k_z, k_F = prediction.inverse(ALPHA, SIGMA, SD)
    torch.testing.assert_close(k_z * Z + k_F * TARGETS[name], X0, rtol=1e-12, atol=1e-12)


def test_score_is_the_gradient_of_the_density() -> None:
    """The prediction "score" of a mixture is the derivative of its log-density."""
    prior = mixture()
    x = randn(4, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(x, 0.5).sum(), x)
    x0 = prior.denoise(x.detach(), 0.5)
    p, q = PREDICTIONS["score"].coefficients(torch.ones(1), torch.tensor([0.5]), SD)
    n = (x.detach() - x0) / 0.5
    torch.testing.assert_close(p * x0 + q * n, gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["x0", "v", "velocity", "velocity_to_data"])
def test_predictions_that_need_no_signal(name: str) -> None:
    """Where the state is pure noise these still say what x_0 is."""
    assert not PREDICTIONS[name].needs_signal
    zero, one = torch.zeros(1), torch.ones(1)
    p, q = PREDICTIONS[name].coefficients(zero, one, SD)
    k_z, k_F = PREDICTIONS[name].inverse(zero, one)
    torch.testing.assert_close(k_z * N.float() + k_F * (p * X0 + q * N).float(), X0.float())


@pytest.mark.parametrize("name", ["eps", "score", "residual", "edm"])
def test_predictions_that_need_signal(name: str) -> None:
    """The noise alone does not say what x_0 is where the state is pure noise."""
    assert PREDICTIONS[name].needs_signal


@pytest.mark.parametrize("name", TIMES)
def test_labels(name: str) -> None:
    """The label is that of the definition."""
    label = TIMES[name].label(Level(torch.tensor([7.3], dtype=F64), ALPHA, SIGMA))
    assert label.tolist() == pytest.approx([LABELS[name]], rel=1e-12)
    assert label.is_floating_point() != TIMES[name].whole


@pytest.mark.parametrize("name", SCHEDULES)
def test_level_has_its_ratio(name: str) -> None:
    """Position, alpha and sigma belong together, also at the ends and beyond."""
    noise = SCHEDULES[name]
    low, high = max(noise.ends[0], 1e-4), min(noise.ends[1], 1e4)
    s = torch.logspace(math.log10(low * 1.01), math.log10(high / 1.01), 33, dtype=F64)
    level = noise.level(-2 * s.log())
    torch.testing.assert_close(level.ratio, s, rtol=1e-9, atol=0)
    assert bool((level.position.diff() > 0).all()) or bool((level.position.diff() < 0).all())
    if isinstance(noise, FunctionSchedule):
        torch.testing.assert_close(noise.alpha(level.position), level.alpha, rtol=1e-9, atol=1e-12)
    beyond = noise.level(torch.tensor([80.0, -40.0], dtype=F64))
    assert bool(torch.isfinite(torch.stack([beyond.position, beyond.alpha, beyond.sigma])).all())
    torch.testing.assert_close(
        2 * (beyond.alpha / beyond.sigma).log(), torch.tensor([80.0, -40.0], dtype=F64)
    )


@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_interpolation_is_linear_in_log_snr(steps: int) -> None:
    """Against SciPy's linear interpolation of the index as a function of the log-SNR."""
    abar = ddpm(steps) if steps > 2 else torch.tensor([0.9, 0.1], dtype=F64)
    noise = DiscreteSchedule.from_alphas_cumprod(abar)
    table = (abar / (1 - abar)).log().numpy()
    at = np.linspace(table[-1], table[0], 77)
    wanted = interp1d(table, np.arange(steps))(at)
    found = noise.level(torch.from_numpy(at)).position
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=0, atol=1e-8)
    own = noise.level(torch.from_numpy(table))
    torch.testing.assert_close(own.position, torch.arange(steps, dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(own.alpha**2, abar, rtol=1e-12, atol=0)


def test_last_step_without_signal() -> None:
    """Infinite noise has the last index; finite noise beyond the last finite step has its index."""
    abar = without_signal(ddpm())
    assert float(abar[-1]) == 0
    noise = DiscreteSchedule.from_alphas_cumprod(abar)
    assert math.isinf(noise.ends[1])
    s = torch.tensor([math.inf, 1e6, noise.ratios[-2], noise.ratios[-3]], dtype=F64)
    level = noise.level(-2 * s.log())
    assert level.position.tolist() == pytest.approx([999, 998, 998, 997], abs=1e-9)
    assert level.alpha[0] == 0
    assert level.sigma[0] == 1
    assert noise.pure_noise


def test_betas_and_products_agree() -> None:
    """Two ways to give a schedule, one of which does not cancel."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    a, b = DiscreteSchedule.from_betas(betas), DiscreteSchedule.from_alphas_cumprod(ddpm())
    assert a.ratios == pytest.approx(b.ratios, rel=1e-10)


@pytest.mark.parametrize(
    "convention",
    [
        Convention("eps", VPSDE(), "t", time_scale=999.0, value_range=(0.0, 1.0)),
        Convention("v", without_signal(ddpm(20)), "index", extra_outputs=3, multiple=8),
        Convention("x0", EDMSDE(), "sigma", passing="channel", trained=(0.0, math.inf)),
        Convention("edm", EDMSDE(), "edm", sigma_data=0.3, fixed_size=True),
    ],
    ids=lambda c: c.prediction,
)
def test_description(convention: Convention) -> None:
    """A convention is read back from its plain values, through JSON."""
    assert Convention.of(json.loads(json.dumps(convention.describe()))) == convention


WRONG = {
    "unknown prediction 'noise'": lambda: Convention("noise", VPSDE()),
    "unknown time label": lambda: Convention("eps", VPSDE(), "hour"),
    "'t' exists for a continuous schedule": lambda: Convention("eps", ddpm(), "t"),
    "'index' exists for a discrete schedule": lambda: Convention("eps", VPSDE(), "index"),
    "a schedule is an SDE": lambda: Convention("eps", "linear", "t"),
    "alphas_cumprod must lie in": lambda: Convention("eps", [1.2, 0.5], "index"),
    "check that alphas_cumprod falls": lambda: Convention("eps", [0.2, 0.5], "index"),
    "at least two": lambda: Convention("eps", [0.2], "index"),
    "must rise or fall strictly": lambda: Convention("eps", (torch.cos, torch.cos)),
    "smaller one first": lambda: Convention("eps", VPSDE(), value_range=(1.0, 0.0)),
    "no time_scale and is no channel": lambda: Convention("eps", ddpm(), "step", time_scale=2.0),
    "multiple must be a whole number": lambda: Convention("eps", VPSDE(), multiple=0),
    "0 <= smallest <= largest": lambda: Convention("eps", VPSDE(), trained=(2.0, 1.0)),
    "sigma_data must be positive": lambda: Convention("edm", VPSDE(), sigma_data=0.0),
    "noise rates must lie in": lambda: DiscreteSchedule.from_betas([0.1, 1.5]),
    "no field 'schedule'": lambda: Convention.of({"prediction": "eps"}),
    "made of functions": lambda: SCHEDULES["flow-to-data"].describe(),
    "unknown description of a schedule": lambda: schedule_from({"alphas": [1]}),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors(message: str) -> None:
    """One sentence says what is wrong."""
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


def test_schedules_are_made_of_what_describes_them() -> None:
    """SDEs, tensors, arrays, lists and functions."""
    assert Convention("eps", FlowMatchingSDE()).noise == SDESchedule(FlowMatchingSDE())
    wanted = DiscreteSchedule.from_alphas_cumprod(ddpm(20))
    given: list[object] = [ddpm(20), ddpm(20).numpy(), ddpm(20).tolist()]
    for one in given:
        assert Convention("eps", one, "index").noise == wanted  # type: ignore[arg-type]

    def alpha(t: Tensor) -> Tensor:
        return 1 - t

    assert isinstance(Convention("eps", (alpha, torch.clone)).noise, FunctionSchedule)
