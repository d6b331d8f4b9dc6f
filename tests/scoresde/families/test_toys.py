"""Every family on distributions of the plane whose density is known everywhere.

A family with an exact density must integrate to one, draw from that density, and be near the truth,
both on held-out samples and on the plane. The bound of a VAE must lie below its evidence and
tighten with more draws. A collapse must be noticed.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from scoresde.data.datasets import TensorData
from scoresde.data.toys import (
    TOYS,
    Checkerboard,
    GaussianMixture,
    Plane,
    Rings,
    gaussian_grid,
    skew_mixture,
)
from scoresde.evaluation.collapse import ModeReport, SpreadReport, collapse_report
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.plane import PLANE_FAMILIES, evidence, lattice
from scoresde.families.diffusion import Diffusion
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.training import train_model
from scoresde.families.vae.model import VAE
from scoresde.training.config import LoopConfig
from tests.conftest import seeded

pytestmark = pytest.mark.slow

# Divides the fields of the checkerboard and the cells of the test; a third of the standard
# deviation of the modes
SPACING = 1 / 64


def trained(family: str, toy: Plane, folder: Path, steps: int) -> GenerativeModel:
    torch.manual_seed(0)  # for the fresh weights
    entry = PLANE_FAMILIES[family]
    return train_model(
        entry.build((2,)),
        TensorData(toy.sample(20_000, seeded()).float()),
        folder,
        replace(entry.fit, steps=steps),
    )


def cell_chi2(draws: Tensor, points: Tensor, mass: Tensor) -> float:
    """p-value of the numbers of draws in 14 x 14 cells of [-1.3125, 1.3125]^2 and outside it.

    The expected numbers come from the masses of the cells of a lattice.
    """

    def cell(x: Tensor) -> Tensor:
        index = ((x + 1.3125) / 0.1875).floor()
        inside = ((index >= 0) & (index < 14)).all(1)
        return torch.where(inside, 14 * index[:, 0] + index[:, 1], 196).long()

    expected = len(draws) * torch.zeros(197, dtype=torch.float64).index_add_(0, cell(points), mass)
    seen = torch.bincount(cell(draws.double()), minlength=197).double()
    often = expected >= 5
    # rare cells count together
    expected, seen = (torch.cat((v[~often].sum()[None], v[often])) for v in (expected, seen))
    if expected[0] < 5:
        assert float(seen[0]) <= 5 + 5 * math.sqrt(float(expected[0])), (
            "draws where next to none should be"
        )
        expected, seen = expected[1:], seen[1:]
    return float(chi2.sf(float(((seen - expected).square() / expected).sum()), len(expected) - 1))


class TestToys:
    @pytest.mark.parametrize("name", TOYS)
    def test_the_density_integrates_to_one_and_is_the_draws_law(self, name: str) -> None:
        toy = TOYS[name]()
        points, area = lattice(2.0, SPACING)
        mass = toy.log_prob(points).exp() * area
        assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
        draws = toy.sample(20_000, seeded(1))
        assert draws.dtype == torch.float64 and draws.shape == (20_000, 2)
        assert cell_chi2(draws, points, mass) > 1e-3
        assert cell_chi2(1.05 * draws, points, mass) < 1e-6  # the test notices 5 %

    def test_centres(self) -> None:
        grid = gaussian_grid()
        assert (
            grid.centres.shape == (25, 2)
            and Rings().centres is None
            and Checkerboard().centres is None
        )
        report = collapse_report(grid.sample(5000, seeded()), centres=grid.centres, radius=0.15)
        # a share of exp(-9/2) is beyond three deviations
        assert isinstance(report, ModeReport) and report.found == 25 and report.outside < 0.02
        skew = skew_mixture()
        report = collapse_report(
            skew.sample(5000, seeded()), centres=skew.centres, weights=skew.weights, radius=2.0
        )
        assert isinstance(report, ModeReport) and report.found == 3 and report.kl < 0.005

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Rings(()),
            lambda: Rings(std=0.0),
            lambda: Checkerboard(3),
            lambda: gaussian_grid(1),
        ],
    )
    def test_toys_that_cannot_be(self, make: object) -> None:
        with pytest.raises(ValueError, match=r"need|even|two"):
            make()  # type: ignore[operator]

    def test_a_mixture_elsewhere_is_refused(self) -> None:
        from scoresde.priors.mixture import GaussianPrior

        with pytest.raises(ValueError, match="plane"):
            GaussianMixture(GaussianPrior(torch.zeros(3), torch.eye(3)))


STEPS = {"flow": 300, "autoregressive": 800, "diffusion": 1200}


def cells(family: str) -> tuple[Tensor, Tensor]:
    """Midpoints and areas of cells of a square that holds the mass of a family."""
    # flows and logistic mixtures have the longer tails
    if family != "flow":
        points, area = lattice(1.5 if family == "diffusion" else 4.0, SPACING)
        return points, torch.full((len(points),), area, dtype=torch.float64)
    # a flow has sharp ridges among the data, which a coarse lattice counts with an error
    inner, small = lattice(2.0, SPACING / 2)
    outer, large = lattice(4.0, 2 * SPACING)
    outer = outer[(outer.abs() > 2.0).any(1)]
    areas = torch.tensor([small, large], dtype=torch.float64)
    return torch.cat((inner, outer)), areas.repeat_interleave(
        torch.tensor([len(inner), len(outer)])
    )


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, name) for family in ("flow", "autoregressive") for name in TOYS),
        # the ODE takes most of the time, so here are separate modes and sharp edges alone
        *(("diffusion", name) for name in ("25 Gaussians", "checkerboard")),
    ],
)
def test_an_exact_density(family: str, name: str, tmp_path: Path) -> None:
    toy = TOYS[name]()
    model = trained(family, toy, tmp_path, STEPS[family])
    assert model.density == "exact"
    if isinstance(model, Diffusion):
        model.config = replace(model.config, sampler="ode")  # the flow that defines its density

    def log_q(x: Tensor) -> Tensor:
        found = model.log_prob(x.float(), k=2)
        assert found.kind == "exact" and not found.discrete
        return found.value.double()

    points, area = cells(family)
    q = log_q(points).exp() * area
    assert float(q.sum()) == pytest.approx(1, abs=2e-3)

    draws = model.sample(4000, seeded(3)).double()
    assert cell_chi2(draws, points, q) > 1e-4

    held = toy.sample(4000, seeded(1))
    gap = toy.log_prob(held) - log_q(held)
    kl, error = float(gap.mean()), float(gap.std()) / math.sqrt(len(gap))
    assert kl > -3 * error  # Gibbs
    log_p = toy.log_prob(points)
    p = log_p.exp() * area
    on_lattice = float(torch.where(p > 0, p * (log_p - (q / area).log()), 0).sum())
    assert kl == pytest.approx(on_lattice, abs=4 * error + 0.01)
    assert float((p - q).abs().sum()) / 2 < math.sqrt(max(kl, 0) / 2) + 3 * error  # Pinsker

    gaussian = (math.log(2 * math.pi * math.e) * 2 + float(torch.cov(held.T).logdet())) / 2 + float(
        toy.log_prob(held).mean()
    )
    # it has learnt more than mean and covariance, whose divergence this is
    assert kl < gaussian / 2


@pytest.mark.parametrize("name", TOYS)
def test_the_bound_of_a_vae_lies_below_the_evidence_and_tightens(name: str, tmp_path: Path) -> None:
    toy = TOYS[name]()
    model = trained("vae", toy, tmp_path, 800)
    assert isinstance(model, VAE)
    x = toy.sample(300, seeded(1)).float()
    truth = evidence(model, x)
    # the sum has converged
    torch.testing.assert_close(
        truth, evidence(model, x, spacing=0.07, rows=10_000), rtol=0, atol=1e-4
    )

    found = model.log_prob(x.repeat(40, 1), generator=seeded(2))
    assert found.kind == "ELBO"
    elbo = found.value.reshape(40, len(x))
    assert bool((elbo.mean(0) - truth < 6 * elbo.std(0) / math.sqrt(40)).all())
    means, errors = [float((truth - elbo[0]).mean())], [float((truth - elbo[0]).std())]
    for k in (4, 16, 64, 256):
        gap = truth - model.log_prob(x, k=k, generator=seeded(k)).value
        means.append(float(gap.mean()))
        errors.append(float(gap.std()))
    errors = [e / math.sqrt(len(x)) for e in errors]
    for k in range(1, len(means)):
        assert means[k] < means[k - 1] + 3 * math.hypot(errors[k], errors[k - 1])
        assert means[k] > -4 * errors[k]
    assert means[-1] < 0.25 * means[0]
    held = toy.sample(4000, seeded(4))
    # a bound on a model that is below the truth
    assert (
        float((toy.log_prob(held) - model.log_prob(held.float(), generator=seeded(5)).value).mean())
        > 0
    )


# two with centres, and one without
@pytest.mark.parametrize("name", [name for name in TOYS if name != "checkerboard"])
def test_a_collapse_is_seen(name: str, tmp_path: Path) -> None:
    """Trained fast without penalties, a GAN forgets most of the data; with them it does not."""
    toy = TOYS[name]()
    data, reference = TensorData(toy.sample(20_000, seeded()).float()), toy.sample(1000, seeded(1))
    well = trained("gan", toy, tmp_path / "well", 500)
    torch.manual_seed(0)
    ill = GAN(GANConfig((2,), latent=4, widths=(64, 64), r1=0.0, r2=0.0, game="non-saturating"))
    ill = train_model(
        ill,
        data,
        tmp_path / "ill",
        LoopConfig(
            steps=300,
            batch=64,
            learning_rate=3e-3,
            warmup=0,
            ema=0.0,
            clip=100.0,
            betas=(0.9, 0.99),
        ),
    )  # type: ignore[assignment]
    reports = []
    for model in (well, ill):
        draws = model.sample(1000, seeded(2))
        spread = collapse_report(draws, reference=reference)
        assert isinstance(spread, SpreadReport)
        reports.append(spread.collapsed)
        if toy.centres is not None:
            modes = collapse_report(draws, centres=toy.centres, weights=toy.weights)
            assert isinstance(modes, ModeReport)
            assert modes.collapsed == (model is ill), modes
    assert reports == [False, True]
    assert not collapse_report(toy.sample(1000, seeded(6)), reference=reference).collapsed
