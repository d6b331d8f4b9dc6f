"""The audit of solvers: exact ones pass at the rate that chance says, wrong ones fail.

The prior is Gaussian, so exact draws of the posterior are a closed form. The p-values of an exact
solver must be uniform, which is tested over 200 audits.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from scipy import stats
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem, LaplaceNoise, LinearMatrix
from scoresde import GaussianMixturePrior, GaussianPrior, Prior
from scoresde.evaluation.audit import (
    FALSE_ALARM,
    LEVELS,
    AuditReport,
    bins_of,
    covered,
    holm,
    ranks,
    run_statistics,
)
from scoresde.evaluation.audit import TestFunctions as Functions
from scoresde.pipelines import devices
from scoresde.pipelines.audit import audit, draw_truths
from solvers import DDIM, DPS, HQS, Guided, PosteriorSampler, make_solver
from solvers.posterior.records import Draws, Request
from solvers.verification import VERIFIED
from tests.commands import run
from tests.conftest import F64, randn, seeded
from tests.pages import parsed

D, M, SIGMA = 6, 3, 0.4


def gaussian() -> GaussianPrior:
    root = randn(D, D, seed=1)
    return GaussianPrior(0.3 * randn(D, seed=2), root @ root.T / D + 0.05 * torch.eye(D))


def problem() -> InverseProblem:
    return InverseProblem(LinearMatrix(randn(M, D, seed=3)), GaussianNoise(SIGMA))


@dataclass(frozen=True)
class Exact(PosteriorSampler):
    """Draws of the posterior of a Gaussian prior, with a changed law if asked for.

    Args:
        law: The prior.
        variance: Factor of the variance of the draws.
        shift: Added to all draws, in units of their standard deviation.
        ignores_y: Draw from the prior in the place of the posterior.
    """

    exactness: ClassVar[Any] = "exact"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "normal"})

    law: GaussianPrior
    variance: float = 1.0
    shift: float = 0.0
    ignores_y: bool = False

    def _sample(self, prior: Prior, request: Request) -> Draws:
        y = request.y.double().flatten(1)
        A = request.problem.linear_operator.dense(self.law.shape).double()
        m, C = self.law.moments()
        noise = request.problem.noise_covariance(tuple(request.y.shape[1:])).double()
        gain = torch.linalg.solve(A @ C @ A.T + noise, A @ C).T
        if self.ignores_y:
            gain = 0 * gain
        mean, covariance = m + (y - A @ m) @ gain.T, C - gain @ A @ C
        root = torch.linalg.cholesky(covariance)
        z = torch.randn(request.n, *mean.shape, dtype=F64, generator=request.generator)
        x = mean + math.sqrt(self.variance) * z @ root.T + self.shift * covariance.diag().sqrt()
        return Draws(x.reshape(request.n, len(y), *self.law.shape), 0, 0)


def audited(seed: int, **changes: Any) -> AuditReport:
    law = gaussian()
    return audit(law, problem(), Exact(law, **changes), runs=80, draws=19, seed=seed)


ONE_WORKER = pytest.mark.xdist_group("reports")
"""So that the 200 audits are made once."""


@pytest.fixture(scope="module")
def reports() -> list[AuditReport]:
    return [audited(seed) for seed in range(200)]


@pytest.mark.slow
@ONE_WORKER
def test_p_values_of_exact_draws_are_uniform(reports: list[AuditReport]) -> None:
    """Kolmogorov-Smirnov for each test; 1e-3 is the probability of a failure of all together.

    The distribution of Pearson's statistic is discrete and approximate. For 80 ranks in 10 bins the
    largest error of its tail probability is about 0.02, which the statistic of 200 values, 0.15 at
    this level, does not resolve.
    """
    rows = [report.rows for report in reports]
    for j, row in enumerate(rows[0]):
        found = stats.kstest([one[j].p for one in rows], "uniform")
        assert found.pvalue > 1e-3 / len(rows[0]), (row.name, found)


@pytest.mark.slow
@ONE_WORKER
def test_exact_draws_fail_as_rarely_as_stated(reports: list[AuditReport]) -> None:
    """At most FALSE_ALARM: the count may exceed its share by chance, with probability 1e-3."""
    failures = sum(not report.passed for report in reports)
    assert failures <= stats.binom.isf(1e-3, len(reports), FALSE_ALARM), failures


@pytest.mark.slow
@ONE_WORKER
def test_the_bands_hold_95_percent(reports: list[AuditReport]) -> None:
    """The number of audits outside of the band of each row is binomial."""
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], len(reports), 0.05)
    for j, row in enumerate(reports[0].rows):
        if math.isnan(row.chance) or row.name.startswith("variance"):
            continue
        outside = sum(
            abs(report.rows[j].found - report.rows[j].expected) > report.rows[j].chance
            for report in reports
        )
        assert low <= outside <= high, (row.name, outside)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variance": 0.5}, "variance / squared error"),
        ({"variance": 2.0}, "coverage of 50% intervals"),
        ({"shift": 0.5}, "ranks: mean"),
        ({"ignores_y": True}, "ranks: residual"),
    ],
    ids=["half the variance", "twice the variance", "shifted", "ignores y"],
)
def test_wrong_draws_fail(changes: dict[str, Any], words: str) -> None:
    report = audited(0, **changes)
    failed = {row.name for row in report.rows if row.rejected}
    assert words in failed, failed


def test_draws_of_the_prior_pass_all_tests_that_do_not_look_at_y() -> None:
    """Why the residual is there: ranks and coverage alone do not see that y is ignored."""
    report = audited(0, ignores_y=True)
    failed = {row.name for row in report.rows if row.rejected}
    assert failed == {"ranks: residual", "residual of a draw / noise"}


@pytest.mark.slow
def test_half_the_variance_is_measured_as_theory_says() -> None:
    """(1 + 1/K) v/2 over v/2 (1/K) + v: with K = 19 the ratio is (20/19)/2 / (1 + 1/38)."""
    law = gaussian()
    report = audit(law, problem(), Exact(law, 0.5), runs=2000, draws=19)
    row = next(row for row in report.rows if row.name.startswith("variance"))
    assert abs(row.found - (20 / 19) / 2 / (1 + 1 / 38)) < 4 * row.chance / 1.96
    cover = next(row for row in report.rows if "90%" in row.name)
    # of an interval of the right centre and 0.707 times its width, up to the error of 19 draws
    exact = 2 * stats.norm.cdf(stats.norm.ppf(0.95) * math.sqrt(0.5)) - 1
    assert abs(cover.found - exact) < 0.04


@pytest.mark.slow
def test_dps_fails() -> None:
    """The named solver, on correlated numbers that are partly observed."""
    report = audit(gaussian(), problem(), make_solver("dps"), runs=300, draws=19, seed=1)
    assert not report.passed


@pytest.mark.slow
def test_dps_by_its_theory_is_too_sure() -> None:
    """On white data it ends at the variance exp(-1/sigma^2), half of that of the posterior here."""
    prior = GaussianPrior(torch.zeros(1, 4, 4), torch.eye(16, dtype=F64))
    case = InverseProblem(Denoising(), GaussianNoise(0.8))
    solver = Guided(DPS(weight="likelihood"), DDIM(200))
    report = audit(prior, case, solver, runs=100, draws=19, seed=1)
    failed = {row.name for row in report.rows if row.rejected}
    assert {f"coverage of {level:.0%} intervals" for level in LEVELS} <= failed
    # the mean is biased as well, so the ratio is below that of the variances
    ratio = next(row.found for row in report.rows if row.name.startswith("variance"))
    assert ratio < math.exp(-1 / 0.64) / (0.64 / 1.64)


@pytest.mark.slow
def test_mmps_passes() -> None:
    """With the settings of `scoresde verify` it is exact for Gaussian priors but for its steps."""
    report = audit(gaussian(), problem(), VERIFIED["mmps"], runs=1000, draws=19, seed=4)
    assert report.passed, [row for row in report.rows if row.rejected]


def test_a_mixture_with_its_exact_posterior_passes() -> None:
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64)
    law = GaussianMixturePrior(torch.ones(2), means, 0.05 * torch.eye(2).expand(2, 2, 2))
    case = InverseProblem(LinearMatrix(torch.tensor([[1.0, 1.0]], dtype=F64)), GaussianNoise(0.5))

    @dataclass(frozen=True)
    class Oracle(PosteriorSampler):
        exactness: ClassVar[Any] = "exact"
        requires: ClassVar[frozenset[str]] = frozenset()

        def _sample(self, prior: Prior, request: Request) -> Draws:
            g = request.generator
            x = [law.posterior(case, one[None]).sample(request.n, g) for one in request.y]
            return Draws(torch.stack(x, 1), 0, 0)

    assert audit(law, case, Oracle(), runs=60, draws=19, seed=3).passed


def test_the_same_seed_gives_the_same_report() -> None:
    assert audited(5).summary() == audited(5).summary()
    assert audited(5).summary() != audited(6).summary()


def test_other_noise_has_no_test_of_its_residual() -> None:
    law = gaussian()
    case = InverseProblem(LinearMatrix(randn(M, D, seed=3)), LaplaceNoise(0.3))
    functions = Functions.make(case, (D,), seeded())
    x = law.sample(30, seeded(1))
    y = case.measure(x, seeded(2))
    found = run_statistics(case, functions, x, y, law.sample(9 * 30).reshape(9, 30, D), seeded())
    from scoresde.evaluation.audit import decide

    report = decide(found, 9, gaussian=False, generator=seeded())
    assert not any("noise" in row.name for row in report.rows)
    assert any(row.name == "ranks: residual" for row in report.rows)


@pytest.mark.parametrize("K", [3, 8, 19, 40])
def test_coverage_is_exact_for_any_number_of_draws(K: int) -> None:
    """Ranks that are uniform give the nominal level in the mean, whatever K."""
    shares = covered(torch.arange(K + 1)[None], K)
    assert torch.allclose(shares, torch.tensor([LEVELS], dtype=F64), atol=1e-12)


def test_ranks_count_and_break_ties_evenly() -> None:
    draws = torch.tensor([0.0, 1.0, 1.0, 2.0])[:, None].expand(4, 20_000)
    found = ranks(torch.ones(20_000), draws, seeded())
    counts = torch.bincount(found, minlength=5)
    assert counts[0] == counts[4] == 0
    # three equal shares, each binomial with a standard deviation of 67
    assert bool(((counts[1:4] - 20_000 / 3).abs() < 5 * 67).all())


def test_holm_is_not_stricter_than_bonferroni_nor_laxer_than_no_correction() -> None:
    p = torch.rand(50, 12, generator=seeded()).square().tolist()
    for row in p:
        found = holm(row, 0.05)
        for value, rejected in zip(row, found, strict=True):
            assert rejected or value > 0.05 / len(row)
            assert not rejected or value <= 0.05


def test_bins_divide_the_ranks() -> None:
    for draws in range(1, 60):
        for runs in (20, 100, 1000):
            assert (draws + 1) % bins_of(draws, runs) == 0


def test_truths_of_a_prior_without_exact_draws() -> None:
    """Heun's method draws the Gaussian: mean and covariance within their sampling error."""
    law = gaussian()

    class Opaque(Prior):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            return law._denoise(x_t, t)

        @property
        def dtype(self) -> torch.dtype:
            return F64

    x = draw_truths(Opaque(law.sde, law.shape), 4000, seeded(1))
    m, C = law.moments()
    assert bool(((x.mean(0) - m).abs() < 5 * (C.diag() / 4000).sqrt()).all())
    assert float((torch.cov(x.T) - C).norm() / C.norm()) < 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda law: audit(law, problem(), Exact(law), runs=5), "at least 20 runs"),
        (lambda law: audit(law, problem(), Exact(law), draws=2), "3 draws"),
        (lambda law: audit(law, problem(), HQS()), "nothing to audit"),
    ],
)
def test_bad_numbers_are_refused(make: Callable[[GaussianPrior], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(gaussian())


COMMAND = ("audit", "--prior", "mine", "--problem", "denoise", "--sigma", "0.5", "--runs", "40")


@pytest.mark.slow
def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    law = GaussianPrior(torch.zeros(1, 4, 4), torch.eye(16, dtype=F64))
    monkeypatch.setattr(devices, "load_prior", lambda *_: law)
    file = tmp_path / "out" / "report.json"
    for solver, steps, wanted in (("ddrm", 20, 1), ("mmps", 100, 0)):
        command = (*COMMAND, "--solver", solver, "--steps", steps, "--draws", 9, "--out", file)
        code, out, err = run(capsys, *command)
        assert code == wanted, out + err
        assert ("passes" if wanted == 0 else "fails") in out and "ranks: residual" in out
        page = tmp_path / f"{solver}.html"
        code, out, err = run(capsys, *command, "--json", "--report", page)
        report = json.loads(out)
        verdict = "Passes" if wanted == 0 else "Fails"
        assert f"{verdict}: " in parsed(page.read_text()).text
        assert code == wanted and report["passed"] == (wanted == 0)
        assert report["rows"] == json.loads(file.read_text())["rows"]
        assert report["truths"] == "exact draws" and report["sigma"] == 0.5
        assert sum(report["histograms"]["mean"]) == 40


def test_bad_input_of_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "load_prior", lambda *_: gaussian())
    code, _, err = run(capsys, *COMMAND)
    assert code == 2 and "problems are those of pictures" in err
    law = GaussianPrior(torch.zeros(1, 4, 4), torch.eye(16))
    monkeypatch.setattr(devices, "load_prior", lambda *_: law)
    code, _, err = run(capsys, *COMMAND, "--solver", "hqs")
    assert code == 2 and "nothing to audit" in err
    code, _, err = run(capsys, *COMMAND, "--box", "0,0,1,1")
    assert code == 2 and "--box" in err
    code, _, err = run(capsys, *COMMAND, "--samples", "4")
    assert code == 2 and "--samples" in err
    code, _, err = run(capsys, *COMMAND, "--report", "audit.pdf")
    assert code == 2 and "ends with .html" in err
