"""The way of the first draw from noise, a few pictures in a row."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from scoresde.data.images import to_uint8
from scoresde.reports.views import LEVELS_PER_UNIT, png_uri
from solvers.posterior.path import DenoisingPath

__all__ = ["Film", "Frame", "film"]

_LEAST = 3  # pictures that show a way
_SMALL = 160  # pixels: a narrower picture is enlarged, and its pixels stay squares


@dataclass(frozen=True)
class Frame:
    """A picture of the film.

    Args:
        pixels: Levels (H, W) or (H, W, 3), uint8.
        caption: The noise level, or that it is the result.
        alt: What it shows, for those who cannot see it.
    """

    pixels: np.ndarray
    caption: str
    alt: str

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return png_uri(self.pixels)

    @property
    def small(self) -> bool:
        """Whether the page enlarges it."""
        return self.pixels.shape[1] < _SMALL


@dataclass(frozen=True)
class Film:
    """The pictures from noise to the first draw.

    Args:
        title: Headline.
        meaning: What they show, in a sentence.
        frames: The pictures, from the highest noise level to the result.
    """

    title: str
    meaning: str
    frames: tuple[Frame, ...]


def film(path: DenoisingPath | None, draws: Tensor) -> Film | None:
    """Make the film of the first draw.

    Args:
        path: What the solver told of its way; None for nothing.
        draws: Draws (n, 1, C, H, W) on [-1, 1].

    Returns:
        The film; None if there are fewer than 3 pictures.
    """
    if path is None or len(path.estimates) < _LEAST:
        return None
    several = len(draws) > 1
    name = "draw 1" if several else "the restored picture"
    drawn = path.estimates[-1].kind == "draw"
    frames = []
    for one in path.estimates:
        level = f"{one.s * LEVELS_PER_UNIT:.3g}"
        what = "Draw" if one.kind == "draw" else "Estimate"
        alt = f"{what} of the picture from a state with noise of {level} grey levels"
        frames.append(Frame(to_uint8(one.x0), f"noise {level}", alt))
    result = to_uint8(path.reduced(draws[0, 0]))
    if np.array_equal(result, frames[-1].pixels):
        last = frames.pop()
        frames.append(Frame(result, f"{last.caption}: the result", f"{last.alt}: the result"))
    else:
        del frames[path.most - 1 :]
        frames.append(Frame(result, "the result", f"The result, {name}"))
    meaning = (
        f"Each picture is {'a draw' if drawn else 'the estimate of the solver'} given the "
        "measurement and a state with the noise below it (standard deviation in grey levels); what "
        "stays the same from one picture to the next is decided."
    )
    return Film(f"From noise to {name}", meaning, tuple(frames))
