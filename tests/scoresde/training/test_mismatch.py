"""Samples whose noise is not what their label says: their law, and that the others stay."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoresde.data.datasets import TensorData
from scoresde.networks import UNetConfig
from scoresde.training import TrainConfig
from scoresde.training.mismatch import mismatched
from scoresde.training.prior import _PriorTask, build_prior
from tests.conftest import F64, randn, seeded

SHAPES = [(6,), (2, 9), (3, 8, 7), (1, 4, 6, 5)]


def test_without_a_share_nothing_changes() -> None:
    x_0, noise = randn(5, 3, 8, 8), randn(5, 3, 8, 8, seed=1)
    for found, given in zip(mismatched(x_0, noise, 0.0, seeded(0)), (x_0, noise), strict=True):
        assert torch.equal(found, given)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_law_of_the_changes(shape: tuple[int, ...]) -> None:
    """Noise by a factor uniform on [0, 2], contrast by one on [0.5, 1.5], for a third of them."""
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
