"""`scoresde verify`."""

from typing import Annotated, Any

import typer

from scoresde.cli.app import app
from scoresde.cli.console import print_json, progress_bar
from scoresde.cli.options import Json

__all__ = ["verify"]


@app.command()
def verify(
    solver: Annotated[
        list[str] | None, typer.Option(help="Solver of the table. Repeatable. [all]")
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(help="Exact problem. Repeatable. [nine; with --full all]"),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Draws for each measurement.", min=10, max=100_000)
    ] = 200,
    seeds: Annotated[int, typer.Option(help="Measurements of each problem.", min=1)] = 1,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="All problems, up to 800 dimensions; memory; simulation-based calibration on "
            "some.",
        ),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Parallel processes. [one per processor]", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare solvers with posteriors whose exact distribution is known."""
    from problems.checks import check_choice
    from scoresde.pipelines.parsing import as_input_error
    from solvers.verification import (
        EXACT_PROBLEMS,
        FULL_PROBLEMS,
        VERIFIED,
        processors,
        table,
    )

    every = EXACT_PROBLEMS | FULL_PROBLEMS
    with as_input_error():
        for name in solver or ():
            check_choice("solver", name, VERIFIED)
        for name in problem or ():
            check_choice("exact problem", name, every)
    cases = problem or list(every if full else EXACT_PROBLEMS)
    pairs = [(name, case) for case in cases for name in solver or VERIFIED]
    rows: list[dict[str, Any]] = []
    if not as_json:
        typer.echo(
            f"{'problem':15s}{'solver':17s}{'  '.join(_VERDICT)}      VJPs  ms/draw"
            + ("  kB/draw    SBC p" if full else "")
        )
    with progress_bar("verifying") as progress:
        for row in table(pairs, draws=draws, seeds=seeds, jobs=jobs or processors(), full=full):
            rows.append(row)
            if progress:
                progress(len(rows) / len(pairs))
            if not as_json:
                typer.echo(_verdict_line(row))
    if as_json:
        print_json(rows)


_VERDICT = {
    "distance": ("distance", ".4g"),
    "scatter": ("floor_scatter", ".2f"),
    "  mean": ("mean", ".3g"),
    "   cov": ("cov", ".3g"),
    "modes": ("modes", ".3f"),
    "cover50": ("cover50", ".3f"),
    "cover90": ("cover90", ".3f"),
    "cover95": ("cover95", ".3f"),
    "  seen": ("seen", ".2f"),
    "unseen": ("unseen", ".2f"),
    " NFE": ("nfe", ".0f"),
}


def _verdict_line(row: dict[str, Any]) -> str:
    start = f"{row['problem']:15s}{row['solver']:17s}"
    if "refused" in row:
        return f"{start}cannot: {row['refused']}"
    cells = []
    for title, (key, kind) in _VERDICT.items():
        cells.append(f"{row[key]:>{len(title)}{kind if row[key] < 1e4 else '.0e'}}")
    line = start + "  ".join(cells) + f"  {row['vjps']:8.0f}  {1e3 * row['seconds']:7.2f}"
    if "sbc" in row:
        line += f"  {row['memory'] / 1024:7.1f}"
        line += f"  {row['sbc']['p_all']:7.2g}" if row["sbc"] else ""
    return line
