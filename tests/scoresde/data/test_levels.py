"""Grey levels for a likelihood: as they are in the file, or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoresde.data.levels import read_levels
from scoresde.errors import InputError
from tests.scoresde.data.test_headers import png

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_the_levels_of_the_file(tmp_path: Path) -> None:
    grey = read_levels(saved(tmp_path / "grey.png", GREY), 1)
    colour = read_levels(saved(tmp_path / "colour.png", COLOUR), 3)
    assert grey.dtype == colour.dtype == np.uint8
    assert np.array_equal(grey[..., 0], GREY) and np.array_equal(colour, COLOUR)
    # an alpha channel that hides nothing changes nothing
    opaque = np.concatenate([COLOUR, np.full((5, 7, 1), 255, np.uint8)], -1)
    assert np.array_equal(read_levels(saved(tmp_path / "opaque.png", opaque), 3), COLOUR)


def test_what_would_have_to_be_converted(tmp_path: Path) -> None:
    grey, colour = saved(tmp_path / "g.png", GREY), saved(tmp_path / "c.png", COLOUR)
    deep = saved(tmp_path / "deep.png", GREY.astype(np.uint16) * 257)
    real = saved(tmp_path / "real.tif", GREY.astype(np.float32))
    glass = np.concatenate([COLOUR, np.full((5, 7, 1), 254, np.uint8)], -1)
    png(tmp_path / "deep colour.png", 2, 2, depth=16, colour=2)
    for path, channels, message in (
        (deep, 1, r"no 8-bit picture \(PNG, 16-bit grey\).*convert it to 8 bits first"),
        (real, 1, r"no 8-bit picture \(TIFF, 32-bit float grey\)"),
        (tmp_path / "deep colour.png", 3, r"no 8-bit picture \(PNG, 16-bit colour\)"),
        (colour, 1, "is a colour picture, the prior is of grey pictures; convert it"),
        (grey, 3, "is a grey picture, the prior is of colour pictures; convert it"),
        (grey, 2, "the prior is of 2-channel pictures"),
        (saved(tmp_path / "glass.png", glass), 3, "transparent pixels.*without an alpha channel"),
        (tmp_path / "none.png", 3, "there is no file"),
    ):
        with pytest.raises(InputError, match=message) as error:
            read_levels(path, channels)
        assert "\n" not in str(error.value)
