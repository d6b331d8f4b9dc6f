"""Samplers on priors whose law is known."""

import math

import pytest
import torch
from scipy import stats

from scoresde import EDMSDE, VESDE, VPSDE, Counted, GaussianMixturePrior
from scoresde.sde import SDE
from solvers import DDIM, Heun, Sampler, TimeGrid

F64 = torch.float64
SDES = [EDMSDE(), VPSDE(), VESDE()]


def mixture(sde: SDE) -> GaussianMixturePrior:
    g = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 8, 8, dtype=F64, generator=g)
    covariances = 0.05 * roots @ roots.mT / 8 + 0.01 * torch.eye(8, dtype=F64)
    return GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2]), torch.randn(3, 8, dtype=F64, generator=g), covariances, sde)


@pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("sampler", [Heun(40), DDIM(300), DDIM(300, eta=1.0)], ids=["heun", "ddim", "ancestral"])
def test_samplers_draw_the_mixture(sde: SDE, sampler: Sampler) -> None:
    """Component counts by a chi-squared test, the mean by z-scores, each at a level of 1e-4; covariance by its Monte-Carlo error."""
    n, prior = 4000, mixture(sde)
    x = sampler.sample(prior, n, generator=torch.Generator().manual_seed(0))
    component = prior.responsibilities(x).argmax(1)
    counts = torch.bincount(component, minlength=3)
    assert stats.chisquare(counts.numpy(), (n * prior.weights).numpy()).pvalue > 1e-4
    mean, covariance = prior.moments()
    z = (x.mean(0) - mean) / (covariance.diagonal() / n).sqrt()
    assert float(z.abs().max()) < stats.norm.isf(1e-4 / 2 / 8)
    exact = torch.stack([torch.cov(prior.sample(n, torch.Generator().manual_seed(s)).T) for s in range(20)])
    floor = (exact - covariance).flatten(1).norm(dim=1)
    assert (torch.cov(x.T) - covariance).norm() < floor.mean() + 5 * floor.std()


@pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("spacing", ["karras", "log_snr", "uniform"])
def test_grids_decrease_between_the_ends(sde: SDE, spacing: str) -> None:
    times = TimeGrid(spacing).times(sde, 17)  # type: ignore[arg-type]
    assert float(times[0]) == sde.t_max and float(times[-1]) == sde.t_min
    assert bool((times.diff() < 0).all()) and len(times) == 17
    assert TimeGrid(spacing).times(sde, 1).tolist() == [sde.t_max]  # type: ignore[arg-type]


def test_the_karras_grid_of_the_paper() -> None:
    """18 steps from 80 to 0.002, rho 7: the second level is (80^(1/7) + (0.002^(1/7) - 80^(1/7)) / 17)^7."""
    times = TimeGrid().times(EDMSDE(), 18)
    a, b = 80 ** (1 / 7), 0.002 ** (1 / 7)
    assert float(times[1]) == pytest.approx((a + (b - a) / 17) ** 7, rel=1e-12)
    assert float(times[1]) == pytest.approx(57.586, abs=1e-3)


@pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)
def test_a_grid_can_be_cut_short(sde: SDE) -> None:
    s = sde.noise_to_signal(TimeGrid(s_max=20.0, s_min=0.05).times(sde, 9))
    assert float(s[0]) == pytest.approx(20.0, rel=1e-9) and float(s[-1]) == pytest.approx(0.05, rel=1e-9)
    whole = TimeGrid(s_max=1e9, s_min=1e-9).times(sde, 9)  # beyond what the SDE has: its own range
    assert torch.equal(whole, TimeGrid().times(sde, 9))


def test_evaluations_are_as_documented() -> None:
    for sampler, nfe in [(DDIM(7), 7), (Heun(7), 13)]:
        counted = Counted(mixture(EDMSDE()))
        sampler.sample(counted, 2)
        assert counted.nfe == nfe


def test_callbacks_see_every_step_and_seeds_repeat() -> None:
    prior, seen = mixture(VPSDE()), []
    a = DDIM(5, eta=0.5).sample(prior, 3, generator=torch.Generator().manual_seed(0), callback=lambda *args: seen.append(args[:2]))
    b = DDIM(5, eta=0.5).sample(prior, 3, generator=torch.Generator().manual_seed(0))
    assert seen == [(i, 5) for i in range(1, 6)] and torch.equal(a, b)
    streams = [torch.Generator().manual_seed(s) for s in range(3)]
    each = DDIM(5, eta=0.5).sample(prior, 3, generator=streams)
    alone = DDIM(5, eta=0.5).sample(prior, 1, generator=[torch.Generator().manual_seed(2)])
    torch.testing.assert_close(each[2], alone[0])


def test_bad_settings_are_named() -> None:
    for make in (
        lambda: Heun(0),
        lambda: DDIM(5, eta=2.0),
        lambda: TimeGrid("nope"),
        lambda: TimeGrid(rho=-1),
        lambda: TimeGrid(s_max=0.1, s_min=1),
    ):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"got|unknown"):
            make()
    assert math.isfinite(float(TimeGrid().times(VPSDE(), 3)[1]))
