"""Distances of features against closed forms: Gaussians with exact moments, shifted normal laws."""

import math

import pytest
import torch
from torch import Tensor

from scoresde.evaluation import frechet_distance, kernel_distance
from tests.conftest import seeded


def exact(n: int, mean: Tensor, covariance: Tensor, seed: int) -> Tensor:
    """n points that have exactly these moments."""
    x = torch.randn(n, len(mean), generator=seeded(seed), dtype=torch.float64)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False
    )
    return (torch.linalg.cholesky(covariance) @ white).T + mean


class TestFrechet:
    def test_of_exact_moments(self) -> None:
        """2x2 matrices that do not commute: tr (S S')^(1/2) = sqrt(tr S S' + 2 sqrt det S S')."""
        S, T = (
            torch.tensor(v, dtype=torch.float64)
            for v in ([[2.0, 0.8], [0.8, 1.0]], [[0.5, -0.3], [-0.3, 3.0]])
        )
        m = torch.tensor([0.3, -2.0], dtype=torch.float64)
        expected = float(
            m @ m
            + S.trace()
            + T.trace()
            - 2 * ((S @ T).trace() + 2 * (S.det() * T.det()).sqrt()).sqrt()
        )
        real, fake = exact(50, 0 * m, S, 1), exact(70, m, T, 2)
        assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-10)
        assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-10)
        # far from the origin
        assert frechet_distance(real + 1e6, fake + 1e6) == pytest.approx(expected, rel=1e-7)

    def test_of_independent_features_adds_up(self) -> None:
        a, b = (
            torch.arange(1.0, 21, dtype=torch.float64),
            torch.linspace(3, 0.1, 20, dtype=torch.float64),
        )
        real, fake = (
            exact(100, 0 * a, a.square().diag(), 1),
            exact(90, 0.5 * b, b.square().diag(), 2),
        )
        expected = float((a - b).square().sum() + 0.25 * b.square().sum())
        assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)

    def test_of_a_set_with_itself_is_nothing(self) -> None:
        x = torch.randn(300, 20, generator=seeded(), dtype=torch.float64)
        assert 0 <= frechet_distance(x, x) < 1e-10
        few = torch.randn(10, 40, generator=seeded(), dtype=torch.float64)  # a covariance of rank 9
        assert 0 <= frechet_distance(few, few) < 1e-5

    def test_bias_falls_as_one_over_n(self) -> None:
        def mean(n: int) -> float:
            return (
                sum(
                    frechet_distance(
                        *torch.randn(2, n, 4, generator=seeded(k), dtype=torch.float64)
                    )
                    for k in range(60)
                )
                / 60
            )

        assert mean(100) / mean(400) == pytest.approx(4, rel=0.25)


class TestKernel:
    def test_is_unbiased_and_its_error_is_true(self) -> None:
        """Equal laws: the mean estimates 0, and its square the squared error."""
        pairs = [
            torch.randn(2, 200, 4, generator=seeded(k), dtype=torch.float64) for k in range(300)
        ]
        found = [
            kernel_distance(real, fake, generator=seeded(k)) for k, (real, fake) in enumerate(pairs)
        ]
        means, errors = (
            torch.tensor([k.mean for k in found]),
            torch.tensor([k.error for k in found]),
        )
        for values in (means, means.square() - errors.square()):
            assert abs(float(values.mean() / values.std())) * math.sqrt(300) < 4
        # the test has power
        assert float((means.square() - errors.square()).std()) * 4 / math.sqrt(300) < 0.5 * float(
            errors.square().mean()
        )

    def test_of_a_shifted_normal_law(self) -> None:
        """With F = 1 it is 3 d_1^2 + 3 d_2^2 + d_3^2.

        d_k are the differences of the k-th moments: mu, mu^2 and mu^3 + 3 mu.
        """
        mu, n, repeats = 0.5, 400, 100
        expected, g = 3 * mu**2 + 3 * mu**4 + (mu**3 + 3 * mu) ** 2, seeded()
        means = []
        for _ in range(repeats):
            real, fake = torch.randn(2, n, 1, generator=g, dtype=torch.float64)
            means.append(kernel_distance(real, fake + mu, generator=g).mean)
        sample = torch.tensor(means)
        assert abs(float(sample.mean()) - expected) < 4 * float(sample.std()) / math.sqrt(repeats)
        assert float(sample.std()) / math.sqrt(repeats) < 0.1 * expected  # the test has power

    def test_by_hand(self) -> None:
        """Two subsets of two from points that are all equal."""
        real, fake = torch.zeros(4, 3), torch.ones(4, 3)  # k(x, x) = 1, k(y, y) = 8, k(x, y) = 1
        found = kernel_distance(real, fake, subsets=2)
        assert found.mean == pytest.approx(1 + 8 - 2) and found.error == 0

    def test_repeats(self) -> None:
        x, y = torch.randn(2, 100, 4, generator=seeded())
        assert (
            kernel_distance(x, y)
            == kernel_distance(x, y)
            == kernel_distance(x, y, generator=seeded(0))
        )
        assert kernel_distance(x, y, generator=seeded(1)) != kernel_distance(x, y)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), "2 features, the fake ones 3"),
        (torch.zeros(9, 2, 2), torch.zeros(9, 4), "real features must be"),
        (torch.zeros(9, 2), torch.zeros(1, 2), "fake features must be"),
        (torch.zeros(9, 2), torch.full((9, 2), torch.nan), "fake features must be finite"),
    ],
)
def test_errors(distance, real: Tensor, fake: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        distance(real, fake)


@pytest.mark.parametrize("subsets", [0, 1, 5])
def test_too_few_for_subsets(subsets: int) -> None:
    with pytest.raises(ValueError, match="two subsets, of two images"):
        kernel_distance(torch.zeros(9, 2), torch.zeros(20, 2), subsets)
