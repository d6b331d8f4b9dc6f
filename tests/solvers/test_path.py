"""Estimates on the way to a draw: kept in bounds, of the first draw alone, and without effect."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem
from scoresde import GaussianPrior
from solvers import (
    DAPS,
    DDIM,
    HQS,
    MMPS,
    SITCOM,
    DiffPIR,
    Guided,
    Heun,
    PosteriorSampler,
    SecondOrderAncestral,
    WarmStart,
)
from solvers.posterior.path import DenoisingPath, current_path, recording_path
from tests.conftest import F64, randn, seeded

SHAPE = (1, 4, 4)
VARIANCES = torch.linspace(0.2, 2.0, math.prod(SHAPE), dtype=F64).reshape(SHAPE)
PROBLEM = InverseProblem(Denoising(), GaussianNoise(0.5))
SOLVERS = {
    "guided": Guided(MMPS(), DDIM(12, eta=1.0)),
    "guided-draw": Guided(MMPS(), Heun(6), finish="draw"),
    "second-order": SecondOrderAncestral(12),
    "warm-start": WarmStart(6),
    "warm-start-mean": WarmStart(6, sweeps=1, finish="mean"),
    "daps": DAPS(steps=6),
    "diffpir": DiffPIR(12),
    "sitcom": SITCOM(steps=6),
}


def prior() -> GaussianPrior:
    return GaussianPrior(torch.zeros(SHAPE, dtype=F64), torch.diag(VARIANCES.flatten()))


def drawn(solver: PosteriorSampler, n: int = 3, batch: int | None = None) -> Tensor:
    y = randn(2, *SHAPE, seed=1)
    return solver.sample(prior(), PROBLEM, y, n, generator=seeded(2), batch=batch).draws


@pytest.mark.parametrize("name", SOLVERS)
def test_draws_are_equal_to_the_bit_whether_recorded_or_not(name: str) -> None:
    with recording_path(DenoisingPath()) as path:
        recorded = drawn(SOLVERS[name])
    assert torch.equal(recorded, drawn(SOLVERS[name]))
    levels = [one.s for one in path.estimates]
    assert 6 <= len(levels) <= 8
    assert levels == sorted(levels, reverse=True) and levels[-1] > 0
    assert current_path() is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["guided", "second-order", "warm-start", "warm-start-mean"])
def test_the_last_estimate_is_the_first_draw_whatever_the_batch(name: str) -> None:
    kept = []
    for batch in (None, 1, 4):
        with recording_path(DenoisingPath()) as path:
            draws = drawn(SOLVERS[name], batch=batch)
        assert torch.equal(path.estimates[-1].x0, draws[0, 0].float())
        kept.append(path.estimates)
    for others in kept[1:]:
        for one, other in zip(kept[0], others, strict=True):
            assert one.s == other.s and one.kind == other.kind
            torch.testing.assert_close(one.x0, other.x0)


def test_estimates_are_what_the_sampler_has_at_their_levels() -> None:
    model, y = prior(), randn(1, *SHAPE, seed=1)
    sampler = DDIM(5, eta=0.0)
    with recording_path(DenoisingPath()) as path:
        Guided(MMPS(iterations=16), sampler).sample(model, PROBLEM, y, generator=seeded(2))
    levels = sampler.grid.levels(model.sde, 5)[:5]
    assert [one.s for one in path.estimates] == pytest.approx(levels)
    # x_0 | u, y has the precision 1/v + 1/s^2 + 1/0.5^2, and u = s n is next to nothing at s = 80
    precision = 1 / VARIANCES + levels[0] ** -2 + 4
    mean = 4 * y[0] / precision
    scatter = 1 / (levels[0] * precision)
    assert bool(((path.estimates[0].x0 - mean).abs() < 4 * scatter).all())


def test_solvers_that_tell_nothing_leave_the_path_empty() -> None:
    with recording_path(DenoisingPath()) as path:
        drawn(HQS(steps=6), 1)
    assert path.estimates == ()


@pytest.mark.parametrize("steps", [8, 9, 20, 250])
def test_levels_are_about_evenly_spaced_and_both_ends_are_kept(steps: int) -> None:
    path = DenoisingPath()
    levels = (torch.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), steps, dtype=F64) ** 7).tolist()
    for s in levels:
        path.add(s, torch.zeros(1, 1, 1))
    found = [one.s for one in path.estimates]
    assert len(found) == 8 and (found[0], found[-1]) == (levels[0], levels[-1])
    gaps = [math.log(a / b) for a, b in pairwise(found)]
    assert max(gaps) < 2 * math.log(levels[0] / levels[-1]) / 7


def test_large_pictures_are_reduced_to_the_means_of_blocks_and_copied() -> None:
    path = DenoisingPath(side=4)
    x = torch.arange(2 * 8 * 6, dtype=F64).reshape(2, 8, 6)
    path.add(1.0, x)
    expected = x.reshape(2, 4, 2, 3, 2).mean((2, 4)).float()
    x.zero_()
    assert torch.equal(path.estimates[0].x0, expected)
    small = torch.ones(1, 4, 4)
    path.add(0.5, small)
    small.zero_()
    assert bool((path.estimates[1].x0 == 1).all())


def test_a_level_that_is_visited_again_takes_the_place_of_what_is_below() -> None:
    path = DenoisingPath()
    for i, s in enumerate((4.0, 2.0, 1.0, 2.0, 2.0, 0.5)):
        path.add(s, torch.full((1, 1, 1), float(i)))
    assert [(one.s, float(one.x0)) for one in path.estimates] == [(4.0, 0), (2.0, 4), (0.5, 5)]
    path.add(0.1, torch.zeros(5))  # a vector is no picture
    assert len(path.estimates) == 3


def test_bad_bounds_are_named() -> None:
    for bad in ({"most": 2}, {"side": 0}):
        with pytest.raises(ValueError, match=r"most >= 3 and side >= 1"):
            DenoisingPath(**bad)
