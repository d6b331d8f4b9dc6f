"""Levels of embedded maps: values and colours that can be read back."""

import numpy as np
import pytest

from scoresde.reports.scale import GREY, Scale, distinct_colours, false_colours


@pytest.mark.parametrize("top", [0.02, 1.0, 300.0, 1e5])
def test_values_are_read_back_to_half_a_step(top: float) -> None:
    values = np.linspace(0, top, 1001)
    scale = Scale.upwards(top)
    error = np.abs(scale.values(scale.levels(values)) - values)
    assert error.max() <= scale.step / 2 * (1 + 1e-9) and scale.step == pytest.approx(top / 255)


@pytest.mark.parametrize("top", [0.02, 1.0, 300.0])
def test_differences_keep_zero_and_gaps(top: float) -> None:
    scale = Scale.around_zero(top)
    values = np.array([-top, -top / 3, 0.0, top / 7, top, np.nan])
    back = scale.values(scale.levels(values))
    assert back[2] == 0 and np.isnan(back[5])
    assert np.abs(back[:5] - values[:5]).max() <= scale.step / 2 * (1 + 1e-9)


def test_grey_levels_are_their_own_values() -> None:
    levels = np.arange(256)
    assert (GREY.values(levels) == levels).all() and (GREY.levels(1.0 * levels) == levels).all()


@pytest.mark.parametrize("scale", [Scale.upwards(255.0), Scale.around_zero(255.0)])
@pytest.mark.parametrize("share", [1.0, 0.4, 0.02, 1e-6])
def test_no_two_levels_share_a_colour(scale: Scale, share: float) -> None:
    """Also where most of the levels lie beyond the end of the colours."""
    colours = false_colours(scale, 255 * share)
    assert colours.shape == (256, 3) and len(np.unique(colours, axis=0)) == 256


@pytest.mark.parametrize("share", [1.0, 0.4, 0.02])
def test_colours_are_those_of_the_map_but_for_little(share: float) -> None:
    import matplotlib

    scale = Scale.upwards(1.0)
    wanted = matplotlib.colormaps["inferno"](np.clip(scale.values(np.arange(256)) / share, 0, 1))
    assert np.abs(false_colours(scale, share) - 255 * wanted[:, :3]).max() <= 6.5


def test_colours_that_differ_are_kept() -> None:
    colours = np.stack([np.arange(256), np.zeros(256), np.full(256, 7)], 1).astype(np.uint8)
    assert (distinct_colours(colours) == colours).all()
