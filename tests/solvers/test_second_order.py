"""The second-order kernel: exact on Gaussians in a few steps.

The ancestral sampler of MMPS is far too narrow there.
"""

import pytest
import torch

from problems import LinearMatrix
from scoresde import EDMSDE, VPSDE
from solvers import DDIM, MMPS, Guided, SecondOrderAncestral
from solvers.posterior.second_order import square_root_product
from tests.conftest import F64, seeded
from tests.laws import assert_exact, gaussian, measured


@pytest.mark.slow
@pytest.mark.parametrize("sde", [EDMSDE(), VPSDE()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("steps", [3, 10])
def test_exact_on_a_gaussian_in_a_few_steps(sde: EDMSDE | VPSDE, steps: int) -> None:
    """Mean and variances in every eigendirection, by z-scores and quantiles of chi-squared.

    With all products of Lanczos and of CG no step has an error.
    """
    prior = gaussian(sde)
    problem, y = measured(prior)
    mean, covariance = prior.posterior(problem, y).moments()
    solver = SecondOrderAncestral(steps, lanczos=6, correction=MMPS(iterations=12, rtol=1e-10))
    assert_exact(
        solver.sample(prior, problem, y, 2000, generator=seeded()).draws[:, 0], mean, covariance
    )


def test_as_few_steps_of_the_ancestral_sampler_are_too_narrow() -> None:
    prior = gaussian(EDMSDE())
    problem, y = measured(prior)
    covariance = prior.posterior(problem, y).moments()[1]
    draws = (
        Guided(MMPS(iterations=12), DDIM(10, eta=1.0))
        .sample(prior, problem, y, 1000, generator=seeded())
        .draws[:, 0]
    )
    assert float(torch.cov(draws.T).trace() / covariance.trace()) < 0.6


@pytest.mark.slow
def test_a_few_products_are_enough() -> None:
    """Three products of Lanczos and three of CG make the covariance right, one of each not."""
    prior = gaussian(EDMSDE())
    problem, y = measured(prior)
    covariance = prior.posterior(problem, y).moments()[1]

    def error(products: int) -> float:
        solver = SecondOrderAncestral(20, lanczos=products, correction=MMPS(iterations=products))
        draws = solver.sample(prior, problem, y, 4000, generator=seeded()).draws[:, 0]
        return float((torch.cov(draws.T) - covariance).norm() / covariance.norm())

    scatter = (6 / 4000) ** 0.5  # of the covariance of 4000 exact draws in 6 dimensions
    assert error(3) < 3 * scatter < error(1)


class TestSquareRoot:
    @staticmethod
    def matrices(n: int, D: int) -> torch.Tensor:
        Q = torch.linalg.qr(torch.randn(n, D, D, dtype=F64, generator=seeded())).Q
        return (Q * torch.rand(n, 1, D, dtype=F64, generator=seeded(1))) @ Q.mT

    def test_it_converges_to_the_square_root(self) -> None:
        J, z = self.matrices(5, 12), torch.randn(5, 12, dtype=F64, generator=seeded(2))
        values, vectors = torch.linalg.eigh(J)
        exact = torch.einsum(
            "bde,be->bd", (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT, z
        )
        errors = []
        for k in (1, 2, 3, 5, 12):
            found = square_root_product(lambda v: torch.einsum("bde,be->bd", J, v), z, k)
            errors.append(float((found - exact).norm() / exact.norm()))
        assert errors == sorted(errors, reverse=True) and errors[2] < 0.05 and errors[-1] < 1e-10, (
            errors
        )

    def test_an_exhausted_space_and_a_projection(self) -> None:
        """J = P with P^2 = P is its own square root, found after two products.

        More products change nothing. J = 0 gives 0.
        """
        P = torch.diag(torch.tensor([1.0, 1, 0, 0, 0], dtype=F64)).expand(3, 5, 5)
        z = torch.randn(3, 5, dtype=F64, generator=seeded())
        for k in (2, 3, 5):
            torch.testing.assert_close(
                square_root_product(lambda v: (P @ v[..., None])[..., 0], z, k),
                (P @ z[..., None])[..., 0],
            )
        assert float(square_root_product(torch.zeros_like, z, 3).abs().max()) == 0

    def test_each_sample_by_itself(self) -> None:
        J, z = self.matrices(4, 6), torch.randn(4, 6, dtype=F64, generator=seeded(2))
        together = square_root_product(lambda v: torch.einsum("bde,be->bd", J, v), z, 3)
        alone = torch.cat(
            [square_root_product(lambda v, one=J[i]: v @ one.mT, z[i : i + 1], 3) for i in range(4)]
        )
        torch.testing.assert_close(together, alone)


def test_bad_settings_and_costs() -> None:
    with pytest.raises(ValueError, match="steps and lanczos must be at least 1, got 0 and 3"):
        SecondOrderAncestral(0)
    prior = gaussian(EDMSDE())
    problem, y = measured(prior)
    assert isinstance(problem.operator, LinearMatrix)
    result = SecondOrderAncestral(5, lanczos=2, correction=MMPS(iterations=2, rtol=0.0)).sample(
        prior, problem, y, 4
    )
    assert (result.nfe, result.vjps) == (5, 20)
