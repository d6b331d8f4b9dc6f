"""The page of `scoresde calibrate`."""

from typing import Any

from scoresde.reports.figures import ACCENT, SECOND, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page
from scoresde.reports.views import LEVELS_PER_UNIT

__all__ = ["calibration_page"]

_COLUMNS = (
    Column("level", "Level", "Share of the pixels that the intervals should hold.", ".0%"),
    Column(
        "scale",
        "Scale",
        "Half width of the calibrated intervals in standard deviations of the draws; a Gaussian "
        "needs 1.645 for 90 %.",
        ".3f",
    ),
    Column(
        "coverage_before",
        "Coverage before",
        "Share of the pixels whose truth lies in the uncalibrated interval, as of a Gaussian.",
        ".1%",
    ),
    Column(
        "coverage_after",
        "Coverage after",
        "The same with calibration, each picture by the scale of all others.",
        ".1%",
    ),
    Column(
        "width_before",
        "Width before",
        "Mean width of the uncalibrated intervals in grey levels of 0 to 255.",
        ".1f",
    ),
    Column(
        "width_after",
        "Width after",
        "Mean width of the calibrated intervals in grey levels of 0 to 255.",
        ".1f",
    ),
)


def calibration_page(report: dict[str, Any], command: str, environment: dict[str, str]) -> str:
    """Make the page of a calibration.

    Args:
        report: Report of :func:`scoresde.pipelines.calibrate.calibrate`.
        command: The command that made it.
        environment: Versions and device, by name.

    Returns:
        One self-contained HTML file.
    """
    rows = [
        {
            **row,
            "width_before": row["mean_width_before"] * LEVELS_PER_UNIT,
            "width_after": row["mean_width_after"] * LEVELS_PER_UNIT,
        }
        for row in report["levels"]
    ]
    section = Section(
        "Coverage",
        f"On {report['pictures']} pictures of {report['crop']} × {report['crop']} pixels, each "
        "measured and restored as it will be.",
        _COLUMNS,
        rows,
        [
            Plot(
                "Coverage against its level",
                inline_svg(_coverage(rows), _described(rows), "coverage"),
                "On the dashed line the intervals hold what they promise; below it they are too "
                "narrow.",
            )
        ],
    )
    page = TablePage(
        "Calibrated intervals",
        _lead(rows, report["pictures"]),
        [section],
        command,
        environment,
        {k: v for k, v in report.items() if k != "levels" and not isinstance(v, dict | list)},
    )
    return table_page(page)


def _lead(rows: list[dict[str, Any]], pictures: int) -> str:
    row = min(rows, key=lambda one: abs(one["level"] - 0.9))
    return (
        f"Uncalibrated {row['level']:.0%} intervals held the truth in "
        f"{row['coverage_before']:.1%} of the pixels; scaled to {row['scale']:.3g} standard "
        f"deviations they hold at least {row['level']:.0%} on average, for pictures like these "
        f"{pictures}."
    )


def _coverage(rows: list[dict[str, Any]]) -> Any:
    figure = new_figure(5.2, 4.4)
    axes = figure.axes[0]
    levels = [row["level"] for row in rows]
    axes.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
    for key, title, colour in (
        ("coverage_before", "before", SECOND),
        ("coverage_after", "after", ACCENT),
    ):
        found = [(a, row[key]) for a, row in zip(levels, rows, strict=True) if row[key] is not None]
        if found:
            xs, ys = zip(*sorted(found), strict=True)
            axes.plot(xs, ys, "o-", color=colour, label=title, markersize=5)
    axes.set(xlabel="level", ylabel="coverage", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    return figure


def _described(rows: list[dict[str, Any]]) -> str:
    parts = [f"level {row['level']:.0%}: {row['coverage_before']:.0%} before" for row in rows]
    return f"Plot of coverage against level; {'; '.join(parts)}"
