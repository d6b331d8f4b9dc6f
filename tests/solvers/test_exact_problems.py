"""Problems of many dimensions with a known posterior, and verdicts on draws that are exact."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from scoresde import VPSDE, GaussianMixturePrior
from solvers.posterior.records import Run
from solvers.verification import (
    FULL_PROBLEMS,
    VERIFIED,
    SharedMixturePrior,
    exact_problem,
    interval_coverage,
    reference,
    table,
    verify,
)
from solvers.verification.memory import memory_of_a_draw
from tests.conftest import F64, seeded
from tests.laws import Exact


class TestSharedMixture:
    """Every result against the mixture of full covariances."""

    @staticmethod
    def pair(sde: VPSDE | None = None) -> tuple[SharedMixturePrior, GaussianMixturePrior]:
        weights, means = (
            torch.rand(5, dtype=F64, generator=seeded()) + 0.1,
            3 * torch.randn(5, 2, 4, dtype=F64, generator=seeded(1)),
        )
        rows = torch.randn(3, 8, dtype=F64, generator=seeded(2))
        covariance = 0.7 * torch.linalg.inv(torch.eye(8, dtype=F64) + rows.T @ rows)
        return SharedMixturePrior(weights, means, 0.7, rows, sde), GaussianMixturePrior(
            weights, means, covariance.expand(5, 8, 8), sde
        )

    def test_densities_and_moments(self) -> None:
        shared, dense = self.pair()
        x = dense.sample(50, seeded(3))
        torch.testing.assert_close(shared.log_prob(x), dense.log_prob(x))
        torch.testing.assert_close(shared.responsibilities(x), dense.responsibilities(x))
        for found, expected in zip(shared.moments(), dense.moments(), strict=True):
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
    def test_denoiser_and_its_products(self, t: float) -> None:
        shared, dense = self.pair(VPSDE())
        x, v = (torch.randn(20, 2, 4, dtype=F64, generator=seeded(seed)) for seed in (4, 5))
        x = dense.sample(20, seeded(6)) + x
        found = [
            torch.autograd.functional.vjp(lambda u, prior=prior: prior.denoise(u, t), x, v)
            for prior in (shared, dense)
        ]
        torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-9)

    def test_draws(self) -> None:
        shared, _ = self.pair()
        draws, (mean, covariance) = shared.sample(20_000, seeded()).flatten(1), shared.moments()
        assert (
            float(((draws.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max())
            < 5 / 20_000**0.5
        )
        assert float((torch.cov(draws.T) - covariance).norm() / covariance.norm()) < 0.05

    @pytest.mark.parametrize("twice", [False, True])
    def test_the_posterior(self, twice: bool) -> None:
        """Also the posterior of the posterior, given a second measurement."""
        shared, dense = self.pair()
        for seed in range(1 + twice):
            A = torch.randn(3, 8, dtype=F64, generator=seeded(7 + seed))
            problem = InverseProblem(LinearMatrix(A, (2, 4)), GaussianNoise(0.5))
            y = problem.measure(dense.sample(1, seeded(9)), seeded(10))
            shared, dense = shared.posterior(problem, y), dense.posterior(problem, y)
        torch.testing.assert_close(shared.weights, dense.weights)
        x = dense.sample(10, seeded(11))
        torch.testing.assert_close(shared.log_prob(x), dense.log_prob(x))
        for found, expected in zip(shared.moments(), dense.moments(), strict=True):
            torch.testing.assert_close(found, expected)

    def test_bad_input_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"weights must be \(2,\)"):
            SharedMixturePrior(torch.ones(3), torch.zeros(2, 4), 1.0)
        with pytest.raises(ValueError, match="variance of a mixture must be positive"):
            SharedMixturePrior(torch.ones(2), torch.zeros(2, 4), 0.0)
        prior = SharedMixturePrior(torch.ones(2), torch.zeros(2, 4), 1.0)
        problem = InverseProblem(LinearMatrix(torch.eye(4, dtype=F64)), GaussianNoise(0.1))
        with pytest.raises(ValueError, match="one measurement at a time"):
            prior.posterior(problem, torch.zeros(2, 4))


class TestGridProblems:
    @pytest.mark.parametrize(("long", "short"), [("grid-8-2", "grid-8"), ("grid-80-4", "grid-80")])
    def test_they_are_those_of_the_short_table(self, long: str, short: str) -> None:
        a, b = exact_problem(long, 1), exact_problem(short, 1)
        torch.testing.assert_close(a.y, b.y)
        torch.testing.assert_close(a.posterior.weights, b.posterior.weights)
        for found, expected in zip(a.posterior.moments(), b.posterior.moments(), strict=True):
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("name", FULL_PROBLEMS)
    def test_the_exact_posterior_agrees_with_bayes(self, name: str) -> None:
        case = exact_problem(name, 0)
        x = case.posterior.sample(5, seeded())
        constant = (
            case.posterior.log_prob(x)
            - case.prior.log_prob(x)
            - case.problem.log_likelihood(case.y.expand(5, *case.y.shape[1:]), x)
        )
        torch.testing.assert_close(constant, constant[:1].expand(5), rtol=1e-7, atol=1e-5)

    @pytest.mark.slow
    def test_800_dimensions_are_affordable(self) -> None:
        verdict = verify(VERIFIED["tds"], "grid-800-2", draws=60, seeds=1)
        assert math.isfinite(verdict.distance) and verdict.seconds < 1

    def test_fresh_measurements_share_the_operator(self) -> None:
        case = exact_problem("ambiguous", 0)
        x, y = case.pairs(2000, seeded())
        noise = y - case.problem.operator.apply(x)
        assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
        again = case.given(y[:1])
        assert again.problem is case.problem and not torch.equal(
            again.posterior.weights, case.posterior.weights
        )

    def test_an_unknown_problem_is_named(self) -> None:
        with pytest.raises(ValueError, match="unknown exact problem 'nope'; known: gaussian-white"):
            exact_problem("nope", 0)


@pytest.mark.slow
class TestVerdicts:
    def test_exact_draws(self) -> None:
        """Exact draws have distance 1, nominal coverage and variance ratio 1.

        The distance may be five times the scatter of the floor off.
        """
        for name in ("gaussian", "ambiguous", "grid-80-1"):
            found = verify(Exact(name), name, draws=400, seeds=1)
            assert abs(found.distance - 1) < 5 * found.floor_scatter
            assert found.cover50 == pytest.approx(0.5, abs=0.04)
            assert found.cover90 == pytest.approx(0.9, abs=0.025)
            assert found.cover95 == pytest.approx(0.95, abs=0.02)
            assert found.modes < 0.1 and found.seen == pytest.approx(1, abs=0.25)
            assert math.isnan(found.memory)

    def test_draws_of_half_the_variance(self) -> None:
        """Coverage is P(|z| < q sqrt(1/2)) of a standard normal number."""
        found = verify(Exact("gaussian", spread=0.5), "gaussian", draws=2000, seeds=1)
        for level, value in ((0.5, found.cover50), (0.9, found.cover90), (0.95, found.cover95)):
            q = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2)))
            assert value == pytest.approx(math.erf(q / 2), abs=0.02)
        assert found.seen == pytest.approx(0.5, abs=0.05) and found.unseen == pytest.approx(
            0.5, abs=0.05
        )

    @pytest.mark.parametrize("n", [60, 1000])
    def test_coverage_has_no_bias_of_few_draws(self, n: int) -> None:
        exact = torch.randn(2000, 4000, dtype=torch.float32, generator=seeded())[
            :, : 4_000_000 // n // 10
        ].double()
        x = torch.randn(n, exact.shape[1], dtype=F64, generator=seeded(1))
        assert interval_coverage(x, exact, 0.9) == pytest.approx(0.9, abs=0.005)

    def test_the_floor(self) -> None:
        """The mean distance of exact draws, so that exact draws have 1 on average.

        It is cached between calls.
        """
        given = reference("gaussian", 200, 0)
        posterior = given.case.posterior
        found = torch.tensor(
            [given.distance(posterior.sample(200, seeded(seed)).flatten(1)) for seed in range(20)]
        )
        error = given.scatter * (1 / 20 + 1 / 8) ** 0.5
        assert float(found.mean()) == pytest.approx(1, abs=5 * error) and 0.02 < given.scatter < 0.5
        assert reference("gaussian", 200, 0) is given


@pytest.mark.slow
class TestTable:
    def test_rows_do_not_depend_on_jobs(self) -> None:
        """Except for the times, which differ between any two runs."""
        pairs = [("ddrm", "gaussian"), ("repaint", "gaussian"), ("mpgd", "box")]
        alone, together = (list(table(pairs, draws=30, jobs=jobs)) for jobs in (1, 2))
        for row in [*alone, *together]:
            row.pop("seconds", None)
            row.pop("memory", None)
            assert ("refused" in row) == (row["solver"] == "repaint")
            if "refused" in row:  # classes of other tests are among the solvers named here
                row["refused"] = row["refused"].split("; solvers that can do this one")[0]
        assert [str(row) for row in alone] == [str(row) for row in together]
        assert [(row["solver"], row["problem"]) for row in alone] == pairs

    def test_a_full_row(self) -> None:
        (row,) = table([("ddrm", "gaussian")], draws=30, full=True)
        assert row["sbc"]["p_all"] < 1e-3 and set(row["sbc"]["p"]) >= {"seen", "unseen", "prior"}
        assert math.isnan(row["memory"]) or 0 <= row["memory"] < 1e6


@dataclass(frozen=True)
class Hog(Exact):
    """Holds a megabyte per draw, and twice as much for a moment."""

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        held = torch.ones(len(run.y), 1 << 17, dtype=F64)
        held = held + 1
        return held[:, :8].clone(), 0


@pytest.mark.slow
def test_memory_is_what_is_held_at_the_worst() -> None:
    found = memory_of_a_draw(Hog("gaussian"), "gaussian", 50)
    if math.isnan(found):
        pytest.skip("only Linux tells the peak of a process")
    assert found == pytest.approx(2 << 20, rel=0.1)
