"""The page of `scoresde verify`."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from scoresde.reports.figures import ACCENT, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page

__all__ = ["verification_page"]

_COLUMNS = (
    Column("problem", "Problem", "A problem whose posterior is known in closed form."),
    Column("solver", "Solver", "Name of the posterior sampler."),
    Column(
        "distance",
        "Distance",
        "Sliced Wasserstein-2 distance to exact draws over that of two sets of exact draws; 1 is "
        "as good as exact.",
        ".3g",
    ),
    Column("floor_scatter", "Scatter", "How far from 1 an exact solver may be by chance.", ".2f"),
    Column("mean", "Mean", "Error of the mean in standard deviations of the posterior.", ".3g"),
    Column("cov", "Covariance", "Relative error of the covariance.", ".3g"),
    Column("modes", "Modes", "Total variation between exact and found weights of modes.", ".3f"),
    Column("cover50", "Covers 50", "Share of exact draws within its 50 % intervals.", ".3f"),
    Column("cover90", "Covers 90", "Share of exact draws within its 90 % intervals.", ".3f"),
    Column("cover95", "Covers 95", "Share of exact draws within its 95 % intervals.", ".3f"),
    Column("seen", "Seen", "Variance over the exact one where the measurement sees.", ".2f"),
    Column("unseen", "Unseen", "The same where the measurement does not see.", ".2f"),
    Column("nfe", "Evaluations", "Network evaluations for a draw.", ".0f"),
    Column("vjps", "Products", "Products with the Jacobian of the network for a draw.", ".0f"),
    Column("milliseconds", "ms", "Processor time of a draw in milliseconds.", ".2f"),
)
_REFUSED = (
    Column("problem", "Problem", "A problem whose posterior is known in closed form."),
    Column("solver", "Solver", "Name of the posterior sampler."),
    Column("refused", "Reason", "What the solver needs and the problem does not have."),
)


def verification_page(
    rows: Sequence[dict[str, Any]],
    command: str,
    environment: dict[str, str],
    settings: dict[str, Any],
) -> str:
    """Make the page of a verification.

    Args:
        rows: Rows of :func:`solvers.verification.table`.
        command: The command that made it.
        environment: Versions and device, by name.
        settings: Number of draws and of seeds, by name.

    Returns:
        One self-contained HTML file.
    """
    done = [row | {"milliseconds": 1e3 * row["seconds"]} for row in rows if "refused" not in row]
    refused = [row for row in rows if "refused" in row]
    sections = []
    if done:
        plot = Plot(
            "Distance of each solver",
            inline_svg(_distances(done), _described(done), "distances"),
            "One point for each problem; the dashed line is an exact solver. Points at the right "
            "are far from the posterior.",
        )
        sections.append(
            Section(
                "Solvers against exact posteriors",
                "Draws of each solver, compared with draws of the exact posterior.",
                _COLUMNS,
                done,
                [plot],
            )
        )
    if refused:
        sections.append(
            Section(
                "Not applicable",
                "These solvers cannot do these problems, and say so.",
                _REFUSED,
                refused,
            )
        )
    page = TablePage(
        "Solvers against exact posteriors", _lead(done), sections, command, environment, settings
    )
    return table_page(page)


def _by_solver(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Distances of each solver, the nearest solver first."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["solver"], []).append(row["distance"])
    return dict(sorted(found.items(), key=lambda item: median(item[1])))


def _lead(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "None of these solvers can do these problems."
    # an exact solver is within three deviations of the floor in nearly all problems
    near = sum(row["distance"] <= 1 + 3 * row["floor_scatter"] for row in rows)
    best, distances = next(iter(_by_solver(rows).items()))
    return (
        f"{near} of {len(rows)} pairs of solver and problem are as near to the exact posterior as "
        f"chance allows. Nearest by its median: {best}, {median(distances):.3g} times the distance "
        "of exact draws."
    )


def _distances(rows: list[dict[str, Any]]) -> Any:
    from matplotlib.ticker import LogLocator, NullLocator

    found = list(_by_solver(rows).items())[::-1]
    figure = new_figure(7.2, 0.9 + 0.26 * len(found))
    axes = figure.axes[0]
    axes.axvline(1, linestyle="--", color="#888888", linewidth=1)
    for height, (_, distances) in enumerate(found):
        axes.plot(distances, [height] * len(distances), "o", color=ACCENT, alpha=0.65, markersize=5)
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="distance, 1 for exact draws")
    return figure


def _described(rows: list[dict[str, Any]]) -> str:
    parts = [f"{name} {median(found):.3g}" for name, found in _by_solver(rows).items()]
    return f"Plot of the distances of every solver; medians: {', '.join(parts)}"
