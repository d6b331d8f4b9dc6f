"""Noise that belongs to places: one field for all windows, and standard normal."""

import pytest
import torch

from problems import Denoising
from problems.random_fields import PlacedNoise, Site, current_noise, placed_noise
from problems.random_numbers import randn_like
from solvers.streams import NormalStream, spawn
from tests.conftest import seeded

CPU = torch.device("cpu")


def test_windows_have_their_part_of_the_field() -> None:
    whole = PlacedNoise((Site((150, 200), (0, 0)),)).draw((2, 150, 200), seeded(), torch.float64)
    for origin, sides in (((0, 0), (10, 64)), ((63, 64), (66, 130)), ((149, 199), (1, 1))):
        part = PlacedNoise((Site(sides, origin),)).draw((2, *sides), seeded(), torch.float64)
        assert whole is not None and part is not None
        (top, left), (height, width) = origin, sides
        assert torch.equal(part, whole[:, top : top + height, left : left + width])


def test_the_field_is_white_and_normal() -> None:
    noise = PlacedNoise((Site((256, 256), (7, 9)),))
    fields = [noise.draw((1, 256, 256), seeded(), torch.float64) for _ in range(4)]
    x = torch.cat([one for one in fields if one is not None])
    n = x.numel()
    assert abs(float(x.mean())) < 4 / n**0.5
    assert abs(float(x.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float(x.pow(4).mean()) - 3) < 4 * (96 / n) ** 0.5
    # neighbours, also across blocks, and successive fields
    for a, b in ((x[:, 1:], x[:, :-1]), (x[..., 1:], x[..., :-1]), (x[1:], x[:-1])):
        assert abs(float((a * b).mean())) < 4 / a.numel() ** 0.5
    across = x[:, 56:57] * x[:, 57:58]  # rows 63 and 64 of the field
    assert abs(float(across.mean())) < 4 / across.numel() ** 0.5


def test_each_draw_has_its_own_field_in_any_batch() -> None:
    def rows(n: int) -> torch.Tensor:
        with placed_noise(PlacedNoise((Site((8, 9), (30, 60)),))):
            return NormalStream(spawn(seeded(), n))((n, 3, 8, 9), torch.float32, CPU)

    two, three = rows(2), rows(3)
    assert torch.equal(two, three[:2])
    assert not torch.equal(two[0], two[1]) and not torch.equal(two[0, 0], two[0, 1])


def test_solvers_and_operators_draw_from_the_field() -> None:
    """Both random streams, with x and y at their own places."""
    y = torch.zeros(2, 1, 8, 9)

    def posterior(origin: tuple[int, int]) -> torch.Tensor:
        sites = (Site((8, 9), origin), Site((4, 5), (0, 0)))
        with placed_noise(PlacedNoise(sites)):
            return Denoising().prox_sample(y, y, 1.0, 1.0, generator=spawn(seeded(), 2))

    here, beside = posterior((0, 0)), posterior((0, 4))
    assert torch.allclose(here[..., 4:], beside[..., :5]) and bool(here.std() > 0.3)


def test_other_numbers_are_as_usual() -> None:
    x = torch.zeros(3, 5)
    usual = randn_like(x, seeded())
    with placed_noise(PlacedNoise((Site((8, 9), (0, 0)),))):
        assert torch.equal(randn_like(x, seeded()), usual)
        assert current_noise() is not None
    assert current_noise() is None
    assert PlacedNoise((Site((3, 5), (0, 0)),)).draw((3, 5), None, torch.float32) is None
    with pytest.raises(RuntimeError), placed_noise(PlacedNoise(())):
        raise RuntimeError
    assert current_noise() is None
