"""The noise of a picture by the denoiser, against its closed form and on photographs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from problems import (
    Demosaicing,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Inpainting,
    InverseProblem,
    PoissonNoise,
    SuperResolution,
    random_mask,
)
from scoresde import GaussianPrior, GreyPrior, load_prior
from scoresde.cli.app import app
from scoresde.evaluation.residual import check_residual
from scoresde.evaluation.residual.seen_noise import _PROBES, LOUDER_GREY, seen_noise
from scoresde.priors.base import Wrapper
from tests.conftest import F64, seeded

SIDE = 24


def covariance() -> Tensor:
    """Pictures of 24x24 whose pixels are correlated over 4 pixels."""
    i = torch.arange(SIDE, dtype=F64)
    line = torch.exp(-(i[:, None] - i).abs() / 4)
    return 0.25 * torch.kron(line, line)


def expected(s: float, true: float) -> float:
    """E q(s) where z has noise of the level `true`."""
    v = torch.linalg.eigvalsh(covariance())
    misfit = (s**2 / (v + s**2)).square() * (v + true**2)
    return float((misfit / s**2 + v / (v + s**2)).mean())


def divergence_error(s: float) -> float:
    """Standard deviation of q by the random signs, which are the same in every run."""
    C = covariance()
    J = C @ torch.linalg.inv(C + s**2 * torch.eye(len(C), dtype=F64))
    beside = J - J.diagonal().diag()
    return float((2 * beside.square().sum() / _PROBES).sqrt()) / len(C)


@pytest.mark.parametrize("mask", [None, random_mask(SIDE, SIDE, 0.1, seeded(3))])
@pytest.mark.parametrize("true", [0.05, 0.1, 0.2])
def test_the_ratio_of_a_gaussian_prior(true: float, mask: Tensor | None) -> None:
    """All pixels seen: its closed form at both levels. Some missing: 1 at the right level."""
    prior, stated, g = (
        GaussianPrior(torch.zeros(1, SIDE, SIDE, dtype=F64), covariance()),
        0.1,
        seeded(1),
    )
    problem = InverseProblem(
        Denoising() if mask is None else Inpainting(mask), GaussianNoise(stated)
    )
    found = []
    for _ in range(60):
        x = prior.sample(1, g)
        y = problem.operator.apply(x + true * torch.randn(x.shape, generator=g, dtype=F64))
        draw = x if mask is None else prior.posterior(problem, y).sample(1, g)
        one = seen_noise(problem, y, draw.reshape(1, 1, SIDE, SIDE), prior)
        assert one is not None
        found.append((one.stated, one.louder))
    values = torch.tensor(found)
    error = values.std(0) / math.sqrt(len(values))
    for k, s in enumerate((stated, LOUDER_GREY * stated)):
        if mask is None or (k == 0 and true == stated):
            all_error = math.hypot(float(error[k]), divergence_error(s))
            assert abs(values[:, k].mean() - expected(s, true)) < 3 * all_error
    assert expected(stated, stated) == pytest.approx(1)


def photograph(name: str, side: int = 96) -> Tensor:
    import skimage.data

    x = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 127.5 - 1
    x = torch.nn.functional.avg_pool2d(x, 2)
    return x[..., 20 : 20 + side, 30 : 30 + side].contiguous()


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("true", [0.02, 0.1])
def test_photographs(true: float, name: str, holes: bool) -> None:
    """Right levels are not suspected, those that are twice or half as large are."""
    x, prior, g = photograph(name), load_prior("natural"), seeded()
    operator = Inpainting(random_mask(96, 96, 0.3, g)) if holes else Denoising()
    y = InverseProblem(operator, GaussianNoise(true)).measure(x, g)
    found = {}
    for factor in (0.5, 1.0, 2.0):
        problem = InverseProblem(operator, GaussianNoise(factor * true))
        one = seen_noise(problem, y, x, prior)
        assert one is not None
        found[factor] = (one.more, one.less)
    assert found == {0.5: (True, False), 1.0: (False, False), 2.0: (False, True)}


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("true", [0.05, 0.1])
def test_photographs_at_lower_resolution(true: float, name: str, factor: int) -> None:
    """The measurement is a picture itself, whatever the draws look like."""
    x, prior, g = photograph(name, 128), load_prior("natural"), seeded()
    operator = SuperResolution(factor)
    y = InverseProblem(operator, GaussianNoise(true)).measure(x, g)
    found = {}
    for wrong in (0.5, 1.0, 2.0):
        problem = InverseProblem(operator, GaussianNoise(wrong * true))
        one = seen_noise(problem, y, torch.zeros_like(x), prior)
        assert one is not None and one.entries > 0.9 * y.numel()
        found[wrong] = (one.more, one.less)
    assert found == {0.5: (True, False), 1.0: (False, False), 2.0: (False, True)}


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("true", [0.05, 0.1])
def test_grey_pictures(true: float, name: str) -> None:
    """As they are, and as the mean of unknown colours."""
    x, colours, g = photograph(name, 144), load_prior("natural"), seeded()
    grey = Grayscale()
    y = InverseProblem(grey, GaussianNoise(true)).measure(x, g)
    found = {}
    for wrong in (0.5, 1.0, 2.0):
        noise = GaussianNoise(wrong * true)
        one = seen_noise(InverseProblem(grey, noise), y, torch.zeros_like(x), colours)
        same = seen_noise(InverseProblem(Denoising(), noise), y, y, GreyPrior(colours))
        assert one is not None and one == same
        found[wrong] = (one.more, one.less)
    assert found == {0.5: (True, False), 1.0: (False, False), 2.0: (False, True)}


def test_clipped_pixels_have_no_noise() -> None:
    """Highlights and shadows that were cut off do not make the noise seem smaller."""
    x, prior, g = photograph("coffee"), load_prior("natural"), seeded()
    x = (3 * x).clamp(-1, 1)
    y = (x + 0.1 * torch.randn(x.shape, generator=g)).clamp(-1, 1)
    assert (y.abs() == 1).float().mean() > 0.2
    one = seen_noise(InverseProblem(Denoising(), GaussianNoise(0.1)), y, x, prior)
    assert one is not None and not one.more and not one.less


def test_where_it_does_not_apply() -> None:
    prior, y, g = (
        load_prior("natural"),
        torch.rand(1, 3, 32, 32, generator=seeded()) - 0.5,
        seeded(),
    )
    few = Inpainting(random_mask(32, 32, 0.9, g))
    for problem, why in (
        (InverseProblem(GaussianBlur(1.0), GaussianNoise(0.1)), "a blur"),
        (InverseProblem(Denoising(), PoissonNoise(100.0)), "counts"),
        (InverseProblem(Denoising(), GaussianNoise(torch.full((3, 1, 1), 0.1))), "a map"),
        (InverseProblem(Demosaicing(), GaussianNoise(0.1)), "a mosaic"),
        (InverseProblem(Grayscale((1.0, 1.0, 1.0)), GaussianNoise(0.1)), "a sum of colours"),
        (InverseProblem(few, GaussianNoise(0.1)), "few pixels"),
        (InverseProblem(Denoising(), GaussianNoise(100.0)), "above the levels of the prior"),
    ):
        seen = problem.operator.mask_unobserved(y)
        assert seen_noise(problem, seen, y, prior) is None, why
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    one_size = GaussianPrior(torch.zeros(1, SIDE, SIDE, dtype=F64), covariance())
    assert seen_noise(problem, y[:, :1], y[:, :1], one_size) is None  # of 32x32


class WithoutGradient(Wrapper):
    """A denoiser of other software, whose results have no gradient."""

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prior._denoise(x_t, t).detach()


def test_a_denoiser_without_gradient_says_nothing() -> None:
    x, prior = photograph("chelsea", 48), WithoutGradient(load_prior("natural"))
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    assert seen_noise(problem, problem.measure(x, seeded()), x, prior) is None


def test_holes_are_filled_by_draws_alone() -> None:
    """Estimates and draws of other laws leave holes that the denoiser takes for noise."""
    x, prior, g = photograph("chelsea", 64), load_prior("natural"), seeded()
    problem = InverseProblem(Inpainting(random_mask(64, 64, 0.5, g)), GaussianNoise(0.05))
    y, draws = problem.measure(x, g), x.expand(4, 1, -1, -1, -1)
    for faithful, n, known in ((True, 4, True), (False, 4, False), (True, 1, False)):
        check = check_residual(problem, y, draws[:n], faithful=faithful, prior=prior)
        assert (check.seen_noise is not None) == known


@pytest.mark.parametrize("shape", [(1, 1, 24, 24), (1, 1, 40, 30)])
def test_without_a_prior_nothing_is_evaluated(shape: tuple[int, ...]) -> None:
    y = 0.3 * torch.randn(shape, generator=seeded())
    check = check_residual(
        InverseProblem(Denoising(), GaussianNoise(0.3)), y, y[None].expand(4, -1, -1, -1, -1)
    )
    assert check.seen_noise is None and check.report()["seen_noise"] is None


@pytest.mark.slow
def test_the_command_warns_of_noise_that_the_draws_keep(tmp_path: Path) -> None:
    """The residual of the draws is that of the stated noise, and says nothing."""
    x = photograph("chelsea")
    y = x + 0.15 * torch.randn(x.shape, generator=seeded())
    np.save(tmp_path / "y.npy", y[0].numpy())
    for sigma, word in ((0.15, None), (0.05, "more noise than stated"), (0.6, "less noise")):
        done = CliRunner().invoke(
            app,
            ["restore", str(tmp_path / "y.npy"), "--problem", "denoise", "--range=-1,1",
             "--sigma", str(sigma), "--samples", "2", "--steps", "4",
             "--out", str(tmp_path / f"out{sigma}")],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        text = " ".join(done.output.split())
        assert ("noise than stated" in text) == (word is not None), text
        assert word is None or word in text
