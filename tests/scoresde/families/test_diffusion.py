"""The score prior on the common interface of the families."""

import pytest
import torch

from problems import Denoising, GaussianNoise, InverseProblem
from scoresde import EDMSDE, ScorePrior
from scoresde.families import Diffusion, DiffusionConfig
from scoresde.networks import UNet, UNetConfig
from solvers import log_likelihood
from tests.conftest import seeded


def diffusion() -> Diffusion:
    torch.manual_seed(0)
    network = UNet(UNetConfig(channels=1, widths=(8, 16), blocks=1, attention=(), embedding=16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    prior = ScorePrior(network, EDMSDE(), (1, 8, 8)).requires_grad_(False).eval()
    return Diffusion(prior, DiffusionConfig(steps=6, nodes=24))


@pytest.mark.slow
def test_its_density_is_the_flow_s_with_a_standard_error() -> None:
    model = diffusion()
    x = 0.3 * torch.randn(3, 1, 8, 8, generator=seeded())
    found = model.log_prob(x, k=4, generator=seeded(1))
    expected = log_likelihood(
        model.prior,
        x,
        divergence="hutchinson",
        probes=4,
        nodes=24,
        end="t_min",
        generator=seeded(1),
    )
    torch.testing.assert_close(found.value, expected.value)
    assert (
        found.kind == "exact"
        and not found.discrete
        and found.std_error is not None
        and bool((found.std_error > 0).all())
    )


def test_samples_evaluations_and_loss() -> None:
    model = diffusion()
    assert model.sample(3, seeded()).shape == (3, 1, 8, 8) and torch.equal(
        model.sample(3, seeded()), model.sample(3, seeded())
    )
    assert model.nfe_per_sample == 6 and model.density == "exact" and model.parameter_count > 0
    x = torch.zeros(4, 1, 8, 8)
    assert (
        torch.equal(model.loss(x, seeded()), model.loss(x, seeded()))
        and float(model.loss(x, seeded())) > 0
    )


def test_it_restores_by_a_named_solver() -> None:
    model = diffusion()
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    y = problem.measure(torch.zeros(2, 1, 8, 8), seeded())
    posterior = model.restore(problem, y, 3, generator=seeded())
    assert posterior.draws.shape == (3, 2, 1, 8, 8) and bool(posterior.draws.isfinite().all())
