"""Crops that are cut on a device: the same as those of the host."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde import InputError
from scoresde.data.datasets import DeviceImages, ImageFolder
from tests.conftest import seeded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes."""
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(20, 24, 3), (31, 17, 3), (16, 16, 3), (40, 19, 3)]):
        levels = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_the_same_crops(folder: Path, device: torch.device, channels: int, size: int) -> None:
    """Every image, position, flip and turn, from the same random numbers."""
    images = ImageFolder(folder, channels)
    there = images.on_device(device, room=10**6)
    assert there is not None and len(there) == len(images) == 4
    ours, theirs = seeded(), seeded()
    expected, found = images.batch(200, size, ours), there.batch(200, size, theirs)
    assert found.device.type == device.type and found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-7)
    # both have taken as many random numbers
    assert torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=theirs))


def test_all_turns_occur(tmp_path: Path, device: torch.device) -> None:
    """The eight flips and quarter turns of one picture, each about as often."""
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "a.png")
    there = DeviceImages(ImageFolder(tmp_path, 1), device)
    kinds, counts = there.batch(800, 4, seeded()).flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 8 and int(counts.min()) > 60


def test_too_little_room(folder: Path, device: torch.device) -> None:
    images, needed = ImageFolder(folder, 3), 3 * (20 * 24 + 31 * 17 + 16 * 16 + 40 * 19)
    assert images.on_device(device, needed - 1) is None
    assert images.on_device(device, needed) is not None


def test_an_image_smaller_than_the_crop(folder: Path, device: torch.device) -> None:
    there = ImageFolder(folder).on_device(device, 10**6)
    assert there is not None
    with pytest.raises(InputError, match=r"\.png is \d+x\d+, smaller than the crop 18"):
        there.batch(100, 18, seeded())


def test_several_folders(folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(more / "z.png")
    assert len(ImageFolder(more)) == 1 and len(ImageFolder(folder)) == 5
    # `more` lies within `folder`: its picture counts once
    assert len(ImageFolder([folder, more])) == 5
    with pytest.raises(InputError, match="not a folder"):
        ImageFolder([folder, tmp_path / "nowhere"])
