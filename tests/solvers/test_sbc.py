"""Simulation-based calibration accepts exact draws and rejects others."""

import pytest
import torch

from solvers import MMPS, DiffPIR, Guided, Heun, PosteriorSampler
from solvers.verification import VERIFIED, Ranks, exact_problem, ranks
from tests.laws import Exact

pytestmark = pytest.mark.slow


def test_exact_draws_have_uniform_ranks() -> None:
    """The p-values of several problems are spread over (0, 1): none tiny, not all large."""
    found = [ranks(Exact(name), name, measurements=256) for name in ("gaussian", "grid-8-2")]
    values = torch.tensor([p for one in found for p in one.p.values()])
    assert all(one.p_all > 0.005 for one in found) and 0.25 < float(values.mean()) < 0.75
    assert all(set(one.ranks.flatten().tolist()) == set(range(32)) for one in found)


@pytest.mark.parametrize(("spread", "outer"), [(0.5, True), (2.0, False)])
def test_a_wrong_variance_is_rejected(spread: float, outer: bool) -> None:
    """Too narrow: many ranks at both ends. Too wide: many in the middle."""
    found = ranks(Exact("gaussian", spread=spread), "gaussian", measurements=256)
    ends = found.histograms[:5, [0, -1]].sum(1) / 256
    assert found.p_all < 1e-6 and bool(((ends > 0.25) == outer).all())


def test_a_solver_that_ignores_the_measurement_is_rejected() -> None:
    """Draws of the prior have uniform ranks for every function of x alone.

    Only the likelihood shows that they ignore y.
    """

    class Ignorant(Exact):
        def _draw(self, run):  # type: ignore[no-untyped-def]
            law = exact_problem(self.name, self.seed).prior
            return law.sample(len(run.y), run.generators[0]), 0

    found = ranks(Ignorant("gaussian"), "gaussian")
    assert (
        found.p["likelihood"] < 1e-6
        and min(p for name, p in found.p.items() if name != "likelihood") > 1e-3
    )


@pytest.mark.parametrize(
    ("solver", "right"),
    [(Guided(MMPS(iterations=4), Heun(40)), True), (DiffPIR(100), False), (VERIFIED["dps"], False)],
    ids=["mmps", "diffpir", "dps"],
)
def test_solvers_on_a_gaussian(solver: PosteriorSampler, right: bool) -> None:
    """MMPS is exact, in one call for all measurements; DiffPIR and DPS are far from it."""
    p = ranks(solver, "gaussian").p_all
    assert p > 0.01 if right else p < 1e-6


def test_it_is_one_call() -> None:
    calls = []

    class Watched(Exact):
        def _draw(self, run):  # type: ignore[no-untyped-def]
            calls.append(len(run.y))
            return super()._draw(run)

    found = ranks(Watched("gaussian"), "gaussian", measurements=10, draws=7, bins=4, seed=0)
    assert calls == [70] and found.ranks.shape == (10, 7) and found.histograms.shape == (7, 4)
    assert found.summary()["measurements"] == 10
    again = ranks(Exact("gaussian"), "gaussian", measurements=10, draws=7, bins=4, seed=0)
    assert torch.equal(found.ranks, again.ranks)


def test_particle_methods_loop_over_the_measurements() -> None:
    found = ranks(VERIFIED["tds"], "gaussian", measurements=4, draws=7, bins=4)
    assert found.ranks.shape == (4, 7)


def test_uneven_counts_by_hand() -> None:
    """Counts 6, 2, 2, 2 of 12: chi-squared 4 with 3 degrees of freedom."""
    one = torch.tensor([0] * 6 + [1] * 2 + [2] * 2 + [3] * 2)[:, None]
    assert Ranks(one, 3, 4, ("f",)).p["f"] == pytest.approx(0.26146, abs=1e-4)
    with pytest.raises(ValueError, match="draws \\+ 1 must be a multiple of bins"):
        ranks(VERIFIED["ddrm"], "gaussian", draws=30)
