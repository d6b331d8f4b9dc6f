"""The default on a photograph, with the prior that ships: as good as moment matching from noise.

Exact problems do not show what happens with a learned network, whose Jacobian is no covariance.
"""

import pytest
import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem
from scoresde import GreyPrior, Prior, load_prior
from scoresde.evaluation import psnr
from scoresde.pipelines.demo import photograph
from scoresde.pipelines.settings import DEFAULT_SOLVER
from solvers import make_solver
from tests.conftest import seeded


def restored(solver: str, prior: Prior, problem: InverseProblem, y: Tensor) -> Tensor:
    draws = make_solver(solver).sample(prior, problem, y, 8, generator=seeded(1), batch=4)
    return draws.mean


@pytest.mark.slow
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_denoising_is_as_good_as_from_pure_noise(grey: bool) -> None:
    """A start far above the noise would leave its own grain: it cost 2 dB."""
    truth = photograph("astronaut", (0, 130))[..., 40:104, 40:104]
    prior: Prior = load_prior("natural")
    if grey:
        prior, truth = GreyPrior(prior), truth.mean(1, keepdim=True)
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    y = problem.measure(truth, seeded(0))
    gains: dict[str, float] = {}
    with torch.no_grad():
        for solver in (DEFAULT_SOLVER, "mmps"):
            gains[solver] = float(psnr(restored(solver, prior, problem, y), truth))
    assert gains[DEFAULT_SOLVER] > gains["mmps"] - 0.3
    assert gains[DEFAULT_SOLVER] > float(psnr(y, truth)) + 3
