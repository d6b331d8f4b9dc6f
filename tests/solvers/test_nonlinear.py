"""Solvers of strongly nonlinear problems: modes, Metropolis steps, starts, and phase retrieval."""

import itertools
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from problems import (
    Denoising,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    NonlinearFunction,
    PhaseRetrieval,
    PoissonGaussianNoise,
    hybrid_input_output,
)
from scoresde import GaussianPrior, load_prior
from scoresde.errors import InputError
from scoresde.evaluation import psnr
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.pipelines.plan import budget, check_options, solver_of, starts_for
from scoresde.pipelines.settings import RestoreOptions
from solvers import DAPS, DDIM, HQS, AnnealedGaussNewton, BestOf, SolverWarning, SplitGibbs
from solvers.posterior.levenberg import (
    log_likelihood_gradient,
    marquardt_step,
    unrounded_log_likelihood,
)
from solvers.posterior.mala import langevin_steps
from solvers.posterior.records import Run, silent
from solvers.posterior.trust import residual_sizes
from solvers.registry import make_solver
from solvers.streams import spawn
from tests.conftest import F64, randn, seeded

SHAPE = (1, 1, 1)
BENT = InverseProblem(
    NonlinearFunction(lambda x: x + 0.2 * x**3, SHAPE),
    GaussianNoise(0.5),
)
"""A mildly nonlinear measurement of one number."""


def moments(log_density: Tensor, x: Tensor) -> tuple[float, float]:
    """Mean and variance of a density on a fine grid."""
    p = (log_density - log_density.max()).exp()
    mean = (p * x).sum() / p.sum()
    return float(mean), float((p * (x - mean) ** 2).sum() / p.sum())


def run_of(problem: InverseProblem, y: Tensor, rows: int) -> Run:
    prior = GaussianPrior(torch.zeros(SHAPE, dtype=F64), torch.eye(1, dtype=F64))
    return Run(prior, problem, y.expand(rows, *y.shape[1:]), spawn(seeded(), rows), silent)


class TestMarquardt:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "problem",
        [
            InverseProblem(
                Gamma(1 / 2.2) @ GaussianBlur(1.0) @ Gamma(2.2), PoissonGaussianNoise(100.0, 0.05)
            ),
            InverseProblem(PhaseRetrieval(1.5, squared=True), GaussianNoise(0.05)),
        ],
        ids=["gamma-blur", "phase"],
    )
    def test_the_end_is_a_stationary_point_and_the_way_descends(
        self, problem: InverseProblem
    ) -> None:
        x = 0.4 * randn(2, 1, 12, 12).clamp(-1.5, 1.5)
        y, z, v = problem.measure(x, seeded(1)), x + 0.2 * randn(*x.shape, seed=2), 0.04

        def log_posterior(x: Tensor) -> Tensor:
            anchor = (x - z).square().flatten(1).sum(1) / (2 * v)
            return unrounded_log_likelihood(problem, y, x) - anchor

        variance = torch.full((2,), v, dtype=F64)
        values = [log_posterior(z)]
        for iterations in (1, 2, 4):
            found = marquardt_step(problem, z, y, variance, iterations, products=40)
            values.append(log_posterior(found))
        assert all((new >= old).all() for old, new in itertools.pairwise(values))
        found = marquardt_step(problem, z, y, variance, 80, products=60)
        if isinstance(problem.noise, PoissonGaussianNoise):  # its variance moves with the mean
            assert (log_posterior(found) > values[0]).all()
        slope = log_likelihood_gradient(problem, y, found) + (z - found) / v
        start = log_likelihood_gradient(problem, y, z)
        assert slope.norm() < 1e-3 * start.norm()

    def test_for_a_linear_measurement_it_is_the_proximal_map(self) -> None:
        problem = InverseProblem(GaussianBlur(1.0), GaussianNoise(0.1))
        z, y = randn(2, 1, 12, 12), randn(2, 1, 12, 12, seed=1)
        variance = torch.tensor([0.1, 0.5], dtype=F64)
        found = marquardt_step(problem, z, y, variance, 40, products=40)
        exact = problem.linear_operator.prox(z, y, 0.01, variance)
        torch.testing.assert_close(found, exact, atol=1e-6, rtol=0)


class TestMetropolis:
    y, z, v, rows = torch.full((1, *SHAPE), 1.2, dtype=F64), -0.5, 1.0, 3000

    def exact(self) -> tuple[float, float]:
        x = torch.linspace(-8, 8, 8001, dtype=F64)
        return moments(
            -((x - self.z) ** 2) / (2 * self.v) - (1.2 - x - 0.2 * x**3) ** 2 / (2 * 0.5**2), x
        )

    def chain(self, adjust: bool) -> tuple[float, float, float]:
        start = torch.zeros(self.rows, *SHAPE, dtype=F64)
        run = run_of(BENT, self.y, self.rows)
        x, taken = langevin_steps(run, start, start + self.z, self.v, 120, 0.5, adjust)
        return float(x.mean()), float(x.var()), float(taken.mean())

    @pytest.mark.slow
    def test_the_law_is_that_of_quadrature_at_any_step_size(self) -> None:
        mean, variance = self.exact()
        found, spread, taken = self.chain(adjust=True)
        error = math.sqrt(variance / self.rows)
        assert abs(found - mean) < 4 * error
        assert abs(spread / variance - 1) < 4 * math.sqrt(3 / self.rows)
        assert 0.3 < taken < 0.99

    def test_without_the_test_of_metropolis_the_law_is_another(self) -> None:
        mean, variance = self.exact()
        found, spread, taken = self.chain(adjust=False)
        error = math.sqrt(variance / self.rows)
        assert taken == 1
        assert not abs(found - mean) < 6 * error or not abs(spread / variance - 1) < 0.2

    @pytest.mark.slow
    @pytest.mark.parametrize("rho", [0.7, 0.2])
    def test_split_gibbs_has_the_law_that_its_coupling_predicts(self, rho: float) -> None:
        # x of the joint law p0(x) N(z; x, rho^2) p(y|z), with z integrated out on a grid
        z = torch.linspace(-7, 7, 1401, dtype=F64)
        x = z[::2][:, None]
        likelihood = -((1.2 - z - 0.2 * z**3) ** 2) / (2 * 0.5**2)
        joint = torch.logsumexp(-((z - x) ** 2) / (2 * rho**2) + likelihood, 1)
        mean, variance = moments(joint - x[:, 0] ** 2 / 2, x[:, 0])
        prior = GaussianPrior(torch.zeros(SHAPE, dtype=F64), torch.eye(1, dtype=F64))
        solver = SplitGibbs(
            60, rho_max=rho, rho_min=rho, anneal=0, inner=1, s_min=rho / 50, finest=None,
            lanczos=1, likelihood="mala", langevin=6, tau=0.6,
        )  # fmt: skip
        draws = solver.sample(prior, BENT, self.y, 2000, generator=seeded()).draws
        assert abs(float(draws.mean()) - mean) < 4 * math.sqrt(variance / 2000)
        assert abs(float(draws.var()) / variance - 1) < 4 * math.sqrt(3 / 2000)


class TestDAPS:
    prior = GaussianPrior(torch.zeros(1, 2, 2, dtype=F64), torch.eye(4, dtype=F64))
    y = torch.ones(1, 1, 2, 2, dtype=F64)

    def test_the_noise_it_assumes_is_a_factor_on_that_of_the_problem(self) -> None:
        problems = [InverseProblem(Denoising(), GaussianNoise(std)) for std in (0.25, 0.5)]
        solvers = [DAPS(4, 2, langevin=5), DAPS(4, 2, langevin=5, noise=0.5)]
        one, other = (
            solver.sample(self.prior, problem, self.y, 3, generator=seeded()).draws
            for solver, problem in zip(solvers, problems, strict=True)
        )
        torch.testing.assert_close(one, other)

    def test_steps_shrink_over_the_levels(self) -> None:
        # few steps from x0_hat = D(u) fall short of y by what their size leaves
        problem = InverseProblem(Denoising(), GaussianNoise(0.1))
        distance = {}
        for decay in (1.0, 0.01):
            solver = DAPS(6, 2, langevin=2, tau=0.5, decay=decay)
            draws = solver.sample(self.prior, problem, 3 * self.y, 200, generator=seeded()).draws
            distance[decay] = float((draws.mean() - 3).abs())
        assert distance[0.01] > 2 * distance[1.0]

    @pytest.mark.slow
    def test_adjusted_steps_draw_from_the_law_of_the_exact_draw(self) -> None:
        problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        adjusted = DAPS(20, 2, inner="mala", langevin=40, tau=0.5, r="unit")
        exact = replace(adjusted, inner="exact")
        found, expected = (
            solver.sample(self.prior, problem, self.y, 400, generator=seeded(seed)).draws
            for seed, solver in enumerate((adjusted, exact))
        )
        assert abs(float(found.mean() - expected.mean())) < 0.06
        assert abs(float(found.var() / expected.var()) - 1) < 0.15

    def test_bad_settings_are_named(self) -> None:
        with pytest.raises(ValueError, match="decay"):
            DAPS(decay=0)
        with pytest.raises(ValueError, match="noise"):
            DAPS(noise=-1.0)


class TestBestOf:
    prior = GaussianPrior(torch.zeros(1, 2, 2, dtype=F64), torch.eye(4, dtype=F64))
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    y = torch.stack([torch.ones(1, 2, 2, dtype=F64), -torch.ones(1, 2, 2, dtype=F64)])

    def test_it_keeps_the_smallest_residual_of_each_draw(self) -> None:
        inner = DAPS(6, 2, langevin=5)
        every = inner.sample(self.prior, self.problem, self.y, 12, generator=seeded())
        found = BestOf(inner, 4).sample(self.prior, self.problem, self.y, 3, generator=seeded())
        sizes = residual_sizes(self.problem, self.y, every.draws).reshape(3, 4, 2)
        said = torch.tensor(found.diagnostics["start_residuals"], dtype=F64)
        torch.testing.assert_close(said, sizes.permute(2, 0, 1))
        kept = residual_sizes(self.problem, self.y, found.draws)
        torch.testing.assert_close(kept, sizes.amin(1))
        assert found.diagnostics["starts"] == [4, 4]
        assert found.diagnostics["residual"] == pytest.approx(kept.amax(0).tolist())
        assert found.nfe == 4 * every.nfe

    def test_it_warns_if_even_the_best_run_does_not_explain_y(self) -> None:
        lazy = DAPS(1, 1, langevin=1, tau=1e-3)
        with pytest.warns(SolverWarning, match="no run explains"):
            BestOf(lazy, 2).sample(self.prior, self.problem, 9 * self.y, 1, generator=seeded())

    def test_point_estimates_have_no_starts(self) -> None:
        with pytest.raises(ValueError, match="same estimate"):
            BestOf(HQS(), 2)

    def test_phase_retrieval_has_a_solver_of_its_own_and_four_starts(self, tmp_path: Path) -> None:
        assert budget("normal", None, None, None, "phase-retrieval")[0] == "annealed-gauss-newton"
        assert budget("instant", None, None, None, "phase-retrieval")[0] == "annealed-gauss-newton"
        assert budget("normal", "daps", None, None, "phase-retrieval")[0] == "daps"
        assert budget("normal", None, None, None, "hdr")[0] == (
            PROBLEMS["hdr"].solver or "warm-start"
        )
        assert starts_for("phase-retrieval", "daps", None) == 4
        assert starts_for("phase-retrieval", "hqs", None) == 1
        assert starts_for("phase-retrieval", "daps", 2) == 2
        assert starts_for("denoise", "daps", None) == 1
        described = tmp_path / "problem.json"
        problem = InverseProblem(PhaseRetrieval(), GaussianNoise(0.05))
        described.write_text(json.dumps(problem.describe()))
        assert starts_for(str(described), "daps", None) == 4
        assert budget("normal", None, None, None, str(described))[0] == "annealed-gauss-newton"
        solver = solver_of(RestoreOptions(solver="daps", starts=3))
        assert isinstance(solver, BestOf)
        assert solver.starts == 3
        with pytest.raises(InputError, match="--starts must be from 1"):
            check_options(RestoreOptions(starts=0))


class TestPhaseRetrieval:
    def test_shifts_of_an_object_in_the_dark_are_undone(self) -> None:
        operator = PhaseRetrieval()
        x = torch.full((1, 2, 12, 12), -1.0, dtype=F64)
        x[..., 3:9, 4:9] = randn(1, 2, 6, 5).clamp(-1, 1)
        moved = torch.stack([x[:, 0].roll((2, -3), (-2, -1)), x[:, 1].flip(-2, -1).roll(1, -1)], 1)
        torch.testing.assert_close(operator.apply(moved), operator.apply(x))
        assert torch.equal(operator.align(moved, x), x)
        torch.testing.assert_close(operator.align(-2 - moved, x), x)
        filled = randn(1, 1, 12, 12).clamp(-1, 1)  # without a margin there is nothing to shift
        rolled = filled.roll(1, -1)
        found = operator.align(rolled, filled)
        assert any(torch.equal(found, one) for one in operator.symmetries(rolled))

    def test_placements_move_channels_together(self) -> None:
        x = torch.full((1, 2, 8, 8), -1.0, dtype=F64)
        x[:, 0, 1:3, 1:3], x[:, 1, 3, 3] = 1.0, 0.5
        found = PhaseRetrieval().placements(x, x[0].roll((3, 2), (-2, -1)), 2)
        assert found.shape == (4, 1, 2, 8, 8)
        assert torch.equal(found[0], x.roll((3, 2), (-2, -1)))

    def test_hybrid_input_output_finds_more_than_error_reduction(self) -> None:
        operator, found = PhaseRetrieval(), {0: 0, 300: 0}
        x = 2 * torch.rand(4, 1, 6, 6, generator=seeded(), dtype=F64) - 1
        y, start = operator.apply(x).repeat(20, 1, 1, 1), randn(80, 1, 12, 12)
        for iterations in found:
            made = hybrid_input_output(operator, y, start, iterations, 400 - iterations)
            assert (made.abs() <= 1).all()
            error = (operator.align(made, x.repeat(20, 1, 1, 1)) - x.repeat(20, 1, 1, 1)).abs()
            found[iterations] = int((error.amax((1, 2, 3)) < 0.05).sum())
        assert found[300] > 2 * found[0]
        assert found[300] >= 8

    def test_arguments_of_hybrid_input_output_are_checked(self) -> None:
        operator, start = PhaseRetrieval(), randn(2, 1, 12, 12)
        y = start.abs()
        with pytest.raises(ValueError, match="the start has shape"):
            hybrid_input_output(operator, y, start[:1])
        with pytest.raises(ValueError, match="beta"):
            hybrid_input_output(operator, y, start, beta=0)

    @pytest.mark.slow
    def test_a_digit_is_found_from_noisy_magnitudes(self) -> None:
        prior = load_prior("mnist")
        x = DDIM(20).sample(prior, 1, generator=seeded()).clamp(-1, 1)
        problem = InverseProblem(PhaseRetrieval(), GaussianNoise(0.05))
        y = problem.measure(x, seeded())
        solver = BestOf(make_solver("annealed-gauss-newton"), 4)
        assert isinstance(solver.solver, AnnealedGaussNewton)
        begin = time.process_time()
        post = solver.sample(prior, problem, y, 1, generator=seeded())
        seconds = time.process_time() - begin
        found = problem.operator.align(post.draws[0], x)  # type: ignore[operator]
        assert float(psnr(found, x)) > 25
        assert post.diagnostics["residual"][0] < 1.05
        assert post.diagnostics["ambiguities"] == [["shift", "rotation by 180 degrees", "sign"]]
        assert seconds < 8
