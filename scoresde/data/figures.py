"""What a person looks at: picture sheets and JSON."""

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
    """One picture of a sheet: image (C, H, W) in [-1, 1], or a map (H, W) shown in false colours from 0 to ``top``."""

    image: Tensor
    caption: str
    top: float | None = None


def colour_map(values: Tensor, top: float) -> np.ndarray:
    """(H, W) in [0, top] -> (H, W, 3) uint8 in the perceptually uniform "inferno" colours."""
    import matplotlib

    scaled = (values.detach().float().cpu() / max(top, 1e-12)).clamp(0, 1).numpy()
    return (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).round().astype(np.uint8)


def nice_top(values: Tensor) -> float:
    """A round number near the largest of a map's values: where its colours end."""
    return float(
        f"{max(float(values.flatten().double().quantile(0.995)) if values.numel() < 1 << 23 else float(values.max()), 1e-3):.1g}"
    )


def write_map(values: Tensor, path: Path) -> float:
    """Write (H, W) >= 0 as a PNG in false colours; the value that is white."""
    top = nice_top(values)
    colours = Image.fromarray(colour_map(values, top))
    write_atomically(path, lambda temporary: colours.save(temporary, format="PNG"))
    return top


def image_grid(images: Tensor, gap: int = 2) -> Tensor:
    """(n, C, H, W) -> one image (C, ...), nearly square, white between the pictures."""
    columns = math.ceil(math.sqrt(len(images)))
    images = F.pad(images, (0, gap, 0, gap), value=1.0)
    blank = torch.ones(-len(images) % columns, *images.shape[1:], dtype=images.dtype)
    return rearrange(torch.cat([images, blank]), "(r c) k h w -> k (r h) (c w)", c=columns)[
        :, :-gap, :-gap
    ]


def sheet(rows: list[list[Panel]], path: Path, titles: list[str] | None = None) -> None:
    """Write a PNG of rows of panels, each with its caption. titles: a heading over each column."""
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
