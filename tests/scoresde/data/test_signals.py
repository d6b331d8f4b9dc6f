"""Signals, pictures and volumes as arrays of numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scoresde import InputError
from scoresde.data.signals import Signals
from tests.conftest import randn, seeded


@pytest.mark.parametrize(
    ("dimensions", "shape", "stored"),
    [
        (1, (8,), (1, 1, 8)),
        (1, (5, 8), (5, 1, 8)),
        (1, (5, 2, 8), (5, 2, 8)),
        (2, (5, 8, 6), (5, 1, 8, 6)),
        (3, (5, 4, 8, 6), (5, 1, 4, 8, 6)),
        (3, (5, 2, 4, 8, 6), (5, 2, 4, 8, 6)),
    ],
)
def test_shapes(dimensions: int, shape: tuple[int, ...], stored: tuple[int, ...]) -> None:
    values = 3 * randn(*shape)
    data = Signals(values.numpy(), dimensions)
    assert data.samples.shape == stored and data.samples.dtype == torch.float32
    assert torch.equal(data.samples, values.float().reshape(stored))
    assert (len(data), data.channels, data.sides) == (stored[0], stored[1], stored[2:])
    assert data.sigma_data == pytest.approx(float(values.square().mean().sqrt()), rel=1e-6)


@pytest.mark.parametrize(("size", "sides"), [(3, (3, 3, 2)), (5, (4, 5, 2)), (6, (4, 6, 2))])
def test_crops_are_pieces_of_the_samples(size: int, sides: tuple[int, ...]) -> None:
    """Every entry is its place in the data, so a crop shows where it was cut."""
    data = Signals(torch.arange(2.0 * 2 * 4 * 6 * 2).reshape(2, 2, 4, 6, 2) + 1, 3)
    batch = data.batch(100, size, seeded())
    assert batch.shape == (100, 2, *sides)
    corners = set()
    for crop in batch:
        first = int(crop[0, 0, 0, 0]) - 1
        n, channel, i, j, k = (int(v) for v in np.unravel_index(first, (2, 2, 4, 6, 2)))
        here = (slice(i, i + sides[0]), slice(j, j + sides[1]), slice(k, k + sides[2]))
        assert channel == 0 and torch.equal(crop, data.samples[(n, slice(None), *here)])
        corners.add((n, i, j, k))
    assert len(corners) == 2 * (4 - sides[0] + 1) * (6 - sides[1] + 1)


def test_same_generator_same_batch() -> None:
    data = Signals(randn(5, 20), 1)
    assert torch.equal(data.batch(4, 8, seeded(3)), data.batch(4, 8, seeded(3)))
    assert not torch.equal(data.batch(4, 8, seeded(3)), data.batch(4, 8, seeded(4)))


@pytest.mark.parametrize(
    ("samples", "dimensions", "message"),
    [
        (torch.ones(2, 3, 4, 5), 1, r"1 axis are an array \(N, L\).*got the shape \(2, 3, 4, 5\)"),
        (torch.ones(3, 4), 3, r"3 axes are an array \(N, D, H, W\).*got the shape \(3, 4\)"),
        (torch.ones(0, 4), 1, r"got the shape \(0, 4\)"),
        (torch.tensor([[1.0, float("nan")]]), 1, "finite numbers"),
        (torch.tensor([[1e300, 1.0]], dtype=torch.float64), 1, "finite numbers"),
        (torch.zeros(2, 4), 1, "all be zero"),
        (torch.ones(2, 4, dtype=torch.complex64), 1, "two channels"),
        (torch.ones(2, 4), 4, "dimensions of signals"),
    ],
)
def test_bad_samples(samples: torch.Tensor, dimensions: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Signals(samples, dimensions)


def test_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(1, 7).reshape(2, 3), y=np.full((2, 3), np.inf))
    assert Signals.read(tmp_path / "a.npz", 1, "x").samples.tolist() == [[[1, 2, 3]], [[4, 5, 6]]]
    with pytest.raises(InputError, match="name one with --array"):
        Signals.read(tmp_path / "a.npz", 1)
    with pytest.raises(InputError, match=r"a\.npz: signals must be finite"):
        Signals.read(tmp_path / "a.npz", 1, "y")
    with pytest.raises(InputError, match=r"samples of 3 are shorter than the crop 4"):
        Signals.read(tmp_path / "a.npz", 1, "x").check_crop(4)
