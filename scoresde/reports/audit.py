"""The page of `scoresde audit`."""

import math
from typing import Any

from scoresde.reports.figures import ACCENT, SECOND, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page

__all__ = ["audit_page"]

_RANKS = "ranks: "
_COLUMNS = (
    Column(
        "name",
        "Test",
        "Ranks: is the truth as likely to lie at any place among the draws, by one function of the "
        "picture? Coverage: do the intervals of the draws hold the truth as often as they say? "
        "Residual: is the squared misfit of a draw to the measurement that of the noise? Variance: "
        "is the spread of the draws as large as their error?",
    ),
    Column(
        "found",
        "Found",
        "What was found; for ranks the chi-squared statistic of their histogram.",
        ".3g",
    ),
    Column("expected", "Expected", "What an exact solver gives on average.", ".3g"),
    Column(
        "chance",
        "± chance",
        "An exact solver lies this close to what is expected in 95 % of all audits; ranks have no "
        "such number.",
        ".2g",
    ),
    Column(
        "p",
        "p",
        "Probability that an exact solver looks at least as bad in this test alone.",
        ".2g",
    ),
    Column(
        "verdict",
        "Verdict",
        "Fails, if chance does not explain it, with all tests considered: an exact solver fails "
        "any of them in at most 5 % of all audits (Holm 1979).",
    ),
)


def audit_page(report: dict[str, Any], command: str, environment: dict[str, str]) -> str:
    """Make the page of an audit.

    Args:
        report: Report of :func:`scoresde.pipelines.audit.audit_named`.
        command: The command that made it.
        environment: Versions and device, by name.

    Returns:
        One self-contained HTML file.
    """
    rows = [row | {"verdict": "fails" if row["rejected"] else "passes"} for row in report["rows"]]
    failed = {row["name"] for row in rows if row["rejected"]}
    runs, draws = report["runs"], report["draws"]
    tests = Section(
        "Tests",
        "Each asks whether the truth could be one more draw, as it is for an exact solver.",
        _COLUMNS,
        rows,
    )
    plot = Plot(
        "Rank of the truth among the draws",
        inline_svg(_histograms(report, failed), _described(report), "ranks"),
        "One histogram for each function of the picture; orange ones fail. The dashed line is an "
        "exact solver, of whose bars 95 % end within the band. High on both sides: the draws vary "
        "too little. High in the middle: too much. High on the left: the draws lie too high.",
    )
    ranks = Section(
        "Ranks",
        f"Each of {runs} truths was measured and restored {draws} times. From left to right: the "
        f"truth lies below all {draws} draws, …, above all of them.",
        plots=[plot],
    )
    dropped = ("rows", "histograms", "problem")
    page = TablePage(
        "Can this solver be trusted here?",
        _lead(report, [row["name"] for row in rows if row["rejected"]]),
        [ranks, tests],
        command,
        environment,
        {k: v for k, v in report.items() if k not in dropped}
        | {f"problem, {k}": v for k, v in report["problem"].items()},
    )
    return table_page(page)


def _lead(report: dict[str, Any], failed: list[str]) -> str:
    where = (
        f"{report['solver']} with the prior {report['prior']} on {report['runs']} measurements of "
        "pictures that were drawn from the prior itself"
    )
    if not failed:
        return f"Passes: chance explains all differences. Tested: {where}."
    return f"Fails: {', '.join(failed)}. Tested: {where}."


def _histograms(report: dict[str, Any], failed: set[str]) -> Any:
    histograms = report["histograms"]
    columns = min(4, len(histograms))
    rows = math.ceil(len(histograms) / columns)
    figure = new_figure(8.4, 0.3 + 1.6 * rows, rows, columns)
    runs = report["runs"]
    for axes in figure.axes[len(histograms) :]:
        axes.set_visible(False)
    for axes, (name, counts) in zip(figure.axes, histograms.items(), strict=False):
        share = 1 / len(counts)
        half = 1.96 * math.sqrt(runs * share * (1 - share))
        axes.set_axisbelow(True)
        axes.axhspan(max(runs * share - half, 0), runs * share + half, color="#888888", alpha=0.18)
        axes.bar(
            range(len(counts)),
            counts,
            width=0.85,
            color=SECOND if _RANKS + name in failed else ACCENT,
        )
        axes.axhline(runs * share, linestyle="--", color="#888888", linewidth=1)
        axes.set_xticks([])
        axes.set_title(name, fontsize=9)
    return figure


def _described(report: dict[str, Any]) -> str:
    parts = [f"{name} {' '.join(map(str, one))}" for name, one in report["histograms"].items()]
    return f"Histograms of the ranks; counts: {'; '.join(parts)}"
