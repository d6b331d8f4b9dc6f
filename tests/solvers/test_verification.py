"""The exact benchmarks, the solver that is right on them, and the predicted biases of others."""

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from problems import Blur, Denoising, GaussianNoise, Inpainting, InverseProblem, LinearMatrix
from scoresde import EDMSDE, VPSDE, GaussianPrior
from solvers import (
    DAPS,
    DDNM,
    DDRM,
    MMPS,
    SITCOM,
    TDS,
    DiffPIR,
    Guided,
    Heun,
    MCGDiff,
    PosteriorSampler,
    PredictedTwistSMC,
    REDDiff,
    RePaint,
    SplitGibbs,
    TimeGrid,
)
from solvers.posterior.smc.base import ess_fraction, systematic
from solvers.posterior.smc.predicted_twist import _Particles
from solvers.streams import NormalStream, spawn
from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, VERIFIED, sliced_wasserstein, verify
from tests.conftest import F64, seeded
from tests.laws import assert_exact, gaussian, measured, white

pytestmark = pytest.mark.slow


class TestTheBenchmarks:
    @pytest.mark.parametrize("name", EXACT_PROBLEMS)
    def test_the_exact_posterior_agrees_with_bayes(self, name: str) -> None:
        """ln p(x|y) - ln p(x) - ln p(y|x) is the same for all x: minus the evidence."""
        case = EXACT_PROBLEMS[name][1](0)
        x = case.posterior.sample(5, seeded())
        constant = (
            case.posterior.log_prob(x)
            - case.prior.log_prob(x)
            - case.problem.log_likelihood(case.y.expand(5, *case.y.shape[1:]), x)
        )
        torch.testing.assert_close(constant, constant[:1].expand(5), rtol=1e-7, atol=1e-6)

    def test_exact_draws_score_one(self) -> None:
        """The posterior denoiser with Heun's method is within the scatter of the floor.

        A wrong posterior is far outside.
        """
        for name in ("informative", "ambiguous"):
            case = EXACT_PROBLEMS[name][1](0)
            exact, other = (
                case.posterior.sample(1000, seeded(1)).flatten(1),
                case.posterior.sample(1000, seeded(2)).flatten(1),
            )
            floor = sliced_wasserstein(other, exact)
            oracle = Heun(40).sample(case.posterior, 1000, generator=seeded(3)).flatten(1)
            assert sliced_wasserstein(oracle, exact) < 1.5 * floor
            assert (
                sliced_wasserstein(case.prior.sample(1000, seeded(4)).flatten(1), exact) > 3 * floor
            )

    def test_modes_tell_ambiguity(self) -> None:
        """The effective number of modes, averaged over a dozen measurements."""
        spread = {
            name: sum(
                float(EXACT_PROBLEMS[name][1](seed).posterior.weights.square().sum() ** -1) / 12
                for seed in range(12)
            )
            for name in ("informative", "ambiguous")
        }
        assert spread["informative"] < 1.01 and spread["ambiguous"] > 1.3


NEAR_THE_FLOOR = (
    "informative",
    "ambiguous",
    "blur",
    "sr",
    "box",
    "grid-8",
    "grid-80-2",
    "grid-800-1",
    "grid-800-4",
)


class TestPredictedTwist:
    @pytest.mark.parametrize("name", NEAR_THE_FLOOR)
    def test_it_stays_near_the_floor(self, name: str) -> None:
        """Within 1.1 of the floor on average over three measurements.

        Plus four standard errors of the scatter of exact sets. At most 250 evaluations per draw.
        """
        ratios, scatter, evaluations = [], [], 0
        for seed in range(3):
            case = (EXACT_PROBLEMS | FULL_PROBLEMS)[name][1](seed)
            exact, *others = (
                case.posterior.sample(500, seeded(100 * seed + i)).flatten(1) for i in range(9)
            )
            floors = torch.tensor([sliced_wasserstein(other, exact) for other in others])
            result = VERIFIED["predicted-twist"].sample(
                case.prior, case.problem, case.y, 500, generator=seeded(seed)
            )
            ratios.append(
                sliced_wasserstein(result.draws[:, 0].flatten(1), exact) / float(floors.mean())
            )
            scatter.append(float(floors.std() / floors.mean()))
            evaluations += result.nfe
        error = math.sqrt(sum(s**2 for s in scatter)) / 3
        assert evaluations / 3 <= 250
        assert sum(ratios) / 3 < 1.1 + 4 * error, (ratios, scatter)

    @pytest.mark.parametrize("sde", [EDMSDE(), VPSDE()], ids=lambda s: type(s).__name__)
    def test_it_is_exact_on_a_gaussian(self, sde: EDMSDE | VPSDE) -> None:
        """As good as independent draws.

        With exact twists the weights are flat and resampling changes nothing.
        """
        prior = gaussian(sde)
        problem, y = measured(prior)
        mean, covariance = prior.posterior(problem, y).moments()
        result = PredictedTwistSMC(flat_ratio=0.8).sample(
            prior, problem, y, 1000, generator=seeded()
        )
        # The kernel's square root of rho I + (1 - rho) J has an error of second order in the step:
        # 2 % of a deviation at ratio .8
        draws, scale = result.draws[:, 0], covariance.diagonal().sqrt()
        assert float(((draws.mean(0) - mean) / scale).abs().max()) < 5 / 1000**0.5 + 0.02
        assert float((torch.cov(draws.T) - covariance).norm() / covariance.norm()) < 0.15
        assert (
            result.diagnostics["ess_fraction"][0] > 0.5 and result.diagnostics["ancestors"][0] > 200
        )

    def test_the_evidence(self) -> None:
        """Without truncation, ln p(y) of the whitened measurement, known for the mixture."""
        case = EXACT_PROBLEMS["ambiguous"][1](0)
        A, std = (
            case.problem.linear_operator.dense(case.prior.shape),
            case.problem.noise_variance**0.5,
        )
        U, s, Vt = torch.linalg.svd(A, full_matrices=False)
        whitened = s[:, None] * Vt / std
        y = U.T @ case.y[0] / std
        log_p = []
        for mean, covariance in zip(case.prior.means, case.prior.covariances, strict=True):
            S = whitened @ covariance @ whitened.T + torch.eye(len(s), dtype=F64)
            log_p.append(torch.distributions.MultivariateNormal(whitened @ mean, S).log_prob(y))
        expected = float(torch.logsumexp(case.prior.log_weights + torch.stack(log_p), 0))
        found = [
            PredictedTwistSMC(truncate=False)
            .sample(case.prior, case.problem, case.y, 500, generator=seeded(seed))
            .diagnostics["log_evidence"][0]
            for seed in range(3)
        ]
        assert abs(sum(found) / 3 - expected) < 0.3, (found, expected)

    def test_weights_and_what_they_leave(self) -> None:
        """Factors 1 and 3 on shares .75 and .25: mean 1.5, and 1.5^2 / 3 of the sample is left.

        A particle without weight stays so and counts for nothing, whatever its factor.
        """
        w = torch.tensor([0.75, 0.25, 0.0], dtype=F64)
        particles = _Particles(torch.zeros(3, 1, dtype=F64), w.log() + 7, torch.arange(3))
        for factor in (2.0, 0.0):
            increments = torch.tensor([1.0, 3.0, factor], dtype=F64).log()
            after, gain, ess = particles.weighed(increments)
            assert gain == pytest.approx(math.log(1.5))
            assert ess == pytest.approx(1.5**2 / 3)
            expected = torch.tensor([0.5, 0.5, 0.0], dtype=F64)
            torch.testing.assert_close(after.log_w.softmax(0), expected)

    def test_weights_are_limited(self) -> None:
        """Those of M = 4 particles to sqrt(4) times their mean."""
        particles = _Particles(
            torch.zeros(4, 1, dtype=F64), torch.zeros(4, dtype=F64), torch.arange(4)
        )
        increments = torch.tensor([1.0, 1.0, 1.0, 97.0], dtype=F64).log()  # of mean 25
        after, gain, _ = particles.weighed(increments, truncate=True)
        limited = torch.tensor([1.0, 1.0, 1.0, 50.0], dtype=F64)
        torch.testing.assert_close(after.log_w.softmax(0), limited / 53)
        assert gain == pytest.approx(math.log(53 / 4))

    def test_each_measurement_has_its_own_population(self) -> None:
        prior = gaussian(EDMSDE())
        problem, _ = measured(prior)
        y = problem.measure(prior.sample(2, seeded(1)), seeded(2))
        both = PredictedTwistSMC(particles=64).sample(prior, problem, y, 8, generator=seeded())
        assert both.draws.shape == (8, 2, 6)
        again = PredictedTwistSMC(particles=64).sample(
            prior, problem, y, 8, generator=seeded(), batch=16
        )
        torch.testing.assert_close(both.draws, again.draws, rtol=1e-9, atol=1e-9)

    def test_a_measurement_too_large_is_named(self) -> None:
        prior = GaussianPrior(torch.zeros(1, 34, 34), torch.eye(1156))
        with pytest.raises(ValueError, match=r"at most 1024 numbers .* got 1156; use MMPS"):
            PredictedTwistSMC().sample(
                prior, InverseProblem(Denoising(), GaussianNoise(0.1)), torch.zeros(1, 1, 34, 34)
            )


class TestParticleMethods:
    """TDS and MCGDiff converge to the posterior with particles and steps.

    On a Gaussian, mean and covariance are within a few per cent.
    """

    @pytest.mark.parametrize(
        "solver",
        [TDS(steps=200, particles=4000), MCGDiff(steps=200, particles=4000)],
        ids=["tds", "mcgdiff"],
    )
    def test_near_the_posterior_of_a_gaussian(self, solver: TDS | MCGDiff) -> None:
        prior = gaussian(EDMSDE())
        problem, y = measured(prior)
        mean, covariance = prior.posterior(problem, y).moments()
        draws = solver.sample(prior, problem, y, 2000, generator=seeded()).draws[:, 0]
        assert float(((draws.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max()) < 0.2
        assert float((torch.cov(draws.T) - covariance).norm() / covariance.norm()) < 0.2

    def test_systematic_resampling_keeps_shares(self) -> None:
        """Index i occurs floor(n w_i) or ceil(n w_i) times.

        The effective share is 1 for equal weights and 1/M for a single weight.
        """
        log_w = torch.randn(40, dtype=F64, generator=seeded())
        counts = torch.bincount(systematic(log_w, 1000, seeded(1)), minlength=40)
        share = 1000 * log_w.softmax(0)
        assert bool(((counts >= share.floor()) & (counts <= share.ceil())).all())
        assert ess_fraction(torch.zeros(7)) == pytest.approx(1)
        assert ess_fraction(torch.tensor([0.0, -1e9, -1e9, -1e9])) == pytest.approx(0.25)


class TestPredictedBiases:
    def test_split_gibbs_is_too_wide_by_rho(self) -> None:
        """At coupling rho the chain draws the posterior under y = A (x + rho n') + n.

        That is a Gaussian again.
        """
        prior, rho, std = gaussian(EDMSDE()), 0.5, 0.3
        problem, y = measured(prior, std=std)
        A = problem.linear_operator.dense((6,))
        wider = InverseProblem(LinearMatrix(A), GaussianNoise(1.0))
        root = torch.linalg.cholesky(std**2 * torch.eye(3, dtype=F64) + rho**2 * A @ A.T)
        white_A = torch.linalg.solve(root, A)
        wider = InverseProblem(LinearMatrix(white_A), GaussianNoise(1.0))
        mean, covariance = prior.posterior(wider, torch.linalg.solve(root, y.T).T).moments()
        solver = SplitGibbs(
            60, rho_max=3.0, rho_min=rho, anneal=0.3, inner=60, s_min=0.005, finest=None
        )
        draws = solver.sample(prior, problem, y, 1000, generator=seeded()).draws[:, 0]
        assert_exact(draws, mean, covariance)
        exact_mean, exact_covariance = prior.posterior(problem, y).moments()
        with pytest.raises(AssertionError):
            assert_exact(draws, exact_mean, exact_covariance)

    def test_daps_with_the_right_variance_is_near_on_a_white_prior(self) -> None:
        """r^2 = s^2/(1 + s^2) is Var[x_0|x_t] for N(m, I), where everything is measured."""
        prior = white(EDMSDE())
        problem = InverseProblem(Denoising(), GaussianNoise(0.3))
        y = problem.measure(prior.sample(1, seeded(5)), seeded(6))
        mean, covariance = prior.posterior(problem, y).moments()
        draws = (
            DAPS(steps=60, ode=1, inner="exact", r="unit")
            .sample(prior, problem, y, 1000, generator=seeded())
            .draws[:, 0]
        )
        spread = float(torch.cov(draws.T).diagonal().mean() / covariance.diagonal().mean())
        # A chain of refreshes follows the falling s only as fast as each draw forgets the last, so
        # it is near the posterior and not on it
        assert (
            float(((draws.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max()) < 0.3
            and 0.5 < spread < 1.5
        )

    def test_langevin_and_exact_inner_draws_agree(self) -> None:
        prior = gaussian(EDMSDE())
        problem, y = measured(prior)
        laws = []
        for inner in ("langevin", "exact"):
            solver = DAPS(steps=20, ode=2, inner=inner, langevin=400, tau=0.2)
            draws = solver.sample(prior, problem, y, 1000, generator=seeded()).draws[:, 0]
            laws.append((draws.mean(0), torch.cov(draws.T)))
        scale = laws[1][1].diagonal().sqrt()
        assert float(((laws[0][0] - laws[1][0]) / scale).abs().max()) < 0.2
        assert float((laws[0][1] - laws[1][1]).norm() / laws[1][1].norm()) < 0.3

    @pytest.mark.parametrize(
        "name", ["dps", "ddrm", "ddnm", "diffpir", "daps", "lgd-mc", "mpgd", "red-diff", "sitcom"]
    )
    def test_heuristics_are_not_the_posterior(self, name: str) -> None:
        """On a coloured Gaussian each heuristic is further off than exact sets."""
        assert VERIFIED[name].exactness == "heuristic"
        verdict = verify(VERIFIED[name], "gaussian", draws=300, seeds=1)
        assert (
            verdict.distance > 1.5 or abs(verdict.seen - 1) > 0.3 or abs(verdict.unseen - 1) > 0.3
        )


class TestContract:
    """The contract of the solvers that came with the table."""

    SOLVERS: ClassVar[dict[str, PosteriorSampler]] = {
        "ddrm": DDRM(5),
        "ddnm": DDNM(5),
        "daps": DAPS(4, 2, langevin=3),
        "split-gibbs": SplitGibbs(3, inner=3),
        "red-diff": REDDiff(5),
        "sitcom": SITCOM(4, 3),
        "repaint": RePaint(4, 2),
        "tds": TDS(5),
        "mcgdiff": MCGDiff(5),
        "predicted-twist": PredictedTwistSMC(32),
    }

    @staticmethod
    def case() -> tuple[GaussianPrior, InverseProblem, Tensor]:
        covariance = 0.3 * torch.eye(12, dtype=F64) + 0.1
        prior = GaussianPrior(torch.zeros(1, 3, 4, dtype=F64), covariance)
        mask = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]])
        problem = InverseProblem(Inpainting(mask), GaussianNoise(0.2))
        return prior, problem, problem.measure(prior.sample(2, seeded(1)), seeded(2))

    @pytest.mark.parametrize("name", SOLVERS)
    def test_same_seed_same_draws(self, name: str) -> None:
        prior, problem, y = self.case()
        solver, before = self.SOLVERS[name], y.clone()
        first, again, other = (
            solver.sample(prior, problem, y, 3, generator=seeded(seed)).draws for seed in (0, 0, 1)
        )
        assert first.shape == (3, 2, 1, 3, 4) and bool(first.isfinite().all())
        assert torch.equal(first, again) and not torch.allclose(first, other)
        assert torch.equal(y, before)

    @pytest.mark.parametrize(
        "name", [name for name in SOLVERS if name not in ("tds", "mcgdiff", "predicted-twist")]
    )
    def test_a_draw_does_not_depend_on_its_batch(self, name: str) -> None:
        prior, problem, y = self.case()
        solver = self.SOLVERS[name]
        together = solver.sample(prior, problem, y, 4, generator=seeded()).draws
        apart = solver.sample(prior, problem, y, 4, generator=seeded(), batch=3).draws
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)

    def test_sitcom_minimises_what_it_says(self) -> None:
        """One level with a linear denoiser D(v) = c v.

        The minimiser of |y - A D(v)|^2 + lam |v - x_t|^2 is known in closed form.
        """
        prior = GaussianPrior(torch.zeros(1, 3, 4, dtype=F64), 0.5 * torch.eye(12, dtype=F64))
        problem = InverseProblem(Denoising(), GaussianNoise(0.1))
        y, lam = problem.measure(prior.sample(2, seeded(1)), seeded(2)), 0.7
        grid = TimeGrid("log_snr", s_max=1.0, s_min=0.5)
        found = (
            SITCOM(1, 3000, learning_rate=0.003, lam=lam, patience=0.0, grid=grid)
            .sample(prior, problem, y, 1, generator=seeded())
            .draws[0]
        )
        s = grid.levels(prior.sde, 1)[0]
        x_t = NormalStream(spawn(seeded(), 2))((2, 1, 3, 4), F64, torch.device("cpu"))
        c = 0.5 / (0.5 + s**2) * (1 + s**2) ** 0.5
        torch.testing.assert_close(found, c * (c * y + lam * x_t) / (c**2 + lam), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("power", [1.0, 2.0])
    def test_the_share_of_ddnm_in_what_its_noise_cannot_hide(self, power: float) -> None:
        """One step from s to s' = eta s / 2 with tau = 2 eta s'.

        y has the share (1/2)^power, and the total noise is eta s'.
        """
        solver, one = DDNM(5, eta=1.0, power=power), torch.ones(1, 1, dtype=F64)
        s_next, tau, D, y = 0.3, 0.6, 0.2, 1.7
        steered = solver._steer(D * one, 5 * one, y * one, tau * one, 1.0, s_next, one)
        share = 0.5**power
        fresh = math.sqrt(s_next**2 - (share * tau) ** 2)
        assert steered.item() == pytest.approx(D + share * (y - D) + fresh)
        with pytest.raises(ValueError, match="power"):
            DDNM(5, power=0.5)

    def test_sitcom_stops_where_the_noise_explains_the_residual(self) -> None:
        """It stops as soon as the noise explains the residual, if Adam gets there.

        It takes no step if the first guess is good enough.
        """
        prior, problem, y = self.case()
        draws = (
            SITCOM(10, 400, learning_rate=0.03)
            .sample(prior, problem, y, 5, generator=seeded())
            .draws
        )
        residual = torch.stack(
            [
                problem.operator.mask_unobserved(problem.residual(y, x)).flatten(1).square().sum(1)
                for x in draws
            ]
        )
        # 8 of 12 entries are measured
        assert (
            bool((residual <= 1.0001 * 8 * 0.2**2).all())
            and float(residual.max()) > 0.5 * 8 * 0.2**2
        )
        easy = SITCOM(10, 400, patience=1e3).sample(prior, problem, y, 5, generator=seeded())
        assert (easy.nfe, easy.vjps) == (10, 0)

    def test_what_a_problem_lacks_is_named(self) -> None:
        prior, _, y = self.case()
        with pytest.raises(ValueError, match="RePaint needs a problem with mask"):
            RePaint().sample(prior, InverseProblem(Denoising(), GaussianNoise(0.1)), y)
        with pytest.raises(ValueError, match="steps must be at least 1"):
            DDRM(0)

    def test_costs_are_counted(self) -> None:
        prior, problem, y = self.case()
        assert DDRM(7).sample(prior, problem, y, 2).nfe == 7
        assert RePaint(4, 3).sample(prior, problem, y, 2).nfe == 12
        assert SplitGibbs(3, inner=4).sample(prior, problem, y, 2).nfe == 12
        assert DAPS(4, 3, langevin=2).sample(prior, problem, y, 2).nfe == 12
        for per_draw in (1, 3):
            mcg = MCGDiff(steps=5, particles=4, per_draw=per_draw).sample(prior, problem, y, 4)
            tds = TDS(steps=5, particles=4, per_draw=per_draw).sample(prior, problem, y, 4)
            assert mcg.nfe == tds.nfe == tds.vjps == 5 * per_draw


def test_mmps_and_the_oracle_agree_with_the_table() -> None:
    """MMPS is exact on Gaussians, in the units of the table, and not on several modes."""
    right = verify(Guided(MMPS(iterations=4), Heun(64)), "gaussian", draws=1000, seeds=1)
    assert (
        right.distance < 1.3
        and right.seen == pytest.approx(1, abs=5 * math.sqrt(2 / 1000))
        and right.cover90 == pytest.approx(0.9, abs=0.02)
    )
    assert (
        verify(Guided(MMPS(iterations=4), Heun(64)), "ambiguous", draws=1000, seeds=1).distance > 2
    )


def test_blur_of_an_image_by_diffpir_is_worse_than_the_right_solver() -> None:
    assert isinstance(EXACT_PROBLEMS["blur"][1](0).problem.operator, Blur)
    assert (
        verify(DiffPIR(60), "blur", draws=300, seeds=1).distance
        > 2 * verify(PredictedTwistSMC(), "blur", draws=300, seeds=1).distance
    )


@pytest.mark.parametrize("problem", ["box", "blur", "sr"])
def test_the_defaults_of_diffpir_err_less_in_the_mean_than_the_published_settings(
    problem: str,
) -> None:
    """By half at least; by a factor of 5 where the measurement has no hole."""
    published, ours = (
        verify(solver, problem, draws=200, seeds=2).mean
        for solver in (DiffPIR(lam=8.0, zeta=0.3), DiffPIR())
    )
    assert ours < published * (0.5 if problem == "box" else 0.2)
