"""Solvers with the learned denoisers of Lévy processes: the networks, the table, wild draws."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE
from scoresde.priors.base import Prior
from scoresde.priors.checkpoint import benchmark_priors, embedded_priors, load_prior
from solvers import Posterior, SolverWarning, make_solver
from solvers.verification.levy import (
    LEARNED,
    GibbsDraws,
    LearnedSettings,
    LevyProblem,
    learned_prior,
    learned_table,
    levy_problem,
    levy_process,
    score,
    smooth,
    wild_draws,
)
from tests.conftest import seeded

each_law = pytest.mark.parametrize("law", LEARNED)


class TestNetworks:
    def test_they_are_apart_from_the_priors_of_pictures(self) -> None:
        levy = {name for name in benchmark_priors() if name.startswith("levy/")}
        assert levy == {f"levy/{law}" for law in LEARNED}
        assert not set(benchmark_priors()) & set(embedded_priors())

    @each_law
    def test_each_ships_with_a_card(self, law: str) -> None:
        path = benchmark_priors()[f"levy/{law}"]
        assert path.stat().st_size < 600_000
        prior = load_prior(f"levy/{law}")
        assert prior.shape == (1, 64)
        assert prior.sigma_data == pytest.approx(levy_process(law).rms)
        card = path.with_suffix(".md").read_text()
        for word in ("seed 0", "train_levy.py", "Gap", prior.card["summary"].split(", ")[0]):
            assert word in card or word.startswith("benchmark")

    @pytest.mark.slow
    @each_law
    def test_the_denoiser_is_near_the_exact_one(self, law: str) -> None:
        """Gaps in dB at the noise levels that a restoration spends its steps on.

        The best linear denoiser is 1.5 dB and more from the exact one on jumps.
        """
        process, prior = levy_process(law), learned_prior(law)
        generator = seeded(40)
        for s in (0.03, 0.1, 0.3, 1.0):
            x = process.sample(200, generator)
            z = x + s * torch.randn(x.shape, dtype=x.dtype, generator=generator)
            exact = smooth(process, z, s)
            D = prior.denoise(z[:, None].float(), s)[:, 0].double()
            share = float((D - exact.mean).square().mean() / exact.variance.mean())
            assert 10 * math.log10(1 + share) < LARGEST_GAP[law], s


LARGEST_GAP = {"laplace": 0.05, "student": 0.15, "bernoulli-laplace": 0.6}


class TestTable:
    SMALL = LearnedSettings(measurements=1, draws=20, sweeps=100)

    def test_rows_have_scores_or_a_reason(self) -> None:
        first, second = learned_table(["laplace"], ["sampling"], ["ddrm", "repaint"], self.SMALL)
        assert (first["law"], first["problem"], first["solver"]) == ("laplace", "sampling", "ddrm")
        assert {"gap", "coverage", "distance", "seconds", "nfe", "warned"} <= set(first)
        assert "needs a problem with mask" in second["refused"]

    @pytest.mark.slow
    def test_rows_are_those_of_the_score_with_that_prior(self) -> None:
        (row,) = learned_table(["laplace"], ["identity"], ["diffpir"], self.SMALL)
        case, generator = levy_problem("laplace", "identity"), seeded(0)
        _, y = case.pairs(1, generator)
        exact = case.posterior(y, 100, generator, burn_in=25)
        prior = learned_prior("laplace")
        found = score(make_solver("diffpir"), case, y, exact, draws=20, prior=prior)
        assert (row["gap"], row["coverage"]) == (found.gap, found.coverage)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((["gaussian"], ["identity"], ["ddrm"]), "laplace, student, bernoulli-laplace"),
            ((["laplace"], ["nope"], ["ddrm"]), "identity, convolution"),
            ((["laplace"], ["identity"], ["nope"]), "unknown solver"),
        ],
    )
    def test_unknown_names(self, arguments: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            next(learned_table(*arguments, self.SMALL))

    @pytest.mark.parametrize("wrong", [{"measurements": 0}, {"draws": 18}, {"sweeps": 40}])
    def test_sizes_out_of_range(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be"):
            LearnedSettings(**wrong)


class Told:
    """The measurement itself as the draws, one of them shifted, with or without a warning."""

    def __init__(self, shift: float, warn: bool) -> None:
        self.shift, self.warn = shift, warn

    def sample(self, prior: Prior, problem: Any, y: Tensor, n: int, **_: Any) -> Posterior:
        draws = y.expand(n, *y.shape).clone()
        draws[0] += self.shift
        if self.warn:
            warnings.warn("these are not to be trusted", SolverWarning, stacklevel=2)
        return Posterior(draws, nfe=1, vjps=0, seconds=0.0)


class TestWildDraws:
    @pytest.mark.parametrize(("shift", "wild"), [(0.0, 0), (10.0, 3)])
    @pytest.mark.parametrize("warn", [False, True])
    def test_shifted_draws_are_counted(self, shift: float, wild: int, warn: bool) -> None:
        """One draw of each of three calls is far away."""
        case = levy_problem("laplace", "identity", length=8)
        solver: Any = Told(shift, warn)
        found = wild_draws(solver, case, case.prior, 30, call=10, measurements=2, sweeps=200)
        assert found.wild == wild and (found.farthest > 10) == bool(wild)
        assert found.silent == (0 if warn else found.wild)
        assert found.warned == float(warn)

    @pytest.mark.slow
    def test_a_good_solver_has_none(self) -> None:
        case = levy_problem("laplace", "sampling", length=8)
        prior = case.prior.with_sde(EDMSDE(sigma_max=20.0))
        found = wild_draws(make_solver("second-order"), case, prior, 60, call=30, sweeps=300)
        assert (found.draws, found.wild, found.silent) == (60, 0, 0)
        assert found.farthest < 2

    def test_draws_come_in_whole_calls(self) -> None:
        case = levy_problem("laplace", "identity", length=8)
        with pytest.raises(ValueError, match="calls of 50"):
            wild_draws(make_solver("ddrm"), case, case.prior, 60)


@pytest.fixture(scope="module")
def jumps() -> tuple[LevyProblem, Tensor, GibbsDraws]:
    """Four measurements of jumps at random places, and the chains of their posteriors."""
    case, generator = levy_problem("bernoulli-laplace", "sampling"), seeded(1)
    _, y = case.pairs(4, generator)
    return case, y, case.posterior(y, 400, generator, burn_in=100)


@pytest.mark.slow
@pytest.mark.xdist_group("levy-jumps")
@pytest.mark.parametrize("name", ["warm-start", "mmps", "second-order"])
def test_no_wild_draw_comes_without_a_warning(
    name: str, jumps: tuple[LevyProblem, Tensor, GibbsDraws], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jumps seen at random places, where the learned Jacobian is no covariance.

    `benchmarks/levy.py --wild 10000` makes 10,000 draws of each solver.
    """
    case, y, exact = jumps
    prior = learned_prior("bernoulli-laplace")

    def once(self: LevyProblem, of: Tensor, *_: Any, **__: Any) -> GibbsDraws:
        assert torch.equal(of, y)  # the chains take most of the time, and belong to this seed
        return exact

    monkeypatch.setattr(LevyProblem, "posterior", once)
    found = wild_draws(make_solver(name), case, prior, 200, measurements=4, seed=1)
    assert found.draws == 200 and found.silent == 0, found
