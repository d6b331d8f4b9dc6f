"""Samples whose noise is not what their label says: their law, and that the others stay."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoresde.data.datasets import TensorData
from scoresde.networks import UNetConfig
from scoresde.training import TrainConfig, mismatch
from scoresde.training.mismatch import mismatched
from scoresde.training.prior import _PriorTask, build_prior
from tests.conftest import F64, randn, seeded

SHAPES = [(6,), (2, 9), (3, 8, 7), (1, 4, 6, 5)]


def test_without_a_share_nothing_changes() -> None:
    x_0, noise = randn(5, 3, 8, 8), randn(5, 3, 8, 8, seed=1)
    for found, given in zip(mismatched(x_0, noise, 0.0, seeded(0)), (x_0, noise), strict=True):
        assert torch.equal(found, given)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_law_of_the_changes(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise by a factor uniform on [0, 2], contrast by one on [0.5, 1.5], for a third of them."""
    monkeypatch.setattr(mismatch, "_coloured", lambda noise, *_: noise)
    n, share = 20_000, 1 / 3
    ones = torch.ones(n, *shape, dtype=F64)
    x_0, noise = mismatched(ones, ones, share, seeded(0))
    contrast, louder = x_0.flatten(1)[:, 0], noise.flatten(1)[:, 0]
    assert torch.allclose(x_0.flatten(1), contrast[:, None].expand_as(x_0.flatten(1)))
    changed = louder != 1
    assert torch.equal(changed, contrast != 1) and bool((ones == 1).all())
    error = (share * (1 - share) / n) ** 0.5
    assert float(changed.double().mean()) == pytest.approx(share, abs=4 * error)
    for values, low, high in ((louder, 0.0, 2.0), (contrast, 0.5, 1.5)):
        unit = ((values[changed] - low) / (high - low)).sort().values
        steps = torch.arange(1, len(unit) + 1, dtype=F64) / len(unit)
        # the Kolmogorov-Smirnov distance of so many uniform numbers, at a level of one in 10^5
        assert float((unit - steps).abs().max()) < 2.5 / len(unit) ** 0.5


def test_details_are_lost_by_a_factor_of_one_two_or_four() -> None:
    """A sample that alternates between pixels keeps its size, or has none of it left."""
    wave = torch.tensor([1.0, -1.0], dtype=F64).repeat(8).expand(3000, 1, 16, 16)
    x_0, _ = mismatched(wave, wave, 1.0, seeded(0))
    left = x_0.abs().amax((1, 2, 3))
    kept = left > 0.4
    assert float(left[~kept].max()) < 1e-12
    assert float(kept.double().mean()) == pytest.approx(1 / 3, abs=4 * (2 / 9 / 3000) ** 0.5)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_coloured_noise_has_a_power_law_for_its_spectrum(shape: tuple[int, ...]) -> None:
    """Half of the changed samples; each amplitude against the one of the white noise it is from."""
    white = randn(4000, *shape).double()
    zeros = torch.zeros_like(white)
    _, noise = mismatched(zeros, white, 1.0, seeded(0))
    axes = tuple(range(2, white.ndim))
    ratio = (torch.fft.fftn(noise, dim=axes) / torch.fft.fftn(white, dim=axes)).abs()[:, 0]
    flat = ratio.flatten(1)
    same = (flat - flat[:, :1]).abs().amax(1) < 1e-4 * flat.amax(1)  # a factor alone
    assert float(same.double().mean()) == pytest.approx(0.5, abs=4 * (0.25 / 4000) ** 0.5)
    # a power of the frequency: in ln f it is a straight line along every axis
    for axis in range(1, ratio.ndim):
        line = ratio[~same].movedim(axis, -1).reshape(int((~same).sum()), -1, shape[axis])[:, 0]
        half = line[:, 1 : (shape[axis] + 1) // 2].log()
        rises = half.diff(dim=1)
        assert bool(((rises >= -1e-3).all(1) | (rises <= 1e-3).all(1)).all())
    # the mean square of the factors is that of the loudness, E[(2u)^2] = 4/3, whatever the colour
    found = flat.square().mean(1)
    for group in (found[same], found[~same]):
        spread = float(group.std() / len(group) ** 0.5)
        assert float(group.mean()) == pytest.approx(4 / 3, abs=4 * spread)


def test_a_batch_of_a_training_has_them(tmp_path: Path) -> None:
    config = TrainConfig(
        batch=64,
        crops=(8,),
        network=UNetConfig(channels=1, widths=(4,), blocks=1, attention=()),
        mismatch=0.25,
    )
    data = TensorData(torch.ones(3, 1, 8, 8))
    plain, mixed = (
        _PriorTask(build_prior(c, (1, 8, 8)), data, c).batch(seeded(3))
        for c in (replace(config, mismatch=0.0), config)
    )
    same = (plain[2] == mixed[2]).flatten(1).all(1)
    assert torch.equal(plain[1], mixed[1]) and 0 < int((~same).sum()) < 40
    assert torch.equal(plain[0][same], mixed[0][same])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "much"])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="mismatch"):
        TrainConfig(mismatch=share)
