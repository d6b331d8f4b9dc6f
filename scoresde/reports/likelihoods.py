"""The page of `scoresde likelihood`."""

from typing import Any

from scoresde.reports.figures import ACCENT, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page

__all__ = ["likelihood_page"]

_COLUMNS = (
    Column("image", "Picture", "Name of the file, or number in the data set."),
    Column(
        "bits",
        "Bits per dimension",
        "−log₂ p over the number of values: bits that an ideal coder spends on one value of the "
        "picture; 8 for noise.",
        ".4f",
    ),
    Column("error", "Standard error", "Of the number beside it, from the random probes.", ".4f"),
)


def likelihood_page(report: dict[str, Any], command: str, environment: dict[str, str]) -> str:
    """Make the page of likelihoods.

    Args:
        report: Report of the command: "images", "bits_per_dim", "std_error", their means, and
            the settings.
        command: The command that made it.
        environment: Versions and device, by name.

    Returns:
        One self-contained HTML file.
    """
    rows = [
        {"image": str(name), "bits": bits, "error": error}
        for name, bits, error in zip(
            report["images"], report["bits_per_dim"], report["std_error"], strict=True
        )
    ]
    plots = []
    if len(rows) > 1:
        low, high = min(report["bits_per_dim"]), max(report["bits_per_dim"])
        plots.append(
            Plot(
                "Pictures in order of their likelihood",
                inline_svg(
                    _sorted(rows),
                    f"Plot of {len(rows)} pictures, from {low:.3f} to {high:.3f} bits per "
                    "dimension",
                    "likelihoods",
                ),
                "The lower, the more likely under the prior; bars are two standard errors.",
            )
        )
    dropped = ("images", "bits_per_dim", "std_error")
    page = TablePage(
        "Likelihood of pictures",
        _lead(report, len(rows)),
        [Section("Pictures", "Bits per dimension of each.", _COLUMNS, rows, plots)],
        command,
        environment,
        {k: v for k, v in report.items() if k not in dropped},
    )
    return table_page(page)


def _lead(report: dict[str, Any], count: int) -> str:
    name = report["prior"]
    if count == 1:
        value, error = report["bits_per_dim"][0], report["std_error"][0]
        return f"{value:.4f} ± {error:.4f} bits per dimension under the prior {name}."
    return (
        f"{report['mean']:.4f} ± {report['mean_std_error']:.4f} bits per dimension under the prior "
        f"{name}, the mean of {count} pictures with its standard error."
    )


def _sorted(rows: list[dict[str, Any]]) -> Any:
    found = sorted(rows, key=lambda row: row["bits"])
    figure = new_figure(6.8, 3.6)
    axes = figure.axes[0]
    axes.errorbar(
        range(1, len(found) + 1),
        [row["bits"] for row in found],
        yerr=[2 * row["error"] for row in found],
        fmt="o",
        color=ACCENT,
        markersize=3.5,
        elinewidth=1,
    )
    axes.set(xlabel="picture, in order", ylabel="bits per dimension")
    return figure
