"""Plots as SVG within a page: in its colours, in both themes, with names of their own."""

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ACCENT", "SECOND", "inline_svg", "new_figure"]

ACCENT, SECOND = "#2f7fd6", "#c9701a"
"""Two colours that stand out from light and from dark ground."""

_INK = "#000001"
"""Stands for the colour of the text while matplotlib draws."""


def new_figure(
    width: float = 6.4, height: float = 3.8, rows: int = 1, columns: int = 1
) -> "Figure":
    """Start a plot in the style of the pages.

    Args:
        width: Width in inches.
        height: Height in inches.
        rows: Number of rows of pairs of axes.
        columns: Number of columns of them.

    Returns:
        The figure; its axes are ``figure.axes``, row by row.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.subplots(rows, columns)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6, color=_INK)
        for spine in axes.spines.values():
            spine.set_color(_INK)
        axes.tick_params(colors=_INK)
        axes.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    return figure


def inline_svg(figure: "Figure", label: str, name: str) -> str:
    """Write a plot as an SVG element.

    Text stays text, in the font and the colour of the page.

    Args:
        figure: Plot of :func:`new_figure`.
        label: What it shows, for those who cannot see it.
        name: Name within the page, of letters, digits and hyphens.

    Returns:
        The element.
    """
    import matplotlib
    from markupsafe import escape

    for axes in figure.axes:
        for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
            text.set_color(_INK)
        legend = axes.get_legend()
        if legend is not None:
            legend.get_frame().set_alpha(0)
            for text in legend.get_texts():
                text.set_color(_INK)
        for text in axes.texts:
            text.set_color(_INK)
    buffer = io.StringIO()
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with matplotlib.rc_context(style):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1system-ui, sans-serif", svg)
    svg = svg.replace(_INK, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
