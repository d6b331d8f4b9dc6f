"""What the page makes of a painted layer, and how it writes what others wrote."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoresde.errors import InputError

pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'scoresde[ui]'")

from scoresde.ui.page import _warning_list, _write_mask


def layer(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    painted = Image.new("RGBA", (width, height))
    painted.paste((224, 33, 138, 255), box)
    return painted


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def mask(layers: list[Image.Image | None], picture: Path) -> np.ndarray:
    path = _write_mask({"layers": layers}, picture, picture.with_name("mask.png"))
    with Image.open(path) as file:
        return np.asarray(file)


def test_painted_pixels_are_white_and_all_others_black(picture: Path) -> None:
    found = mask([layer(60, 40, (10, 5, 20, 15)), None, layer(60, 40, (50, 30, 60, 40))], picture)
    expected = np.zeros((40, 60), np.uint8)
    expected[5:15, 10:20] = expected[30:40, 50:60] = 255
    assert np.array_equal(found, expected)


def test_a_layer_of_another_size_is_scaled_and_covers_all_that_is_painted(picture: Path) -> None:
    found = mask([layer(30, 20, (5, 4, 10, 8))], picture)
    assert found.shape == (40, 60) and (found[8:16, 10:20] == 255).all()
    assert found[:6].max() == found[18:].max() == 0


def test_a_picture_that_lies_on_its_side_is_painted_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert mask([layer(40, 60, (0, 0, 10, 10))], tmp_path / "photo.jpg").shape == (60, 40)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "paint over the missing parts first"),
        ([Image.new("RGBA", (60, 40))], "paint over the missing parts first"),
        ([Image.new("RGBA", (60, 40), "red")], "nothing is left to go by"),
    ],
)
def test_nothing_or_everything_is_painted(
    picture: Path, layers: list[Image.Image | None], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        mask(layers, picture)


def test_what_files_say_is_shown_as_text() -> None:
    assert "<script>" not in _warning_list(("<script>alert(1)</script>",))
