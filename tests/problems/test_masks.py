"""Masks in every form that painting programs, label tools and numpy write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from problems import read_mask
from problems.reading.masks import check_misses

RNG = np.random.default_rng(0)
MISSING = np.zeros((12, 16), bool)
MISSING[2:7, 3:11] = True


def layer(colour: tuple[int, int, int], background: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """RGBA: opaque paint where pixels are missing, transparent elsewhere."""
    return np.where(MISSING[..., None], (*colour, 255), (*background, 0)).astype(np.uint8)


def paint(colour: tuple[int, int, int]) -> np.ndarray:
    return np.where(MISSING[..., None], colour, 0).astype(np.uint8)


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(MISSING.astype(np.uint8), mode="P")
    image.putpalette([level for colour in colours for level in colour])
    return image


PICTURES: dict[str, np.ndarray | Image.Image] = {
    "one bit": Image.fromarray(MISSING),
    "0 and 255": (255 * MISSING).astype(np.uint8),
    "0 and 1": MISSING.astype(np.uint8),
    "0 and 1 in 16 bits": MISSING.astype(np.uint16),
    "0 and 255 in 16 bits": (255 * MISSING).astype(np.uint16),
    "0 and 65535": (65535 * MISSING).astype(np.uint16),
    "dark and darker": (100 + 20 * MISSING).astype(np.uint8),
    "white paint": paint((255, 255, 255)),
    "red paint": paint((255, 0, 0)),
    "blue paint": paint((0, 0, 255)),
    "dark paint": paint((0, 40, 0)),
    "white layer": layer((255, 255, 255)),
    "black layer": layer((0, 0, 0)),
    "blue layer": layer((0, 0, 255)),
    "white layer on transparent white": layer((255, 255, 255), (255, 255, 255)),
    "grey layer": layer((9, 9, 9))[..., [0, 3]],
    "palette of labels": palette((0, 0, 0), (128, 0, 0)),
    "palette of white": palette((0, 0, 0), (255, 255, 255)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_painted_is_missing(tmp_path: Path, name: str) -> None:
    picture = PICTURES[name]
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(tmp_path / "mask.png")
    path = tmp_path / "mask.png"
    assert np.array_equal(read_mask(path).numpy(), ~MISSING)
    assert np.array_equal(read_mask(path, invert=True).numpy(), MISSING)
    assert np.array_equal(read_mask(path, white="observed").numpy(), MISSING)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", "bool", "uint8"])
@pytest.mark.parametrize("high", [1, 100])
def test_in_a_tiff_of_any_type(tmp_path: Path, dtype: str, high: int) -> None:
    values = (high * MISSING).astype(dtype)
    tifffile.imwrite(tmp_path / "mask.tif", values, photometric="minisblack")
    assert np.array_equal(read_mask(tmp_path / "mask.tif").numpy(), ~MISSING)


@pytest.mark.parametrize("change", [lambda a: a[None], lambda a: a[..., None], np.asfortranarray])
def test_in_arrays_one_is_observed(tmp_path: Path, change: Callable) -> None:
    np.save(tmp_path / "mask.npy", change(~MISSING))
    path = tmp_path / "mask.npy"
    assert np.array_equal(read_mask(path).numpy(), ~MISSING)
    assert np.array_equal(read_mask(path, white="observed").numpy(), ~MISSING)
    assert np.array_equal(read_mask(path, invert=True).numpy(), MISSING)


class TestOneValue:
    """A value that means missing, among any number of others."""

    LABELS = RNG.integers(0, 5, (12, 16)).astype(np.uint8)

    def test_of_a_palette(self, tmp_path: Path) -> None:
        """Its index, not its colour."""
        image = Image.fromarray(self.LABELS, mode="P")
        image.putpalette(RNG.integers(0, 256, 15).tolist())
        image.save(tmp_path / "mask.png")
        mask = read_mask(tmp_path / "mask.png", value=3)
        assert np.array_equal(mask.numpy(), self.LABELS != 3)

    def test_of_grey_levels_and_arrays(self, tmp_path: Path) -> None:
        Image.fromarray(self.LABELS).save(tmp_path / "mask.png")
        np.save(tmp_path / "mask.npy", self.LABELS * 0.5)
        for name, value in (("mask.png", 2), ("mask.npy", 1.0)):
            mask = read_mask(tmp_path / name, value=value)
            assert np.array_equal(mask.numpy(), self.LABELS != 2)

    def test_that_does_not_occur(self, tmp_path: Path) -> None:
        np.save(tmp_path / "mask.npy", self.LABELS)
        with pytest.raises(ValueError, match=r"misses nothing: its values are 5 different ones"):
            read_mask(tmp_path / "mask.npy", value=9)


class TestRefused:
    @pytest.mark.parametrize(
        ("level", "what"), [(0, "misses nothing"), (1, "misses nothing"), (255, "observes nothing")]
    )
    def test_pictures_of_one_colour(self, tmp_path: Path, level: int, what: str) -> None:
        Image.fromarray(np.full((4, 6), level, np.uint8)).save(tmp_path / "mask.png")
        with pytest.raises(ValueError, match=f"{what}: its values are all {level};.*--mask-value"):
            read_mask(tmp_path / "mask.png")

    def test_arrays_of_one_value(self, tmp_path: Path) -> None:
        for value, what in ((1, "misses nothing"), (0, "observes nothing")):
            np.save(tmp_path / "mask.npy", np.full((4, 6), value))
            with pytest.raises(ValueError, match=what):
                read_mask(tmp_path / "mask.npy")

    def test_a_photograph(self, tmp_path: Path) -> None:
        Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"not black and white: its values are .* different"):
            read_mask(tmp_path / "a.png")

    def test_labels_of_several_kinds(self, tmp_path: Path) -> None:
        Image.fromarray(TestOneValue.LABELS * 20).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match="--mask-value"):
            read_mask(tmp_path / "a.png")

    def test_a_layer_in_several_colours(self, tmp_path: Path) -> None:
        image = layer((255, 255, 255))
        image[2:4, 3:11, :3] = 0
        Image.fromarray(image).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match="transparent pixels and opaque ones from 0 to 255"):
            read_mask(tmp_path / "a.png")

    def test_full_sampling_of_k_space_is_no_mistake(self, tmp_path: Path) -> None:
        np.save(tmp_path / "mask.npy", np.ones((4, 6)))
        assert bool(read_mask(tmp_path / "mask.npy", white="observed").all())


def test_some_pixels_must_be_missing_and_some_not() -> None:
    check_misses(torch.tensor([True, False]), "the mask")
    with pytest.raises(ValueError, match="the mask misses no pixel"):
        check_misses(torch.ones(3, 4), "the mask")
    with pytest.raises(ValueError, match="the mask misses every pixel"):
        check_misses(torch.zeros(3, 4, dtype=torch.bool), "the mask")
