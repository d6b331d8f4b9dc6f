"""Copies of training images: fresh draws agree with exchangeability, copies are found."""

import math
from importlib import import_module

import pytest
import torch
from scipy.stats import betabinom, binomtest, chi2, norm
from torch import Tensor

from scoresde.evaluation import Memorisation, memorisation
from tests.conftest import seeded


def gaussian(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 1, 2, 4, generator=generator, dtype=torch.float64)


REPEATS = 300


@pytest.fixture(scope="module")
def fresh() -> list[Memorisation]:
    """REPEATS perfect generators.

    Each is a set of 400 draws with 100 training images and 199 held-out images of its own.
    """
    g = seeded()
    return [
        memorisation(gaussian(400, g), gaussian(100, g), gaussian(199, g)) for _ in range(REPEATS)
    ]


class TestFreshDraws:
    def test_copies_are_one_in_a_hundred(self, fresh: list[Memorisation]) -> None:
        assert all(f.expected == 2 / 200 == 0.01 for f in fresh)
        z = (torch.tensor([f.copies for f in fresh]) - 0.01) / fresh[0].error
        assert abs(float(z.mean())) * math.sqrt(REPEATS) < 4
        # Copies have heavier tails than a normal law, so the spread of their variance is estimated.
        # Without the factor 3 for the threshold the test would fail
        assert (
            abs(float(z.square().mean()) - 1) < 4 * float(z.square().std()) / math.sqrt(REPEATS) < 1
        )

    def test_their_number_is_beta_binomial(self, fresh: list[Memorisation]) -> None:
        assert fresh[0].error == pytest.approx(
            float(betabinom(400, 2, 200 - 2).std()) / 400, rel=1e-9
        )

    def test_of_many_held_out_they_are_binomial(self) -> None:
        g = seeded(1)
        found = memorisation(gaussian(1000, g), gaussian(300, g), gaussian(40000, g))
        assert binomtest(round(found.copies * 1000), 1000, 0.01).pvalue > 1e-3
        assert found.error == pytest.approx(math.sqrt(0.01 * 0.99 / 1000), rel=0.02)

    def test_the_statistic_is_standard_normal(self, fresh: list[Memorisation]) -> None:
        z = torch.tensor([f.z for f in fresh])
        assert abs(float(z.mean())) * math.sqrt(REPEATS) < 4
        assert 1e-4 < chi2.cdf(float(z.square().sum()), REPEATS) < 1 - 1e-4

    def test_the_ratio_is_about_one(self, fresh: list[Memorisation]) -> None:
        ratio = torch.tensor([f.ratio for f in fresh])
        assert abs(float(ratio.log().mean())) < 4 * float(ratio.log().std()) / math.sqrt(REPEATS)


class TestCopies:
    def test_of_training_images_are_all_found(self) -> None:
        g = seeded()
        train, held_out = gaussian(300, g), gaussian(200, g)
        chosen = torch.randint(300, (150,), generator=g)
        found = memorisation(train[chosen], train, held_out)
        assert found.copies == 1 and found.ratio == 0 and torch.equal(found.index, chosen)
        assert torch.equal(found.distance, torch.zeros(150, dtype=torch.float64))
        # no pair has a larger distance to the draw
        assert found.z == pytest.approx(-math.sqrt(150 * 200 * 3 / 351))

    def test_among_fresh_draws_raise_the_share_by_theirs(self) -> None:
        g = seeded()
        train = gaussian(500, g)
        found = memorisation(
            torch.cat([train[:100] + 1e-6 * gaussian(100, g), gaussian(900, g)]),
            train,
            gaussian(999, g),
        )
        assert found.copies == pytest.approx(0.1 + 0.9 * 0.01, abs=4 * found.error)
        assert found.copies > found.expected + 10 * found.error and norm.cdf(found.z) < 1e-3

    def test_draws_off_the_data_are_not(self) -> None:
        g = seeded()
        train = gaussian(500, g)
        found = memorisation(3 * gaussian(300, g), train, gaussian(300, g))
        assert found.z > 5 and found.ratio > 1 and found.copies < 0.01


def test_distances_are_root_mean_squares_over_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    # a function of the same name hides the module
    g, module = (
        seeded(),
        import_module("scoresde.evaluation.copies"),
    )
    draws, train, held_out = gaussian(50, g), gaussian(70, g), gaussian(120, g)
    every = (draws[:, None] - train).square().flatten(2).mean(2).sqrt().min(1)
    for rows, columns in ((1024, 4096), (7, 11)):
        monkeypatch.setattr(module, "_ROWS", rows)
        monkeypatch.setattr(module, "_TRAIN", columns)
        found = memorisation(draws, train, held_out)
        torch.testing.assert_close(found.distance, every.values)
        assert torch.equal(found.index, every.indices) and found.held_out.shape == (120,)
        assert found.ratio == pytest.approx(
            float(found.distance.median() / found.held_out.median())
        )


def test_errors() -> None:
    x = gaussian(120, seeded())
    with pytest.raises(ValueError, match=r"held-out images must be finite on .*, and 99 or more"):
        memorisation(x, x, x[:98])
    with pytest.raises(ValueError, match="draws must be"):
        memorisation(x[:0], x, x)
    with pytest.raises(
        ValueError, match=r"draws have shape \(2, 4\), the training images \(1, 2, 4\)"
    ):
        memorisation(x[:, 0], x, x)
    with pytest.raises(ValueError, match="training images must be"):
        memorisation(x, x.byte(), x)
