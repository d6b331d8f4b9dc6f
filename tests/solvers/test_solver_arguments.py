"""What goes into solvers and samplers is checked where it enters, and what comes out is finite."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from problems import GaussianNoise, Inpainting, InverseProblem, SuperResolution
from scoresde import EDMSDE, GaussianPrior, ScorePrior
from scoresde.networks import UNet, UNetConfig
from solvers import (
    DDIM,
    MMPS,
    SOLVERS,
    AnnealedLangevin,
    DPMSolver,
    Guided,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    TimeGrid,
    make_solver,
)
from solvers.registry import SAMPLERS
from tests.conftest import seeded

NAN, INF = float("nan"), float("inf")
CONFIG = UNetConfig(channels=3, widths=(8,), blocks=1, attention=(), embedding=8)
MASK = torch.ones(8, 8)
MASK[0, 0] = 0
# a mask, so that every solver takes it
PROBLEM = InverseProblem(Inpainting(MASK), GaussianNoise(0.1))
Y = torch.zeros(1, 3, 8, 8)


def network() -> ScorePrior:
    torch.manual_seed(0)
    net = UNet(CONFIG)
    torch.nn.init.normal_(net.head.weight, std=0.02)
    return ScorePrior(net, EDMSDE(), (3, 8, 8)).requires_grad_(False).eval()


def broken() -> ScorePrior:
    prior = network()
    prior.network.head.bias.data[0] = NAN
    return prior


def y_with(value: float) -> Tensor:
    y = Y.clone()
    y[0, 1, 2, 3] = value
    return y


CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "one channel": (
        {"y": torch.zeros(1, 1, 8, 8)},
        r"shape \(3, any height, any width\), the x of this measurement has \(1, 8, 8\)",
    ),
    "four channels": ({"y": torch.zeros(1, 4, 8, 8)}, r"\(3, .*has \(4, 8, 8\)"),
    "of another problem": ({"y": torch.zeros(1, 3, 9, 8)}, r"mask is \(8, 8\)"),
    "no batch": ({"y": torch.zeros(3, 8, 8)}, r"an image \(C, H, W\) is needed"),
    "no axes": ({"y": torch.tensor(1.0)}, r"y\[None\]"),
    "empty batch": ({"y": torch.zeros(0, 3, 8, 8)}, r"at least one, got shape \(0, 3, 8, 8\)"),
    "NaN": ({"y": y_with(NAN)}, "NaN or infinite entries; mask them out"),
    "infinite": ({"y": y_with(-INF)}, "NaN or infinite entries; mask them out"),
    "bytes": ({"y": Y.byte()}, r"real floating-point.*uint8; convert .*\[-1, 1\]"),
    "complex": ({"y": Y.to(torch.complex64)}, "real floating-point.*complex64"),
    "array": ({"y": Y.numpy()}, "real floating-point tensor, got ndarray"),
    "n 0": ({"n": 0}, "number of draws n must be a whole number of at least 1, got 0"),
    "n negative": ({"n": -3}, "number of draws n .*got -3"),
    "n 1.5": ({"n": 1.5}, "number of draws n .*got 1.5"),
    "n text": ({"n": "two"}, "number of draws n .*got two"),
    "batch 0": ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
    "seed for a generator": ({"generator": 0}, "torch.Generator or a sequence of them, got int"),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("call", CALLS)
def test_every_solver_names_what_is_wrong(name: str, call: str) -> None:
    change, message = CALLS[call]
    arguments: dict[str, Any] = {"y": Y, "n": 1} | change
    with pytest.raises(ValueError, match=message) as error:
        make_solver(name).sample(network(), PROBLEM, arguments.pop("y"), **arguments)
    assert "\n" not in str(error.value)


def test_nan_in_a_hole_is_no_measurement() -> None:
    y = Y.clone()
    y[..., 0, 0] = NAN
    guided = Guided(MMPS(), DDIM(3, eta=1.0))
    found = guided.sample(network(), PROBLEM, y, generator=seeded())
    assert torch.equal(found.draws, guided.sample(network(), PROBLEM, Y, generator=seeded()).draws)


@pytest.mark.parametrize("call", ["one channel", "empty batch", "NaN", "bytes", "array"])
def test_guidance_names_what_is_wrong(call: str) -> None:
    change, message = CALLS[call]
    with pytest.raises(ValueError, match=message):
        MMPS().condition(network(), PROBLEM, change["y"])


def test_an_exact_prior_has_one_size() -> None:
    prior = GaussianPrior(torch.zeros(3, 4, 4), torch.eye(48))
    problem = InverseProblem(SuperResolution(2), GaussianNoise(0.1))
    with pytest.raises(ValueError, match=r"\(3, 4, 4\), the x of this measurement has \(3, 8, 8\)"):
        make_solver("mmps").sample(prior, problem, torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("name", SAMPLERS)
class TestEverySampler:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n": 0}, "number of draws n must be a whole number of at least 1, got 0"),
            ({"n": 2.5}, "number of draws n .*got 2.5"),
            ({"shape": (1, 8, 8)}, r"shape \(3, any .*, a draw has \(1, 8, 8\)"),
            ({"shape": (3, 8)}, r"shape \(3, any .*, a draw has \(3, 8\)"),
            ({"shape": (3, 0, 8)}, r"a draw has \(3, 0, 8\)"),
            ({"generator": 7}, "torch.Generator or a sequence of them, got int"),
            ({"generator": [seeded(), 7]}, "torch.Generator or a sequence of them, got int"),
        ],
    )
    def test_it_names_what_is_wrong(self, name: str, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SAMPLERS[name](2).sample(network(), **{"n": 2} | change)

    def test_draws_that_are_not_finite_are_refused(self, name: str) -> None:
        grid = TimeGrid(s_max=5.0, s_min=0.5)  # Langevin dynamics take a hundred steps a level
        with pytest.raises(ValueError, match="check the weights of the prior"):
            SAMPLERS[name](2, grid).sample(broken(), 2, generator=seeded())


@pytest.mark.parametrize("method", ["scipy", "dopri5", "euler"])
def test_every_ode_solver_says_that_it_stopped(method: str) -> None:
    """SciPy returns the state at which it stopped, which is no draw."""
    with pytest.raises(ValueError, match="check the weights of the prior"):
        ProbabilityFlowODE(3, method=method).sample(broken(), 1, generator=seeded())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_refuses_draws_that_are_not_finite(name: str) -> None:
    with pytest.raises(ValueError, match="check the weights of the prior"):
        make_solver(name, 2).sample(broken(), PROBLEM, Y, generator=seeded())


def test_the_bad_draws_are_counted() -> None:
    """A prior that is NaN far from the data spoils the draws that begin there."""

    class Narrow(GaussianPrior):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            D = super()._denoise(x_t, t)
            return torch.where((x_t > 0) & (t[0] > 50), NAN, D)

    prior = Narrow(torch.zeros(1), torch.eye(1))
    start = torch.randn(16, 1, generator=seeded(), dtype=torch.float64)
    with pytest.raises(ValueError, match=f"{int((start > 0).sum())} of 16 draws of Heun have NaN"):
        Heun(4).sample(prior, 16, generator=seeded())


@pytest.mark.parametrize("bad", [NAN, INF, -1, "text", None, [1], 1j, True, 10**400], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda v: Heun(v),
        lambda v: Heun(5, churn=1.0, churn_noise=v),
        lambda v: Heun(5, churn_min=v),
        lambda v: DDIM(5, eta=v),
        lambda v: DPMSolver(5, order=v),
        lambda v: AnnealedLangevin(5, corrections=v),
        lambda v: AnnealedLangevin(5, step_size=v),
        lambda v: PredictorCorrector(5, corrections=v),
        lambda v: PredictorCorrector(5, snr=v),
        lambda v: ProbabilityFlowODE(5, rtol=v),
        lambda v: ProbabilityFlowODE(5, atol=v),
        lambda v: TimeGrid(rho=v),
        lambda v: TimeGrid(s_min=v if v is not None else NAN),
        lambda v: TimeGrid(s_max=v if v not in (None, INF) else NAN),
        lambda v: TimeGrid().times(EDMSDE(), v),
    ],
)
def test_settings_out_of_range(make: Callable[[Any], object], bad: Any) -> None:
    with pytest.raises(ValueError, match=r"got|unknown"):
        make(bad)
