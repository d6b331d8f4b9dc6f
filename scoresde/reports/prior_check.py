"""The page of `scoresde check-prior`."""

import math
from typing import Any

from scoresde.reports.figures import ACCENT, SECOND, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page

__all__ = ["prior_check_page"]

_COLUMNS = (
    Column("s", "Noise", "Standard deviation of the noise, in the units of the samples.", ".3g"),
    Column("error", "Error", "Squared error of the prior over that of the noisy samples.", ".3g"),
    Column(
        "linear",
        "Linear",
        "The same of a Wiener filter, the best linear denoiser of samples like these. A prior that "
        "does worse is wrong or was not trained on such samples.",
        ".3g",
    ),
    Column("slope", "Slope", "Of the noise on the residual u − D(u); 1 if exact.", ".3f"),
    Column("slope_error", "± slope", "Its standard error.", ".2g"),
    Column("bias", "Bias", "Mean of D(u) − x₀; 0 if exact.", ".2g"),
    Column("bias_error", "± bias", "Its standard error.", ".2g"),
    Column(
        "calibration",
        "Calibration",
        "Squared error over s² tr J, the variance that the prior itself states; 1 if exact.",
        ".3f",
    ),
    Column("calibration_error", "± calibration", "Its standard error.", ".2g"),
    Column(
        "asymmetry",
        "Asymmetry",
        "Antisymmetric over symmetric part of the Jacobian J; 0 if exact.",
        ".2g",
    ),
    Column("found", "Found", "What stands out at this level, chance excluded."),
)


def prior_check_page(report: dict[str, Any], command: str, environment: dict[str, str]) -> str:
    """Make the page of a check of a prior.

    Args:
        report: Report of :func:`scoresde.pipelines.prior_check.look_over`, with "prior", its name.
        command: The command that made it.
        environment: Versions and device, by name.

    Returns:
        One self-contained HTML file.
    """
    rows = [row | {"found": "; ".join(row["words"]) or "–"} for row in report["levels"]]
    plots = [
        Plot(
            "Error against noise",
            inline_svg(_errors(rows), _described(rows, "error"), "errors"),
            "Over that of the noisy samples, which is 1. The prior should lie below the linear "
            "filter.",
        ),
        Plot(
            "Slope and calibration",
            inline_svg(_ratios(rows), _described(rows, "slope"), "ratios"),
            "Both are 1 for an exact denoiser; bars are two standard errors. Calibration above 1: "
            "the prior is too sure of itself.",
        ),
    ]
    section = Section(
        "Noise levels",
        f"{report['count']} samples of shape {' × '.join(map(str, report['shape']))}: "
        f"{report['samples']}, with noise of each level.",
        _COLUMNS,
        rows,
        plots,
    )
    findings = report["findings"]
    facts = {
        "prior": report["prior"],
        "samples": report["samples"],
        "sizes": report["sizes"],
        "seconds for a megapixel": report["seconds_per_megapixel"],
        "megabytes with gradients for one sample": report["megabytes"],
        "seed": report["seed"],
    }
    notes = {f"note {i}": note for i, note in enumerate(report["notes"], 1)}
    page = TablePage(
        "Is this prior a denoiser?",
        _lead(report["prior"], len(findings), len(rows)),
        [section],
        command,
        environment,
        facts | notes,
        findings,
    )
    return table_page(page)


def _lead(prior: str, findings: int, levels: int) -> str:
    if not findings:
        return (
            f"No findings: at {levels} noise levels the prior {prior} does what a denoiser does, "
            "as far as these samples tell."
        )
    return f"{findings} finding{'s' if findings > 1 else ''} on the prior {prior}."


def _finite(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [row for row in rows if row[key] is not None and math.isfinite(row[key])]


def _errors(rows: list[dict[str, Any]]) -> Any:
    figure = new_figure(5.6, 3.4)
    axes = figure.axes[0]
    axes.axhline(1, linestyle="--", color="#888888", linewidth=1)
    for key, title, colour, marker in (
        ("linear", "linear filter", SECOND, "s-"),
        ("error", "prior", ACCENT, "o-"),
    ):
        found = [row for row in _finite(rows, key) if row[key] > 0]
        axes.plot(
            [row["s"] for row in found],
            [row[key] for row in found],
            marker,
            color=colour,
            label=title,
            markersize=4,
        )
    axes.set(xlabel="noise", ylabel="squared error / noise", xscale="log", yscale="log")
    axes.legend(loc="lower left")
    return figure


def _ratios(rows: list[dict[str, Any]]) -> Any:
    figure = new_figure(5.6, 3.4)
    axes = figure.axes[0]
    axes.axhline(1, linestyle="--", color="#888888", linewidth=1)
    for key, colour, marker in (("slope", ACCENT, "o-"), ("calibration", SECOND, "s-")):
        found = _finite(rows, key)
        if found:
            axes.errorbar(
                [row["s"] for row in found],
                [row[key] for row in found],
                yerr=[2 * row[f"{key}_error"] for row in found],
                fmt=marker,
                color=colour,
                label=key,
                markersize=4,
                elinewidth=1,
            )
    axes.set(xlabel="noise", xscale="log")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
    return figure


def _described(rows: list[dict[str, Any]], key: str) -> str:
    parts = [f"{row['s']:.3g}: {row[key]:.3g}" for row in _finite(rows, key)]
    return f"Plot against the noise; {key} at {', '.join(parts)}"
