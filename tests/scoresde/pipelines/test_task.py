"""A restoration that is compared with a picture which its measurement does not tell from others."""

import torch

from problems import Denoising, GaussianNoise, InverseProblem, PhaseRetrieval
from scoresde.evaluation.conformal import coverage
from scoresde.pipelines.plan import Measurement
from scoresde.pipelines.task import _comparable
from solvers import Posterior
from tests.conftest import seeded


def test_the_truth_is_turned_as_the_draws_are() -> None:
    """Magnitudes do not tell a picture from itself turned by 180 degrees."""
    generator = seeded(0)
    truth = 2 * torch.rand(1, 1, 12, 12, generator=generator) - 1
    turned = truth.flip(-2, -1)
    draws = turned + 0.1 * torch.randn(400, 1, 1, 12, 12, generator=generator)
    posterior = Posterior(draws, 1, 0, 0.0)
    for operator, expected in ((PhaseRetrieval(), turned), (Denoising(), truth)):
        problem = InverseProblem(operator, GaussianNoise(0.05))
        measured = Measurement(problem, problem.measure(truth, seeded(1)), truth, grey=False)
        found = _comparable(measured, posterior)
        assert found is not None and torch.equal(found, expected)
        assert (coverage(posterior, found, 0.9) > 0.95) == (expected is turned)
    assert _comparable(Measurement(problem, measured.y, None, grey=False), posterior) is None
