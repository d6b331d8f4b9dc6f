"""The page of `scoresde verify`."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from scoresde.reports.figures import ACCENT, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page

__all__ = ["learned_verification_page", "verification_page"]

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
_NONE = "None of these solvers can do these problems."
_LAW = Column("law", "Law", "Law of the increments, whose sums are the signals.")
_MEASUREMENT = Column("problem", "Problem", "Measurement of the signals.")
_LEARNED_COLUMNS = (
    _LAW,
    _MEASUREMENT,
    Column("solver", "Solver", "Name of the posterior sampler; its denoiser is a network."),
    Column("gap", "Gap in dB", "Error of the posterior mean over the least one.", ".2f"),
    Column("coverage", "Covers 90", "Share of exact draws within its 90 % intervals.", ".3f"),
    Column(
        "distance",
        "Distance",
        "Sliced Wasserstein-2 distance to exact draws over that of two sets of exact draws; 1 is "
        "as good as exact.",
        ".3g",
    ),
    Column("warned", "Warned", "Share of the draws with a warning.", ".0%"),
    Column("r_hat", "R-hat", "Largest of the Gibbs chains that are the truth; 1 if mixed.", ".3f"),
    Column("nfe", "Evaluations", "Network evaluations for a draw.", ".0f"),
    Column("milliseconds", "ms", "Time of a draw in milliseconds.", ".2f"),
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
    title = "Solvers against exact posteriors"
    text = "Draws of each solver, compared with draws of the exact posterior."
    found, refused = _split(rows)
    sections = _sections(found, title, text, _COLUMNS) + _not_applicable(refused, _REFUSED)
    return table_page(TablePage(title, _lead(found), sections, command, environment, settings))


def learned_verification_page(
    rows: Sequence[dict[str, Any]],
    command: str,
    environment: dict[str, str],
    settings: dict[str, Any],
) -> str:
    """Make the page of a verification with learned denoisers.

    Args:
        rows: Rows of :func:`solvers.verification.levy.learned_table`.
        command: The command that made it.
        environment: Versions and device, by name.
        settings: Sizes of the comparison, by name.

    Returns:
        One self-contained HTML file.
    """
    title = "Solvers with learned denoisers"
    text = (
        "Draws of each solver, whose denoiser is a small network, compared with long Gibbs chains "
        "that have the exact law of the signals."
    )
    found, refused = _split(rows)
    if found:
        best, distances = next(iter(_by_solver(found).items()))
        lead = (
            f"Nearest to the exact posterior by its median: {best}, {median(distances):.3g} times "
            "the distance of exact draws. Networks and solvers err together here."
        )
    else:
        lead = _NONE
    sections = _sections(found, title, text, _LEARNED_COLUMNS)
    sections += _not_applicable(refused, (_LAW, _MEASUREMENT, *_REFUSED[1:]))
    return table_page(TablePage(title, lead, sections, command, environment, settings))


def _split(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows with scores, and rows of solvers that cannot do the problem."""
    found = [row | {"milliseconds": 1e3 * row["seconds"]} for row in rows if "refused" not in row]
    return found, [row for row in rows if "refused" in row]


def _sections(
    rows: list[dict[str, Any]], title: str, text: str, columns: Sequence[Column]
) -> list[Section]:
    if not rows:
        return []
    plot = Plot(
        "Distance of each solver",
        inline_svg(_distances(rows), _described(rows), "distances"),
        "One point for each problem; the dashed line is an exact solver. Points at the right are "
        "far from the posterior.",
    )
    return [Section(title, text, columns, rows, [plot])]


def _not_applicable(rows: list[dict[str, Any]], columns: Sequence[Column]) -> list[Section]:
    if not rows:
        return []
    text = "These solvers cannot do these problems, and say so."
    return [Section("Not applicable", text, columns, rows)]


def _by_solver(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Distances of each solver, the nearest solver first."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["solver"], []).append(row["distance"])
    return dict(sorted(found.items(), key=lambda item: median(item[1])))


def _lead(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return _NONE
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
