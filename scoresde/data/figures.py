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

from scoresde.data.images import to_uint8
from scoresde.files import write_atomically

__all__ = ["Panel", "colour_map", "image_grid", "nice_top", "sheet", "write_map"]


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

    scaled = (values.detach().float().cpu() / max(top, 1e-12)).clamp(0, 1).numpy()
    return (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).round().astype(np.uint8)


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

    Args:
        rows: Panels of each row.
        path: Path of the file.
        titles: Headings of the columns; None for no headings.

    Raises:
        InputError: If the file cannot be written.
    """
    from matplotlib import patheffects
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    side, caption, head = 2.3, 0.42, 0.3 if titles else 0.04  # inches
    heights = [
        max(p.image.shape[-2] / p.image.shape[-1] for p in row) * side + caption for row in rows
    ]
    height = sum(heights) + head
    figure = Figure(figsize=(columns * side * 1.03, height), dpi=160, facecolor="white")
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
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            axes.set_axis_off()
            axes.set_anchor("N")
            if panel.image.ndim == 2:
                shown = axes.imshow(
                    panel.image.cpu().numpy(),
                    cmap="inferno",
                    vmin=0,
                    vmax=panel.top,
                    interpolation="nearest",
                )
                inset = axes.inset_axes((0.55, 0.045, 0.4, 0.03))
                bar = figure.colorbar(
                    shown, cax=inset, orientation="horizontal", ticks=[0, panel.top or 1]
                )
                bar.ax.tick_params(
                    colors="white", labelsize=6, length=0, pad=1, labeltop=True, labelbottom=False
                )
                outlined = [patheffects.withStroke(linewidth=1.5, foreground="black")]
                bar.ax.set_xticklabels(["0", f"{panel.top:.2g}"], path_effects=outlined)
                bar.outline.set_visible(False)  # type: ignore[operator]
            else:
                picture = to_uint8(panel.image)
                axes.imshow(
                    picture,
                    cmap="gray" if picture.ndim == 2 else None,
                    vmin=0,
                    vmax=255,
                    interpolation="nearest",
                )
            style: dict[str, Any] = {"transform": axes.transAxes, "ha": "center"}
            axes.text(0.5, -0.02, panel.caption, va="top", fontsize=7.5, linespacing=1.25, **style)
            if i == 0 and titles and j < len(titles):
                axes.text(0.5, 1.03, titles[j], va="bottom", fontsize=9, fontweight="bold", **style)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))
