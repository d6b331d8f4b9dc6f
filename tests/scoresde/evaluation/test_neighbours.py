"""Precision, recall, density and coverage against counts by hand.

Also missing modes, outliers, and the mean over equal laws.
"""

import math
from dataclasses import astuple
from importlib import import_module

import pytest
import torch
from torch import Tensor

from scoresde.evaluation import (
    Manifold,
    density_coverage,
    expected_coverage,
    manifold,
    precision_recall,
)
from tests.conftest import seeded


def modes(counts: list[int], seed: int) -> Tensor:
    """n points of a standard normal law in the plane around each of the places (100 c, 0)."""
    centre = 100.0 * torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    x = torch.randn(sum(counts), 2, generator=seeded(seed), dtype=torch.float64)
    return x + torch.stack([centre, 0 * centre], 1)


def test_by_hand() -> None:
    """On a line with k = 1.

    The radii around 0, 1, 5 are 1, 1, 4, and around 0.5, 0.75, 40 they are 0.25, 0.25, 39.25.
    """
    real, fake = (torch.tensor(v)[:, None] for v in ([0.0, 1.0, 5.0], [0.5, 0.75, 40.0]))
    found = manifold(real, fake, k=1)
    assert found.precision == pytest.approx(2 / 3)  # 40 is in no ball
    # 1 is 0.25 from 0.75, 5 is 35 from 40; 0 is in no ball
    assert found.recall == pytest.approx(2 / 3)
    assert found.density == pytest.approx(4 / 3)  # 2 + 2 + 0 pairs: 5 is 4.25 from 0.75
    assert found.coverage == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [1, 5])
def test_identical_sets(k: int) -> None:
    """Each ball contains its own centre and k others, one of them on its edge."""
    x = 1e3 + torch.randn(400, 30, generator=seeded(), dtype=torch.float64)
    assert astuple(manifold(x, x.flip(0), k)) == (1, 1, (k + 1) / k, 1)


def test_sets_of_copies() -> None:
    """Balls of radius zero contain their centre."""
    x = torch.randn(3, 8, generator=seeded(), dtype=torch.float64).repeat(6, 1)
    assert astuple(manifold(x, x[:6], k=1)) == (1, 1, 6, 1)


def test_recall_is_precision_with_the_sets_exchanged() -> None:
    real, fake = modes([60, 30], 1), 2 * modes([80], 2)
    there, back = manifold(real, fake), manifold(fake, real)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert len({there.precision, there.recall, there.coverage}) == 3


def test_a_missing_mode_costs_recall_and_coverage_their_share() -> None:
    counts, kept = [100, 200, 300, 400], 700
    real, fake = modes(counts, 1), modes([200, 300, 500], 2) + torch.tensor([100.0, 0.0])
    found, without = manifold(real, fake), manifold(real[100:], fake)
    # the balls around the 100 contain no point of another mode
    assert found.precision == without.precision > 0.9 and found.density == without.density
    assert found.recall == pytest.approx(without.recall * 0.9) and found.coverage == pytest.approx(
        without.coverage * 0.9
    )
    least = manifold(real, modes([0, 0, 300, 700], 2))
    assert least.recall <= kept / 1000 and least.coverage <= kept / 1000 and least.precision > 0.9


def test_outliers_cost_precision_their_share() -> None:
    real, fake = modes([500], 1), modes([400], 2)
    far = 1e6 * (1 + torch.rand(100, 2, generator=seeded(3), dtype=torch.float64))
    found, without = manifold(real, torch.cat([fake, far])), manifold(real, fake)
    assert found.precision == pytest.approx(
        0.8 * without.precision
    ) and found.density == pytest.approx(0.8 * without.density)
    assert found.coverage == without.coverage and found.recall >= without.recall


@pytest.mark.parametrize(("n", "m", "k"), [(150, 60, 5), (60, 150, 3), (80, 80, 1)])
def test_mean_over_equal_laws(n: int, m: int, k: int) -> None:
    g = seeded(7)
    pairs = [
        torch.randn(n + m, 3, generator=g, dtype=torch.float64).split([n, m]) for _ in range(200)
    ]
    found = [manifold(real, fake, k) for real, fake in pairs]
    for values, expected in (
        ([f.coverage for f in found], expected_coverage(n, m, k)),
        ([f.density for f in found], 1.0),
    ):
        x = torch.tensor(values)
        assert abs(float(x.mean()) - expected) < 4 * float(x.std()) / math.sqrt(200)
        assert float(x.std()) / math.sqrt(200) < 0.02  # the test has power
    # with the numbers of real and fake exchanged it would not hold if they differ
    wrong, x = expected_coverage(m, n, k), torch.tensor([f.coverage for f in found])
    assert n == m or abs(float(x.mean()) - wrong) > 10 * float(x.std()) / math.sqrt(200)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = modes([50, 63], 1), modes([70, 21], 2)
    whole = manifold(real, fake)
    monkeypatch.setattr(import_module("scoresde.evaluation.neighbours"), "_ENTRIES", 1000)
    assert manifold(real, fake) == whole


def test_pairs_have_the_k_of_their_authors() -> None:
    real, fake = modes([60], 1), modes([70], 2)
    three, five = manifold(real, fake, 3), manifold(real, fake, 5)
    assert precision_recall(real, fake) == (three.precision, three.recall)
    assert density_coverage(real, fake) == (five.density, five.coverage)
    assert manifold(real, fake) == five != three and isinstance(five, Manifold)


def test_errors() -> None:
    x = torch.randn(20, 3, generator=seeded())
    with pytest.raises(ValueError, match="k = 0"):
        manifold(x, x, 0)
    with pytest.raises(ValueError, match=r"fake features must be finite, .* at least 6"):
        manifold(x, x[:5])
    with pytest.raises(ValueError, match="3 features, the fake ones 2"):
        manifold(x, x[:, :2])
    with pytest.raises(ValueError, match="more than k real"):
        expected_coverage(5, 10, 5)
