"""Sheets of panels of any shape: bounded in size, with every panel visible."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.data.figures import Panel, check_picture_name, sheet
from scoresde.errors import InputError


def panels(height: int, width: int) -> list[Panel]:
    """A red picture and a map."""
    red = torch.stack([torch.full((height, width), v) for v in (1.0, -1.0, -1.0)])
    return [Panel(red, "red"), Panel(torch.full((height, width), 0.1), "map", 0.2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width"), [(1000, 4), (4, 1000), (30, 30), (2000, 1), (1, 1), (300, 100)]
)
def test_the_size_of_a_sheet_is_bounded(tmp_path: Path, height: int, width: int) -> None:
    """A panel takes a column of 2.3 inches at 160 per inch, and at most twice that in height."""
    sheet([panels(height, width)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        across, down = image.size
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert across == pytest.approx(2 * 2.3 * 1.03 * 160, abs=1)
    assert down <= (2 * 2.3 + 0.42 + 0.04) * 160 + 1
    # the picture is there as a whole: red from its top to its bottom, and from left to right
    left = pixels[:, : across // 2]  # the map is on the right
    red = left[..., 0] > left[..., 1:].max(-1) + 50
    rows, columns = (np.flatnonzero(red.any(axis)) for axis in (1, 0))
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    room = min(max(height / width, 0.25), 2.0)
    expected = 368 * min(room, height / width), 368 * min(1.0, room * width / height)
    expected = max(3.0, expected[0]), max(3.0, expected[1])
    assert tall == pytest.approx(expected[0], abs=3, rel=0.03)
    assert wide == pytest.approx(expected[1], abs=3, rel=0.03)


@pytest.mark.slow
def test_very_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoresde.data.figures._MOST_PIXELS", 100_000)
    sheet([panels(8, 8)] * 6, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert 95_000 < image.width * image.height < 101_000


def test_names_of_pictures() -> None:
    for name in ("a.png", "a.JPG", "a.tif"):
        check_picture_name(Path(name))
    for name in ("a.xyz", "a", "out"):
        with pytest.raises(InputError, match=r"cannot write .* use \.png"):
            check_picture_name(Path(name))
