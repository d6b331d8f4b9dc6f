"""Measurements other than a matrix with white noise: other noise, nonlinear operators, counts."""

import pytest
import torch
from torch import Tensor

from problems import (
    Blur,
    CorrelatedNoise,
    Gamma,
    GaussianNoise,
    InverseProblem,
    LaplaceNoise,
    LinearMatrix,
    NonlinearFunction,
    PoissonNoise,
    Quantisation,
    SaltAndPepperNoise,
)
from scoresde import EDMSDE, GaussianMixturePrior, GaussianPrior
from solvers import DDIM, DPS, MMPS, DiffPIR, Guided, Heun
from tests.conftest import F64, seeded
from tests.laws import assert_exact, gaussian


def matrix(rows: int = 3, columns: int = 6) -> Tensor:
    return torch.randn(rows, columns, dtype=F64, generator=seeded(3))


def images(variance: float = 0.3) -> GaussianPrior:
    """A Gaussian prior with a full covariance on images 1 x 4 x 5."""
    root = torch.randn(20, 20, dtype=F64, generator=seeded(1))
    return GaussianPrior(
        torch.zeros(1, 4, 5, dtype=F64),
        variance * root @ root.T / 20 + 0.05 * torch.eye(20, dtype=F64),
        EDMSDE(),
    )


LEVELS = torch.tensor([0.1, 0.3, 1.0], dtype=F64)
GRAIN = CorrelatedNoise(Blur(torch.tensor([[0.05, 0.2, 0.1], [0.0, 0.4, -0.1]], dtype=F64)))


@pytest.mark.slow
class TestOtherGaussianNoise:
    def test_the_exact_posterior_by_stacking_whitened_rows(self) -> None:
        """A noise level per entry is white noise after dividing the rows of A and y by it."""
        prior, A = gaussian(EDMSDE()), matrix()
        y = torch.randn(1, 3, dtype=F64, generator=seeded(5))
        posterior = prior.posterior(InverseProblem(LinearMatrix(A), GaussianNoise(LEVELS)), y)
        white = prior.posterior(
            InverseProblem(LinearMatrix(A / LEVELS[:, None]), GaussianNoise(1.0)), y / LEVELS
        )
        for value, expected in zip(posterior.moments(), white.moments(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)

    def test_mmps_draws_it(self) -> None:
        prior = gaussian(EDMSDE())
        problem = InverseProblem(LinearMatrix(matrix()), GaussianNoise(LEVELS))
        y = problem.measure(prior.sample(1, seeded(5)), seeded(6))
        mean, covariance = prior.posterior(problem, y).moments()
        draws = (
            Guided(MMPS(iterations=3), Heun(48))
            .sample(prior, problem, y, 1000, generator=seeded())
            .draws[:, 0]
        )
        assert_exact(draws, mean, covariance)

    def test_mmps_draws_it_under_correlated_noise(self) -> None:
        prior = images()
        problem = InverseProblem(Blur(torch.ones(1, 2, dtype=F64) / 2), GRAIN)
        y = problem.measure(prior.sample(1, seeded(5)), seeded(6))
        mean, covariance = prior.posterior(problem, y).moments()
        draws = (
            Guided(MMPS(iterations=20), Heun(48))
            .sample(prior, problem, y, 1000, generator=seeded())
            .draws[:, 0]
            .flatten(1)
        )
        assert_exact(draws, mean, covariance)

    def test_the_correlation_matters(self) -> None:
        """The posterior under white noise of the same variance fails the test above."""
        prior = images()
        problem = InverseProblem(Blur(torch.ones(1, 2, dtype=F64) / 2), GRAIN)
        variance = float(problem.noise_covariance((1, 4, 5)).diagonal().mean())
        y = problem.measure(prior.sample(1, seeded(5)), seeded(6))
        mean, covariance = prior.posterior(problem, y).moments()
        white = prior.posterior(InverseProblem(problem.operator, GaussianNoise(variance**0.5)), y)
        with pytest.raises(AssertionError):
            assert_exact(white.sample(1000, seeded()).flatten(1), mean, covariance)


class TestNonlinear:
    @pytest.mark.parametrize(
        "solver",
        [
            Guided(MMPS(), Heun(6)),
            Guided(DPS(), DDIM(8)),
            Guided(DPS(weight="likelihood"), DDIM(8)),
        ],
    )
    def test_an_affine_function_is_its_matrix(self, solver: Guided) -> None:
        """A x + b as a nonlinear function has the same draws as the matrix with y - b."""
        prior, A, b = gaussian(EDMSDE()), matrix(), torch.tensor([0.3, -1.0, 0.2], dtype=F64)
        y = torch.randn(2, 3, dtype=F64, generator=seeded(5))
        known = InverseProblem(LinearMatrix(A), GaussianNoise(0.3))
        unknown = InverseProblem(
            NonlinearFunction(lambda x: x @ A.to(x).T + b.to(x), (6,)), GaussianNoise(0.3)
        )
        expected = solver.sample(prior, known, y, 3, generator=seeded()).draws
        torch.testing.assert_close(
            solver.sample(prior, unknown, y + b, 3, generator=seeded()).draws,
            expected,
            rtol=1e-9,
            atol=1e-10,
        )

    @pytest.mark.slow
    def test_mmps_finds_the_posterior_of_a_gentle_curve(self) -> None:
        """Mean and deviation of the draws on a slightly nonlinear operator.

        The exact posterior on the line is computed by quadrature; the measurement is precise.
        """
        prior = GaussianPrior(
            torch.tensor([0.1], dtype=F64), torch.tensor([[0.04]], dtype=F64), EDMSDE()
        )
        problem = InverseProblem(Gamma(1.3), GaussianNoise(0.05))
        y = torch.tensor([[0.25]], dtype=F64)
        grid = torch.linspace(-0.9, 1.1, 4001, dtype=F64)[:, None]
        weight = (
            prior.log_prob(grid) + problem.log_likelihood(y.expand(len(grid), -1), grid)
        ).softmax(0)
        mean = float((weight * grid[:, 0]).sum())
        std = float((weight * (grid[:, 0] - mean) ** 2).sum().sqrt())
        n = 4000
        draws = (
            Guided(MMPS(iterations=1), Heun(64))
            .sample(prior, problem, y, n, generator=seeded())
            .draws.flatten()
        )
        # The curvature 2^{1-1.3} 1.3 .3 (1 + x)^{-.7} < .3 bends A by at most .3 std^2 / 2 within a
        # deviation: 1 % of std here
        assert abs(float(draws.mean()) - mean) < std * (4 / n**0.5 + 0.02)
        assert abs(float(draws.std()) / std - 1) < 4 / (2 * n) ** 0.5 + 0.02

    def test_a_coarse_converter_keeps_its_levels(self) -> None:
        """Most pixels, quantised to 4 levels and restored, have the level that was measured."""
        prior = images(0.2)
        problem = InverseProblem(Quantisation(4), GaussianNoise(0.2))
        x = prior.sample(1, seeded(4)).clamp(-0.9, 0.9)
        y = problem.operator.apply(x)
        draws = (
            Guided(MMPS(), Heun(12)).sample(prior, problem, y, 16, generator=seeded()).draws[:, 0]
        )
        assert float((problem.operator.apply(draws) == y).double().mean()) > 0.6
        assert float((draws.mean(0) - x).square().mean()) < float((y - x).square().mean())


@pytest.mark.slow
class TestOtherNoise:
    def test_mmps_on_many_counts_is_the_gaussian_limit(self) -> None:
        """20000 photons: a count is Gaussian with the variance of its mean.

        The exact posterior takes the variances at the truth.
        """
        prior, peak = images(0.05), 20000.0
        blur = Blur(torch.ones(1, 2, dtype=F64) / 2)
        x = prior.sample(1, seeded(5)).clamp(-0.9, 0.9)
        problem = InverseProblem(blur, PoissonNoise(peak))
        y = problem.measure(x, seeded(6))
        std = problem.noise.covariance_matvec(blur.apply(x), torch.ones_like(x)).sqrt()[0]
        limit = prior.posterior(InverseProblem(blur, GaussianNoise(std)), y)
        mean, covariance = limit.moments()
        draws = (
            Guided(MMPS(iterations=20), Heun(48))
            .sample(prior, problem, y, 500, generator=seeded())
            .draws.flatten(1)
        )
        z = (draws.mean(0) - mean) / (covariance.diagonal() / 500).sqrt()
        assert float(z.abs().max()) < 5

    @pytest.mark.parametrize(
        "noise",
        [
            PoissonNoise(30.0),
            LaplaceNoise(0.2),
            GaussianNoise(LEVELS),
            SaltAndPepperNoise(0.2, 0.1),
        ],
    )
    def test_dps_follows_the_gradient_of_the_likelihood(self, noise: GaussianNoise) -> None:
        """The shift of the denoiser is s^2 times the gradient of log p(y | D(u)).

        The gradient is computed by finite differences.
        """
        prior = GaussianMixturePrior(
            torch.ones(2),
            torch.tensor([[0.2, -0.1, 0.3], [-0.3, 0.2, 0.0]], dtype=F64),
            0.05 * torch.eye(3, dtype=F64).expand(2, 3, 3),
        )
        problem = InverseProblem(LinearMatrix(torch.eye(3, dtype=F64) * 0.5), noise)
        y = problem.measure(prior.sample(1, seeded(1)), seeded(2))
        cond = DPS(weight="likelihood").condition(prior, problem, y)
        u, t, step = (
            torch.tensor([[0.1, 0.05, -0.2]], dtype=F64),
            torch.tensor([0.4], dtype=F64),
            1e-6,
        )
        shift = cond.denoise(u, t) - prior.denoise(u, t)
        for i in range(3):
            ends = [
                problem.log_likelihood(
                    y, prior.denoise(u + sign * step * torch.eye(3, dtype=F64)[i : i + 1], t)
                )
                for sign in (1, -1)
            ]
            assert float(shift[0, i]) == pytest.approx(
                0.16 * float(ends[0] - ends[1]) / (2 * step), rel=1e-5
            )

    def test_who_cannot_is_told_who_can(self) -> None:
        prior = gaussian(EDMSDE())
        y = torch.zeros(1, 3, dtype=F64)
        with pytest.raises(
            ValueError,
            match=r"DiffPIR needs a problem with gaussian_noise; "
            r"solvers that can do this one: mmps",
        ):
            DiffPIR(4).sample(prior, InverseProblem(LinearMatrix(matrix()), LaplaceNoise(0.1)), y)
        with pytest.raises(
            ValueError,
            match=r"needs a problem with noise_covariance; solvers that can do this one: dps",
        ):
            Guided(MMPS(), DDIM(4)).sample(
                prior, InverseProblem(LinearMatrix(matrix()), SaltAndPepperNoise(0.1, 0.1)), y
            )
