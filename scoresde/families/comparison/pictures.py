"""Figures of the comparison: grids of draws, the trilemma, and the sheet of restorations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde.data.figures import image_grid
from scoresde.data.images import from_bytes, to_bytes
from scoresde.families.comparison.judge import Judged
from scoresde.files import write_atomically

__all__ = ["draws_sheet", "restoration_sheet", "trilemma"]

_COLOURS = {
    "vae": "#4477aa",
    "gan": "#ee6677",
    "flow": "#228833",
    "autoregressive": "#ccbb44",
    "diffusion": "#aa3377",
    "data": "#555555",
}


def _figure(width: float, height: float):  # type: ignore[no-untyped-def]
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _show(axes, picture: Tensor) -> None:  # type: ignore[no-untyped-def]
    """Show a picture, shape (C, H, W), uint8."""
    array = picture.permute(1, 2, 0).numpy()
    axes.imshow(
        array if array.shape[2] == 3 else array[..., 0],
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )
    axes.set_axis_off()


def draws_sheet(entries: Sequence[tuple[str, Tensor]], path: Path) -> None:
    """Write a PNG with a grid of draws under each title, three grids per row.

    Args:
        entries: Titles and draws, each shape (n, C, H, W), uint8.
        path: Path of the PNG.
    """
    rows = -(-len(entries) // 3)
    figure = _figure(10.5, 3.75 * rows)
    for k, (title, draws) in enumerate(entries):
        axes = figure.add_subplot(rows, 3, k + 1)
        _show(axes, to_bytes(image_grid(from_bytes(draws), gap=1)))
        axes.set_title(title, fontsize=10)
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.3 / (3.75 * rows), bottom=0.01, wspace=0.03, hspace=0.1
    )
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def trilemma(judged: Sequence[Judged], data: Judged, path: Path) -> None:
    """Plot quality and coverage against speed.

    The samplers of one network are joined by a line. The five families have large solid markers,
    all other entrants small hollow ones.

    Args:
        judged: Results of the entrants.
        data: Scores of other data, shown as a dashed line.
        path: Path of the PNG.
    """
    figure = _figure(11, 4.6)
    panels = (
        ("fid", "quality: Fréchet distance, log scale (up is better)"),
        ("recall", "coverage: recall"),
    )
    for k, (what, label) in enumerate(panels):
        axes = figure.add_subplot(1, 2, k + 1)
        axes.axhline(
            data.scores["quality"][what], color=_COLOURS["data"], linestyle="--", linewidth=1
        )
        axes.annotate(
            "other data",
            (0.01, data.scores["quality"][what]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
            color=_COLOURS["data"],
        )
        points: dict[str, list[tuple[float, float, str, str]]] = {}
        for one in judged:
            # entrants without restorations are other samplers of one network
            family = one.name if "restoration" in one.scores else one.name.split("-")[0]
            points.setdefault(family, []).append(
                (
                    1 / one.scores["seconds_per_sample"],
                    one.scores["quality"][what],
                    one.title,
                    one.name,
                )
            )
        for family, members in points.items():
            colour = _COLOURS.get(family.split("-")[0], _COLOURS["data"])
            members.sort()
            axes.plot(
                [m[0] for m in members],
                [m[1] for m in members],
                color=colour,
                linewidth=0.8,
                alpha=0.6,
            )
            for speed, value, title, name in members:
                main, alone = name in _COLOURS, len(members) == 1
                axes.plot(
                    speed,
                    value,
                    "o",
                    color=colour,
                    markersize=9 if main else 6,
                    markerfacecolor=colour if main else "white",
                )
                axes.annotate(
                    title,
                    (speed, value),
                    xytext=(6, 6) if main else (5, 4 if alone else -10),
                    textcoords="offset points",
                    fontsize=8.5 if main else 7,
                    color=colour,
                    fontweight="bold" if main else "normal",
                )
        axes.set_xscale("log")
        if what == "fid":
            axes.set_yscale("log")
            axes.invert_yaxis()
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 4)  # room for the labels
        axes.set_xlabel("speed: pictures a second, log scale")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def restoration_sheet(
    judged: Sequence[Judged], truth: Tensor, measured: dict[str, Tensor], path: Path, rows: int = 3
) -> None:
    """Write a PNG of the restorations of each problem.

    A row shows the truth, the measurement, and for each entrant the mean of its draws, one draw,
    and the standard deviation of the draws.

    Args:
        judged: Results of the entrants.
        truth: True pictures, shape (B, C, H, W), uint8.
        measured: Measurements of these by problem, as pictures of any size, uint8.
        path: Path of the PNG.
        rows: Pictures of each problem, from the first.
    """
    problems, rows = list(measured), min(rows, len(truth))
    columns, side, head, left = 2 + 3 * len(judged), 0.62, 0.5, 0.25
    width, height = (
        left + columns * side + 0.12 * len(judged),
        head + len(problems) * (rows * side + 0.12),
    )
    figure = _figure(width, height)
    top = height - head
    for p, problem in enumerate(problems):
        for r in range(rows):
            y0 = top - (p * (rows * side + 0.12)) - (r + 1) * side
            cells: list[tuple[Tensor | np.ndarray, str]] = [
                (truth[r], "truth"),
                (measured[problem][r], "measured"),
            ]
            for one in judged:
                draws = one.pictures[problem][:, r].float()
                cells += [
                    (draws.mean(0).round().to(torch.uint8), "mean"),
                    (one.pictures[problem][0, r], "a draw"),
                    (from_bytes(draws).std(0)[0].numpy(), "deviation"),
                ]
            for c, (cell, name) in enumerate(cells):
                x0 = left + c * side + 0.12 * max(0, (c - 2) // 3 + 1 if c >= 2 else 0)
                axes = figure.add_axes(
                    (x0 / width, y0 / height, 0.96 * side / width, 0.96 * side / height)
                )
                if isinstance(cell, np.ndarray):
                    axes.imshow(cell, cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
                    axes.set_axis_off()
                else:
                    _show(axes, cell)
                if p == 0 and r == 0:
                    axes.set_title(name, fontsize=6.5, pad=2)
                    if c >= 2 and (c - 2) % 3 == 1:
                        axes.text(
                            0.5,
                            1.42,
                            judged[(c - 2) // 3].title,
                            transform=axes.transAxes,
                            ha="center",
                            fontsize=9,
                            fontweight="bold",
                        )
        middle = top - p * (rows * side + 0.12) - rows * side / 2
        figure.text(
            0.1 / width,
            middle / height,
            problem,
            rotation=90,
            ha="center",
            va="center",
            fontsize=8.5,
        )
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))
