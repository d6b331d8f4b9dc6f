"""How many particles have a Jacobian of their own in `PredictedTwistSMC`."""

import torch
from torch import Tensor

from solvers.posterior.smc.representatives import Representatives
from solvers.posterior.smc.twist import Twist
from tests.conftest import F64, randn, seeded

M, D, N, S = 64, 8, 200, 0.7
A, Y, MEANS = 3 * randn(M, D, seed=1), randn(M, seed=2), randn(N, D, seed=3)
ONE = torch.full((N, D), 0.4, dtype=F64)
SPARSE = 0.05 + 0.9 * torch.rand(N, D, dtype=F64, generator=seeded(5)).round()


def products(diagonals: Tensor) -> Tensor:
    """J A^T of particles with diagonal Jacobians, (R, D, m)."""
    return diagonals[:, :, None] * A.T


def found(
    diagonals: Tensor, budget: int = 1 << 16, log_w: Tensor | None = None
) -> tuple[Twist, list[int]]:
    """The twist, and the particles whose Jacobian was asked for."""
    asked: list[int] = []

    def rows(chosen: Tensor, vectors: Tensor) -> Tensor:
        assert torch.equal(vectors, A)
        asked.extend(chosen.tolist())
        return products(diagonals[chosen])

    log_w = torch.zeros(N, dtype=F64) if log_w is None else log_w
    return Representatives(A, Y, budget, seeded(4)).twist(S, MEANS, log_w, rows), asked


def exact(diagonals: Tensor) -> Twist:
    """The twist from the Jacobian of every particle."""
    return Twist.at(S, Y - MEANS @ A.T, products(diagonals), torch.arange(N), A)


def test_one_jacobian_for_all_needs_the_first_representatives_only() -> None:
    twist, asked = found(ONE)
    assert len(asked) == 32
    torch.testing.assert_close(twist.log_density(), exact(ONE).log_density(), rtol=1e-9, atol=0)


def test_where_no_two_jacobians_agree_every_particle_has_its_own() -> None:
    twist, asked = found(SPARSE)
    assert sorted(asked) == list(range(N))  # each once
    torch.testing.assert_close(twist.log_density(), exact(SPARSE).log_density(), rtol=1e-9, atol=0)


def test_the_budget_is_not_exceeded() -> None:
    assert len(found(SPARSE, budget=50 * M + 1)[1]) == 50
    assert len(found(SPARSE, budget=1)[1]) == 32


def test_particles_without_weight_are_not_asked() -> None:
    log_w = torch.full((N,), -torch.inf, dtype=F64)
    log_w[:3] = 0
    assert sorted(found(ONE, log_w=log_w)[1]) == [0, 1, 2]
