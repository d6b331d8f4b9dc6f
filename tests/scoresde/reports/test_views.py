"""Embedded pictures: the pixels in the page are those of the tensors."""

import numpy as np
import pytest
import torch

from scoresde.data.images import to_uint8
from scoresde.reports.scale import Scale
from scoresde.reports.views import (
    LARGEST,
    LEVELS_PER_UNIT,
    embedded,
    map_view,
    picture_view,
    png_uri,
    reduced,
    reduction,
    signed_view,
)
from tests.conftest import randn


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_grey_levels(channels: int) -> None:
    x = 0.6 * randn(1, channels, 13, 17)
    view = picture_view("a", "A", "a", "a", x)
    assert (embedded(view.uri) == to_uint8(x[0])).all()
    assert view.scale == Scale(0.0, 1.0)


@pytest.mark.slow
def test_maps_keep_their_values() -> None:
    values = randn(19, 23).abs() * 0.1
    values[3, 4] = 2.0  # far above the others, beyond the end of the colours
    view = map_view("a", "A", "a", "a", values)
    error = np.abs(view.scale.values(embedded(view.uri)) - LEVELS_PER_UNIT * values.numpy())
    assert error.max() <= view.scale.step / 2 + 1e-9
    assert view.top is not None and view.top < LEVELS_PER_UNIT


def test_differences_keep_their_values_and_gaps() -> None:
    values = randn(19, 23) * 0.1
    values[:4] = torch.nan
    view = signed_view("a", "A", "a", "a", values)
    back = view.scale.values(embedded(view.uri))
    assert np.isnan(back[:4]).all() and not np.isnan(back[4:]).any()
    assert np.abs(back - LEVELS_PER_UNIT * values.numpy())[4:].max() <= view.scale.step / 2 + 1e-9


def test_the_colours_of_a_map_lead_back_to_its_levels() -> None:
    """As the script of the page does it: colour to level to value."""
    view = map_view("a", "A", "a", "a", randn(8, 9).abs())
    assert view.palette is not None
    level = {tuple(colour): i for i, colour in enumerate(view.palette.tolist())}
    from PIL import Image

    levels = embedded(view.uri)
    picture = Image.fromarray(levels)
    picture.putpalette(view.palette.tobytes())
    shown = np.array(picture.convert("RGB"))
    assert [[level[tuple(c)] for c in row] for row in shown.tolist()] == levels.tolist()
    described = view.described()["palette"]
    assert [tuple(bytes.fromhex(c)) for c in described] == [tuple(c) for c in view.palette.tolist()]


@pytest.mark.parametrize("size", [(1, 1), (2000, 2000), (2001, 2000), (9000, 300), (6000, 8000)])
@pytest.mark.parametrize("views", [4, 20])
def test_reduced_pictures_are_of_bounded_size(size: tuple[int, int], views: int) -> None:
    factor = reduction(size, views)
    pixels = size[0] * size[1] / factor**2
    assert pixels <= LARGEST and views * pixels <= 48_000_000
    if factor > 1:
        larger = size[0] * size[1] / (factor - 1) ** 2
        assert larger > LARGEST or views * larger > 48_000_000


def test_reduction_averages_blocks_and_ends() -> None:
    x = torch.arange(15.0).reshape(1, 1, 3, 5)
    assert torch.equal(reduced(x, 1), x)
    assert reduced(x, 2)[0, 0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]


def test_a_picture_of_one_pixel() -> None:
    assert embedded(png_uri(np.array([[7]], np.uint8))).tolist() == [[7]]
