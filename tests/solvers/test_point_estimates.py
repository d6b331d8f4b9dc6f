"""Plug-and-play point estimates: their recursions in dense algebra, and the limits of theory."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from problems import (
    Clipping,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    PoissonNoise,
    SuperResolution,
)
from scoresde import EDMSDE, VPSDE, GaussianPrior
from solvers import HQS, PnPADMM, make_solver
from solvers.posterior.proximal import data_curvature, proximal_step
from solvers.posterior.smooth import GRADIENT, membrane_operator, smooth_estimate
from solvers.registry import SOLVERS
from tests.conftest import F64, randn, seeded

SHAPE = (1, 3, 4)
N = 12


def covariance() -> Tensor:
    root = randn(N, N, seed=3)
    return root @ root.T / N + 0.05 * torch.eye(N, dtype=F64)


def gaussian() -> GaussianPrior:
    return GaussianPrior(randn(*SHAPE, seed=4), covariance())


def matrix_problem(noise: float = 0.3) -> tuple[InverseProblem, Tensor]:
    return InverseProblem(
        LinearMatrix(matrix := randn(7, N, seed=5), SHAPE), GaussianNoise(noise)
    ), matrix


def weighted_mean(
    prior: GaussianPrior, matrix: Tensor, y: Tensor, variance: float, lam: float
) -> Tensor:
    """Minimiser of |y - A x|^2 / (2 variance) + lam |x - mean|_C^2 / 2."""
    C, mean = covariance(), randn(*SHAPE, seed=4).flatten()
    precision = matrix.T @ matrix / variance + lam * torch.linalg.inv(C)
    return mean + torch.linalg.solve(precision, matrix.T @ (y - matrix @ mean) / variance)


class TestRecursion:
    """Both methods on a Gaussian prior are the recursions of their papers, in dense algebra."""

    @pytest.mark.parametrize("lam", [0.23, 1.0])
    @pytest.mark.parametrize("cls", [HQS, PnPADMM])
    def test_is_the_recursion_of_the_paper(self, cls: type, lam: float) -> None:
        prior, (problem, matrix) = gaussian(), matrix_problem()
        y = problem.measure(prior.sample(2, seeded(1)), seeded(2))
        solver = cls(steps=5, lam=lam, s_max=2.0)
        found = solver.sample(prior, problem, y).mean.flatten(1)

        C, mean = covariance(), randn(*SHAPE, seed=4).flatten()
        eye = torch.eye(N, dtype=F64)
        start = smooth_estimate(problem, y, SHAPE)
        v = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
        measured = data_curvature(problem, start, v.to(F64).expand_as(start)).rsqrt()
        for i in range(2):
            z, u = start[i].flatten(), torch.zeros(N, dtype=F64)
            for s in solver.levels(measured)[:, i].tolist():
                rho = lam / s**2
                target = z - u
                x = torch.linalg.solve(
                    matrix.T @ matrix / 0.09 + rho * eye, matrix.T @ y[i] / 0.09 + rho * target
                )
                z = mean + C @ torch.linalg.solve(C + s**2 * eye, x + u - mean)
                if cls is PnPADMM:
                    u = u + x - z
            torch.testing.assert_close(found[i], z, rtol=1e-6, atol=1e-6)


class TestLimits:
    @pytest.mark.parametrize("lam", [0.3, 1.0])
    def test_admm_at_a_fixed_level_gives_the_mean_under_a_weighted_prior(self, lam: float) -> None:
        """lam = 1: the posterior mean. Other lam weight the energy of the prior by lam."""
        prior, (problem, matrix) = gaussian(), matrix_problem()
        y = problem.measure(prior.sample(1, seeded(1)), seeded(2))

        class Fixed(PnPADMM):
            def levels(self, measured: Tensor) -> Tensor:
                return torch.full((self.steps, len(measured)), 0.5, dtype=F64)

        solver = Fixed(steps=1000, lam=lam)
        found = solver.sample(prior, problem, y).mean.flatten()
        expected = weighted_mean(prior, matrix, y[0], 0.09, lam)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        if lam == 1.0:
            exact = (
                prior.posterior(problem, y)
                .denoise(torch.zeros(1, *SHAPE, dtype=F64), 1e4)
                .flatten()
            )
            torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)

    @pytest.mark.slow
    def test_hqs_approaches_the_same_mean_as_its_levels_fall_slowly(self) -> None:
        """The penalty lam |x - z|^2 / (2 s^2) forces x = z only as s goes to 0."""
        prior, (problem, matrix) = gaussian(), matrix_problem(noise=0.01)
        y = problem.measure(prior.sample(1, seeded(1)), seeded(2))
        expected = weighted_mean(prior, matrix, y[0], 1e-4, 1.0)
        errors = []
        for last in (0.3, 0.1, 0.03):
            solver = HQS(steps=4000, lam=1.0, s_max=2.0, s_min=last)
            found = solver.sample(prior, problem, y).mean.flatten()
            errors.append(float((found - expected).norm() / expected.norm()))
        assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[2] < 0.02


class TestParts:
    def test_membrane_operator_is_the_gradient_squared(self) -> None:
        x, v = randn(2, 5, 7, seed=1), randn(2, 5, 7, seed=2)
        inner = sum(float((x.diff(dim=a) * v.diff(dim=a)).sum()) for a in (-1, -2))
        assert math.isclose(float((membrane_operator(x) * v).sum()), inner, rel_tol=1e-12)

    def test_smooth_start_is_the_posterior_mean_of_a_membrane(self) -> None:
        problem, matrix = matrix_problem()
        y = randn(2, 7, seed=6)
        basis = torch.eye(N, dtype=F64).reshape(N, *SHAPE)
        L = membrane_operator(basis).reshape(N, N) + 1e-4 * torch.eye(N, dtype=F64)
        expected = torch.linalg.solve(
            matrix.T @ matrix / 0.09 + L / GRADIENT**2, matrix.T @ y.T / 0.09
        ).T
        found = smooth_estimate(problem, y, SHAPE, iterations=500).flatten(1)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.norm()))

    @pytest.mark.parametrize(
        "operator",
        [
            Inpainting(torch.tensor([1.0, 1, 0, 0, 0, 0, 1, 1]).expand(12, 8)),
            GaussianBlur(0.7),
            SuperResolution(2),
        ],
        ids=["hole", "blur", "super-resolution"],
    )
    def test_a_plain_picture_starts_plain(self, operator: Inpainting) -> None:
        problem = InverseProblem(operator, GaussianNoise(1e-3))
        x = torch.full((1, 3, 12, 8), 0.5, dtype=F64)
        y = operator.apply(x)
        found = smooth_estimate(problem, y, (3, 12, 8), iterations=200)
        torch.testing.assert_close(found, x, rtol=0, atol=1e-2)

    def test_curvature_is_the_largest_singular_value(self) -> None:
        problem, matrix = matrix_problem()
        found = data_curvature(problem, randn(1, *SHAPE, seed=1), randn(1, *SHAPE, seed=2), 200)
        expected = torch.linalg.matrix_norm(matrix, 2) ** 2 / 0.09
        torch.testing.assert_close(found, expected[None], rtol=1e-3, atol=0)

    def test_proximal_step_of_a_linear_problem_is_its_prox(self) -> None:
        """The general form, by conjugate gradients, agrees with the closed form."""
        problem, _ = matrix_problem()
        z, y, v = randn(2, *SHAPE, seed=1), randn(2, 7, seed=2), torch.tensor([0.4, 2.0], dtype=F64)
        levels = torch.full((7,), 0.3, dtype=F64)
        general = InverseProblem(problem.operator, GaussianNoise(levels))
        torch.testing.assert_close(
            proximal_step(general, z, y, v), proximal_step(problem, z, y, v), rtol=0, atol=1e-4
        )

    def test_proximal_step_of_counts_is_a_gauss_newton_step(self) -> None:
        noise = PoissonNoise(20.0)
        problem = InverseProblem(Denoising(), noise)
        z = torch.rand(1, *SHAPE, dtype=F64, generator=seeded(1)) - 0.2
        y = problem.measure(z, seeded(2))
        noise_variance = noise.covariance_matvec(z, torch.ones_like(z))
        expected = z + 0.5 / (0.5 + noise_variance) * (y - z)
        found = proximal_step(problem, z, y, torch.tensor([0.5], dtype=F64))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


class TestContract:
    @pytest.mark.parametrize("name", ["hqs", "pnp-admm"])
    def test_one_estimate_and_no_spread(self, name: str) -> None:
        prior, (problem, _) = gaussian(), matrix_problem()
        y = problem.measure(prior.sample(3, seeded(1)), seeded(2))
        solver, fractions = make_solver(name), []
        found = solver.sample(prior, problem, y, progress=fractions.append, batch=2)
        assert found.draws.shape == (1, 3, *SHAPE) and bool(found.std.isnan().all())
        assert SOLVERS[name].exactness == "estimate"
        assert found.nfe == SOLVERS[name].steps and found.vjps == 0
        assert fractions[-1] == 1.0 and fractions == sorted(fractions)
        alone = [solver.sample(prior, problem, one[None]).draws[0, 0] for one in y]
        torch.testing.assert_close(found.draws[0], torch.stack(alone), rtol=0, atol=1e-9)
        with pytest.raises(ValueError, match="one estimate and no draws, but 8 were asked for"):
            solver.sample(prior, problem, y, 8)

    @pytest.mark.parametrize("name", ["hqs", "pnp-admm"])
    def test_the_clock_of_the_prior_does_not_matter(self, name: str) -> None:
        problem, _ = matrix_problem()
        prior = gaussian()
        y = problem.measure(prior.sample(1, seeded(1)), seeded(2))
        first, second = (
            make_solver(name).sample(prior.with_sde(sde), problem, y).mean
            for sde in (EDMSDE(), VPSDE())
        )
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("name", ["hqs", "pnp-admm"])
    def test_nonlinear_measurements_and_counts(self, name: str) -> None:
        prior = gaussian()
        truth = prior.sample(1, seeded(1))
        for problem in (
            InverseProblem(Clipping(0.5), GaussianNoise(0.1)),
            InverseProblem(Denoising(), PoissonNoise(50.0)),
        ):
            y = problem.measure(truth, seeded(2))
            error = make_solver(name).sample(prior, problem, y).mean - truth
            assert float(error.square().mean()) < 0.7 * float(
                (randn(*SHAPE, seed=4) - truth).square().mean()
            )

    @pytest.mark.parametrize("cls", [HQS, PnPADMM])
    def test_bad_settings_are_named(self, cls: type) -> None:
        for bad in ({"steps": 0}, {"lam": 0.0}, {"s_min": 0.5}, {"s_min": 0.0}):
            with pytest.raises(ValueError, match=f"{cls.__name__} needs steps >= 1"):
                dataclasses.replace(cls(), **bad)
