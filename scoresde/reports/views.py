"""Pictures of a page: pixels whose values a reader can look up, each as one embedded PNG."""

import base64
import io
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scoresde.data.figures import nice_top
from scoresde.data.images import to_uint8
from scoresde.reports.scale import GREY, Scale, false_colours

__all__ = [
    "LARGEST",
    "LEVELS_PER_UNIT",
    "View",
    "embedded",
    "map_view",
    "picture_view",
    "png_uri",
    "reduced",
    "reduction",
    "signed_view",
]

LARGEST = 4_000_000
"""Pixels of a picture that is embedded whole."""

_ALL_VIEWS = 48_000_000
"""Pixels of all pictures of a page together."""

LEVELS_PER_UNIT = 127.5
"""Grey levels, of 0 to 255, for one unit on [-1, 1]."""


@dataclass(frozen=True)
class View:
    """One picture of a page.

    Args:
        key: Name within the page, of letters, digits and hyphens.
        title: Short name, for buttons.
        alt: What it shows, for those who cannot see it.
        meaning: One sentence on how to read it.
        pixels: Levels (H, W) or (H, W, 3), uint8.
        scale: Values of the levels, in grey levels of 0 to 255.
        palette: Colours of the levels of a map, (256, 3), uint8; None for pictures.
        top: Value at the upper end of the colours of a map, in grey levels; None for pictures.
        frame: Left, top, width and height of the picture in pixels of the restoration; None if it
            covers the restoration.
    """

    key: str
    title: str
    alt: str
    meaning: str
    pixels: np.ndarray
    scale: Scale = GREY
    palette: np.ndarray | None = None
    top: float | None = None
    frame: tuple[float, float, float, float] | None = None

    @property
    def uri(self) -> str:
        """The picture as a data URI, in the colours in which it is shown."""
        return png_uri(self.pixels, self.palette)

    def described(self) -> dict[str, Any]:
        """Describe in plain values how the pixels are read back, for the viewer of the page."""
        height, width = self.pixels.shape[:2]
        found: dict[str, Any] = {
            "key": self.key,
            "title": self.title,
            "meaning": self.meaning,
            "width": width,
            "height": height,
            "low": self.scale.low,
            "step": self.scale.step,
            "gaps": self.scale.gaps,
            "top": self.top,
            "frame": self.frame,
            "palette": None,
            "gradient": None,
        }
        if self.palette is not None:
            found["palette"] = [bytes(colour).hex() for colour in self.palette.tolist()]
            found["gradient"] = self._gradient()
        return found

    def _gradient(self) -> list[str]:
        """Colours from the lower to the upper end of the bar, nine."""
        assert self.palette is not None and self.top is not None
        low = -self.top if self.scale.gaps else 0.0
        levels = self.scale.levels(np.linspace(low, self.top, 9))
        return [f"#{bytes(self.palette[level].tolist()).hex()}" for level in levels]


def png_uri(pixels: np.ndarray, palette: np.ndarray | None = None) -> str:
    """Encode pixels as a PNG in a data URI.

    Args:
        pixels: Pixels (H, W) or (H, W, 3), uint8; indices of the palette if there is one.
        palette: Colours (256, 3), uint8; None to show the pixels themselves.

    Returns:
        The URI, for the ``src`` of an image.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        picture = picture.convert("L")
        picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def embedded(uri: str) -> np.ndarray:
    """Read the pixels of a data URI of :func:`png_uri` back.

    Args:
        uri: The URI.

    Returns:
        Pixels (H, W) or (H, W, 3), uint8: grey levels, or indices of the palette.

    Example:
        >>> import numpy as np
        >>> embedded(png_uri(np.array([[0, 7], [9, 255]], np.uint8))).tolist()
        [[0, 7], [9, 255]]
    """
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def reduction(size: tuple[int, int], views: int) -> int:
    """Choose how many pixels of each side are averaged into one.

    Args:
        size: Height and width of a picture in pixels.
        views: Number of pictures.

    Returns:
        1 for pictures of at most 4 megapixels that have at most 48 together; else the smallest
        number that makes them so.

    Example:
        >>> reduction((96, 96), 12), reduction((3000, 4000), 4), reduction((2000, 2000), 20)
        (1, 2, 2)
    """
    pixels = math.prod(size)
    return max(1, math.ceil(math.sqrt(pixels / min(LARGEST, _ALL_VIEWS / views))))


def reduced(x: Tensor, factor: int) -> Tensor:
    """Average blocks of pixels; those at the end may be smaller.

    Args:
        x: Pictures (B, C, H, W).
        factor: Side of a block.

    Returns:
        Pictures (B, C, H / factor, W / factor), sides rounded up.
    """
    if factor == 1:
        return x
    return F.avg_pool2d(x.float(), factor, ceil_mode=True)


def picture_view(
    key: str,
    title: str,
    alt: str,
    meaning: str,
    x: Tensor,
    frame: tuple[float, float, float, float] | None = None,
) -> View:
    """Make the view of a picture.

    Args:
        key: Name within the page.
        title: Short name.
        alt: What it shows.
        meaning: How to read it.
        x: Picture (1, C, H, W) with C = 1 or 3 on [-1, 1]; clipped and rounded to grey levels.
        frame: Place in the restoration; None if it covers the restoration.

    Returns:
        The view.
    """
    return View(key, title, alt, meaning, to_uint8(x[0]), frame=frame)


def map_view(key: str, title: str, alt: str, meaning: str, values: Tensor) -> View:
    """Make the view of a map in false colours.

    Args:
        key: Name within the page.
        title: Short name.
        alt: What it shows.
        meaning: How to read it.
        values: Map (H, W), not negative, on [-1, 1].

    Returns:
        The view, in grey levels.
    """
    scale = Scale.upwards(float(values.max()) * LEVELS_PER_UNIT)
    top = nice_top(values) * LEVELS_PER_UNIT
    levels = scale.levels(values.double().numpy() * LEVELS_PER_UNIT)
    return View(key, title, alt, meaning, levels, scale, false_colours(scale, top), top)


def signed_view(key: str, title: str, alt: str, meaning: str, values: Tensor) -> View:
    """Make the view of a map of differences, blue below 0 and red above.

    Args:
        key: Name within the page.
        title: Short name.
        alt: What it shows.
        meaning: How to read it.
        values: Map (H, W) on [-1, 1], NaN where there is no value.

    Returns:
        The view, in grey levels.
    """
    seen = torch.nan_to_num(values.double().abs(), nan=0.0)
    scale = Scale.around_zero(float(seen.max()) * LEVELS_PER_UNIT)
    top = nice_top(seen) * LEVELS_PER_UNIT
    levels = scale.levels(values.double().numpy() * LEVELS_PER_UNIT)
    view = View(key, title, alt, meaning, levels, scale, top=top)
    return replace(view, palette=false_colours(scale, top))
