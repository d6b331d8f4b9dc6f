"""Figures: sheets of images and maps in false colours."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from scoresde.data.images import row_blocks, to_uint8
from scoresde.errors import InputError
from scoresde.files import write_atomically

__all__ = [
    "Panel",
    "check_picture_name",
    "colour_map",
    "image_grid",
    "nice_top",
    "sheet",
    "write_map",
]

_SIDE, _CAPTION = 2.3, 0.42  # of a panel, in inches

_TALLEST, _LOWEST = 2.0, 0.25
"""Height over width of the room for a panel. A longer strip is scaled into it as a whole."""

_DPI, _MOST_PIXELS = 160, 1 << 25

_MOST_SHOWN = 1500  # pixels along a side of a panel, which has 370

_THINNEST = 3.0
"""Pixels of the sheet that a strip is wide, or high, at least."""


def check_picture_name(path: Path) -> None:
    """Check that a picture can be written under a name, before the work that makes it.

    Args:
        path: Path of the file to write.

    Raises:
        InputError: If the suffix is of no format that can be written.

    Example:
        >>> from pathlib import Path
        >>> from scoresde.data.figures import check_picture_name
        >>> check_picture_name(Path("draws.png"))
    """
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"cannot write {path}: {path.suffix!r} is no format of pictures; use .png")


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Args:
        image: Image, shape (C, H, W), on [-1, 1], or map, shape (H, W), not negative, which is
            shown in false colours.
        caption: Text under the picture.
        top: Value of a map at the upper end of the colours; None for images.
    """

    image: Tensor
    caption: str
    top: float | None = None


def colour_map(values: Tensor, top: float) -> np.ndarray:
    """Convert a map to the perceptually uniform "inferno" colours.

    Args:
        values: Map, shape (H, W), not negative.
        top: Value at the upper end of the colours.

    Returns:
        Colours, shape (H, W, 3), uint8.
    """
    import matplotlib

    colours = np.empty((*values.shape, 3), np.uint8)
    for rows in row_blocks(values.shape):
        scaled = (values[rows].detach().float().cpu() / max(top, 1e-12)).clamp(0, 1).numpy()
        colours[rows] = (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).round()
    return colours


def nice_top(values: Tensor) -> float:
    """Choose the upper end of the colours of a map.

    Args:
        values: Map, shape (H, W), not negative.

    Returns:
        The 99.5 % quantile of the values (for maps of more than 2^23 pixels their maximum), at
        least
        0.001, rounded to one digit.

    Example:
        >>> import torch
        >>> nice_top(torch.full((4, 4), 0.234))
        0.2
    """
    # torch's quantile takes a limited number of entries
    few = values.numel() < 1 << 23
    top = float(values.flatten().double().quantile(0.995) if few else values.max())
    return float(f"{max(top, 1e-3):.1g}")


def write_map(values: Tensor, path: Path) -> float:
    """Write a map as a PNG in false colours.

    Args:
        values: Map, shape (H, W), not negative.
        path: Path of the file.

    Returns:
        The value at the upper end of the colours.

    Raises:
        InputError: If the file cannot be written.
    """
    top = nice_top(values)
    colours = Image.fromarray(colour_map(values, top))
    write_atomically(path, lambda temporary: colours.save(temporary, format="PNG"))
    return top


def image_grid(images: Tensor, gap: int = 2) -> Tensor:
    """Arrange images in a nearly square grid with white gaps.

    Args:
        images: Images, shape (n, C, H, W), on [-1, 1].
        gap: Width of the gaps in pixels, at least 1.

    Returns:
        One image, shape (C, ...), on [-1, 1].

    Example:
        >>> import torch
        >>> image_grid(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([1, 18, 28])
    """
    columns = math.ceil(math.sqrt(len(images)))
    images = F.pad(images, (0, gap, 0, gap), value=1.0)
    blank = torch.ones(-len(images) % columns, *images.shape[1:], dtype=images.dtype)
    return rearrange(torch.cat([images, blank]), "(r c) k h w -> k (r h) (c w)", c=columns)[
        :, :-gap, :-gap
    ]


def sheet(rows: list[list[Panel]], path: Path, titles: list[str] | None = None) -> None:
    """Write a PNG of rows of panels with captions.

    Strips far longer than wide are scaled down as a whole, and a sheet of very many panels as well,
    so that the size of the file is bounded.

    Args:
        rows: Panels of each row.
        path: Path of the file.
        titles: Headings of the columns; None for no headings.

    Raises:
        InputError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    head = 0.3 if titles else 0.04  # inches
    heights = [max(_room(panel) for panel in row) * _SIDE + _CAPTION for row in rows]
    width, height = columns * _SIDE * 1.03, sum(heights) + head
    dpi = min(_DPI, math.sqrt(_MOST_PIXELS / (width * height)))
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows),
        columns,
        height_ratios=heights,
        left=0.006,
        right=0.994,
        bottom=0.0,
        top=1 - head / height,
        wspace=0.03,
        hspace=0.0,
    )
    style: dict[str, Any] = {"ha": "center"}
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            cell = figure.add_subplot(grid[i, j])
            cell.set_axis_off()
            room = 1 - _CAPTION / heights[i]
            box = (0.0, 1 - room, 1.0, room)
            axes = cell.inset_axes(box)
            axes.set_axis_off()
            axes.set_anchor("N")
            shown = _show(axes, panel)
            if panel.image.ndim == 2:
                _colour_bar(figure, cell, axes, shown, panel, box)
            under = axes if _is_ordinary(panel) else cell
            y = -0.02 if under is axes else box[1]
            caption = under.text(
                0.5,
                y,
                panel.caption,
                va="top",
                fontsize=7.5,
                linespacing=1.25,
                transform=under.transAxes,
                **style,
            )
            caption.set_in_layout(False)
            if i == 0 and titles and j < len(titles):
                cell.text(
                    0.5,
                    1 + 0.07 / heights[0],
                    titles[j],
                    va="bottom",
                    fontsize=9,
                    fontweight="bold",
                    transform=cell.transAxes,
                    **style,
                )
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def _aspect(panel: Panel) -> float:
    return panel.image.shape[-2] / panel.image.shape[-1]


def _is_ordinary(panel: Panel) -> bool:
    """Whether the panel is no strip: it fills its column, and is not very low."""
    return _LOWEST <= _aspect(panel) <= _TALLEST


def _room(panel: Panel) -> float:
    """Height of the room for a panel, over the width of its column."""
    return min(max(_aspect(panel), _LOWEST), _TALLEST)


def _stretch(panel: Panel) -> float:
    """Height over width of a pixel in the figure: 1, unless a strip would be too thin to see."""
    height, width = panel.image.shape[-2:]
    down, across = _room(panel) * _SIDE * _DPI, _SIDE * _DPI
    scale = min(down / height, across / width)
    down, across = (max(_THINNEST, scale * side) for side in (height, width))
    return (down / height) / (across / width)


def _show(axes: Any, panel: Panel) -> Any:
    """Draw the picture, or the map in false colours."""
    aspect = _stretch(panel)
    # of a large picture every few pixels, still more than the figure has
    step = max(1, max(panel.image.shape[-2:]) // _MOST_SHOWN)
    image = panel.image[..., ::step, ::step]
    if image.ndim == 2:
        return axes.imshow(
            image.cpu().numpy(),
            cmap="inferno",
            vmin=0,
            vmax=panel.top,
            interpolation="nearest",
            aspect=aspect,
        )
    picture = to_uint8(image)
    return axes.imshow(
        picture,
        cmap="gray" if picture.ndim == 2 else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        aspect=aspect,
    )


def _colour_bar(
    figure: Any, cell: Any, axes: Any, shown: Any, panel: Panel, box: tuple[float, ...]
) -> None:
    """Draw the colours of a map: on it, or in the empty room beside or below a strip."""
    from matplotlib import patheffects

    if _is_ordinary(panel):
        inset, colour, outline = axes.inset_axes((0.55, 0.045, 0.4, 0.03)), "white", "black"
    else:
        bottom, height = box[1] + 0.1 * box[3], 0.03 if _aspect(panel) > 1 else 0.15
        inset = cell.inset_axes((0.6, bottom, 0.35, height * box[3]))
        colour, outline = "black", "white"
    ends = [0, panel.top or 1]
    bar = figure.colorbar(shown, cax=inset, orientation="horizontal", ticks=ends)
    bar.ax.tick_params(
        colors=colour, labelsize=6, length=0, pad=1, labeltop=True, labelbottom=False
    )
    outlined = [patheffects.withStroke(linewidth=1.5, foreground=outline)]
    bar.ax.set_xticklabels(["0", f"{panel.top:.2g}"], path_effects=outlined)
    # its bright end would be lost on a bright part of the map
    bar.outline.set_edgecolor(colour)
    bar.outline.set_linewidth(0.5)
