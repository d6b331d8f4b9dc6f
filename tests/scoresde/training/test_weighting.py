"""The weights of the noise levels in the loss, against their formulas."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor, nn

from scoresde import EDMSDE, ScorePrior
from scoresde.data.datasets import ImageFolder
from scoresde.training import (
    NoiseLevels,
    TrainConfig,
    denoising_score_matching,
    loss_weight,
    train,
)
from scoresde.training.objective import WEIGHTINGS
from tests.conftest import seeded
from tests.scoresde.training.conftest import CONFIG, state_of

NOISE = NoiseLevels(mean=-0.8, std=1.2, sigma_min=0.01, sigma_max=20.0)
SIGMA_DATA = 0.4
LEVELS = torch.tensor([0.02, 0.1, math.sqrt(0.2), 1.0, 7.0], dtype=torch.float64)


class Wave(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.sin(3 * x) + label[:, None, None, None]


def weight_of_error(weighting: str, sigma: Tensor) -> Tensor:
    """lambda, the weight of the squared error of x_0, up to a constant."""
    if weighting == "edm":
        return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    if weighting == "min-snr":
        return torch.minimum(1 / sigma**2, torch.tensor(5.0))
    law = scipy.stats.norm(NOISE.mean, NOISE.std)
    return 1 / (sigma**2 * torch.from_numpy(law.pdf(sigma.log().numpy())))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_is_the_weighted_error_of_the_denoiser(weighting: str) -> None:
    """lambda |D - x_0|^2 / d, up to one constant for all levels."""
    x_0, noise = torch.randn(2, 5, 1, 4, 4, generator=seeded(), dtype=torch.float64)
    prior = ScorePrior(Wave(), EDMSDE(), (1, 4, 4), SIGMA_DATA)
    error = prior.denoise(x_0 + LEVELS[:, None, None, None] * noise, LEVELS) - x_0
    expected = weight_of_error(weighting, LEVELS) * error.square().mean((1, 2, 3))
    factor = loss_weight(weighting, LEVELS, NOISE, SIGMA_DATA)
    found = factor * denoising_score_matching(prior, x_0, LEVELS, noise)
    ratio = found / expected
    torch.testing.assert_close(ratio, ratio[:1].expand(5), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_mean_weight_is_one(weighting: str) -> None:
    """Under the law of the levels: a normal ln sigma, clipped. The ends have their own mass."""
    law = scipy.stats.norm(NOISE.mean, NOISE.std)
    low, high = np.log([NOISE.sigma_min, NOISE.sigma_max])

    def weight(log_sigma: float) -> float:
        sigma = torch.tensor(log_sigma, dtype=torch.float64).exp()
        return float(loss_weight(weighting, sigma, NOISE, SIGMA_DATA))

    mean = scipy.integrate.quad(lambda v: law.pdf(v) * weight(v), low, high, limit=200)[0]
    ends = torch.tensor([NOISE.sigma_min, NOISE.sigma_max])
    at_ends = loss_weight(weighting, ends, NOISE, SIGMA_DATA).tolist()
    mean += law.cdf(low) * at_ends[0] + law.sf(high) * at_ends[1]
    assert mean == pytest.approx(1, abs=1e-4)


def test_edm_is_one_and_the_ends_have_no_likelihood() -> None:
    assert loss_weight("edm", LEVELS, NOISE).tolist() == [1.0] * 5
    drawn = replace(NOISE, std=4.0).draw(64, seeded())
    clipped = (drawn <= 0.01) | (drawn >= 20.0)
    weights = loss_weight("likelihood", drawn, replace(NOISE, std=4.0))
    assert clipped.any() and bool((weights[clipped] == 0).all())
    assert bool((weights[~clipped] > 0).all())


def test_likelihood_weights_do_not_depend_on_how_levels_are_drawn() -> None:
    """E w(sigma) h(sigma), h any function, is an integral over ln sigma, the same up to noise."""
    means = []
    for noise in (NOISE, replace(NOISE, mean=0.0, std=2.0)):
        sigma = noise.draw(200_000, seeded()).double()
        means.append(float((loss_weight("likelihood", sigma, noise) * (-sigma).exp()).mean()))
    assert means[0] == pytest.approx(means[1], rel=5e-3)


def test_min_snr_is_cut_at_five() -> None:
    """Below sigma^2 = 1/5 the error of x_0 has weight 5, above it 1/sigma^2."""
    c_out = (LEVELS * SIGMA_DATA).square() / (LEVELS**2 + SIGMA_DATA**2)
    of_error = loss_weight("min-snr", LEVELS, NOISE, SIGMA_DATA) / c_out
    expected = torch.tensor([5.0, 5.0, 5.0, 1.0, 1 / 49], dtype=torch.float64)
    torch.testing.assert_close(of_error / of_error[3], expected, rtol=1e-9, atol=0)


def test_unknown_weightings() -> None:
    with pytest.raises(ValueError, match="unknown weighting 'magic'; known: edm, min-snr"):
        TrainConfig(weighting="magic")
    with pytest.raises(ValueError, match="unknown weighting"):
        loss_weight("magic", LEVELS, NOISE)


def test_a_run_uses_its_weighting(data: ImageFolder, tmp_path: Path) -> None:
    for weighting in WEIGHTINGS:
        train(
            data, tmp_path / weighting, replace(CONFIG, weighting=weighting), cpu=True, stop_after=3
        )
    heads = [state_of(tmp_path / name)[0]["network.head.weight"] for name in WEIGHTINGS]
    assert not any(torch.equal(heads[i], heads[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
