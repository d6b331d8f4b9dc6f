"""The covariances of MMPS: each is exact under its own assumption, and only there."""

import pytest
import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from scoresde import EDMSDE, GaussianPrior
from solvers import MMPS, TMPD
from tests.conftest import seeded

D, M = 6, 4


def setup(kind: str) -> tuple[GaussianPrior, InverseProblem, Tensor, Tensor, Tensor, Tensor]:
    g = seeded(3)
    root = torch.randn(D, D, generator=g, dtype=torch.float64)
    spread = torch.linspace(0.2, 2, D, dtype=torch.float64)
    covariances = {
        "white": 0.7 * torch.eye(D, dtype=torch.float64),
        "independent": torch.diag(spread),
        "coloured": root @ root.T / D,
    }
    m, C = torch.randn(D, generator=g, dtype=torch.float64), covariances[kind].double()
    prior = GaussianPrior(m, C, EDMSDE())
    problem = InverseProblem(
        LinearMatrix(torch.randn(M, D, generator=g, dtype=torch.float64), (D,)), GaussianNoise(0.3)
    )
    y = problem.measure(prior.sample(2, generator=g), g)
    return prior, problem, y, torch.randn(2, D, generator=g, dtype=torch.float64), m, C


def denoised(guidance: MMPS | TMPD, kind: str, s: float = 0.8) -> Tensor:
    prior, problem, y, x, _, _ = setup(kind)
    return guidance.condition(prior, problem, y).denoise(
        x, torch.full((2,), s, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("covariance", "kind", "exact"),
    [
        ("full", "white", True),
        ("full", "independent", True),
        ("full", "coloured", True),
        ("diagonal", "white", True),
        ("diagonal", "independent", True),
        ("diagonal", "coloured", False),
        ("isotropic", "white", True),
        ("isotropic", "independent", False),
        ("isotropic", "coloured", False),
    ],
)
def test_exact_where_the_prior_has_that_covariance(covariance: str, kind: str, exact: bool) -> None:
    """Against E[x_0 | x_t, y] of the joint Gaussian, computed with dense matrices."""
    _, problem, y, x, m, C = setup(kind)
    A, s = problem.linear_operator.matrix, 0.8
    H = torch.cat((torch.eye(D, dtype=torch.float64), A))
    noise = torch.diag(torch.tensor([s**2] * D + [0.3**2] * M, dtype=torch.float64))
    seen = torch.cat((x, y), 1)
    expected = m + (seen - m @ H.T) @ torch.linalg.solve(H @ C @ H.T + noise, H @ C)
    found = denoised(MMPS(iterations=50, rtol=1e-12, covariance=covariance), kind)
    error = float((found - expected).abs().max())
    assert error < 1e-8 if exact else error > 1e-3


def test_the_diagonal_one_is_tmpd() -> None:
    torch.testing.assert_close(
        denoised(MMPS(iterations=50, covariance="diagonal"), "coloured"),
        denoised(TMPD(), "coloured"),
    )


def test_declarations_and_bad_input() -> None:
    assert (
        MMPS().exactness == "gaussian"
        and MMPS(covariance="diagonal").exactness
        == MMPS(covariance="isotropic").exactness
        == "heuristic"
    )
    with pytest.raises(
        ValueError, match="unknown covariance 'round'; known: full, diagonal, isotropic"
    ):
        MMPS(covariance="round")  # type: ignore[arg-type]
