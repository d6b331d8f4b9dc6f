"""`scoresde verify`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.names import completed
from scoresde.cli.options import Json, Scheduler, WorkerCount
from scoresde.cli.report_option import Report, check_report, typed_command, write_report
from scoresde.errors import InputError

__all__ = ["verify"]

_FORMAT = "scoresde.verify-report/1"


@command(
    "scoresde verify",
    "scoresde verify --solver mmps --problem gaussian --report verify.html",
)
def verify(
    solver: Annotated[
        list[str] | None,
        typer.Option(
            help="Solver of the table. Repeatable. [all]",
            autocompletion=completed("verified solvers"),
        ),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            help="Exact problem; with --learned identity, convolution, sampling or fourier. "
            "Repeatable. [nine; with --learned convolution and sampling; with --full all]",
            autocompletion=completed("exact problems", "measurements"),
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Draws for each measurement. [200; with --learned 50]", min=10, max=100_000
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Measurements of each problem. [1; with --learned 2]", min=1)
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="All problems, up to 800 dimensions; memory; simulation-based calibration on "
            "some. With --learned all laws, problems and solvers.",
        ),
    ] = False,
    learned: Annotated[
        bool,
        typer.Option(
            "--learned",
            help="Small networks for signals, sums of independent increments, in place of exact "
            "denoisers; long Gibbs chains are the truth. [five solvers; with --full all]",
        ),
    ] = False,
    law: Annotated[
        list[str] | None,
        typer.Option(
            help="With --learned: laplace, student or bernoulli-laplace. Repeatable. [laplace and "
            "bernoulli-laplace; with --full all]",
            autocompletion=completed("laws"),
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Parallel processes, without Dask. [one per processor]", min=1),
    ] = None,
    workers: WorkerCount = 1,
    scheduler: Scheduler = None,
    page: Report = None,
    as_json: Json = False,
) -> None:
    """Compare solvers with posteriors that are known, from exact or learned denoisers."""
    from problems.checks import check_choice
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.pipelines.workers import Workers
    from solvers.verification import (
        EXACT_PROBLEMS,
        FULL_PROBLEMS,
        VERIFIED,
        processors,
        table,
        table_row,
    )

    check_report(page)
    who = Workers(workers, scheduler)
    if not who.alone and (learned or jobs is not None):
        raise InputError(
            "--workers and --scheduler take the place of --jobs, and --learned runs in one process"
        )
    if learned and jobs is not None:
        raise InputError("--learned runs in one process; leave out --jobs")
    if learned:
        _verify_learned(law, problem, solver, draws, seeds, full, page, as_json)
        return
    if law:
        raise InputError("--law needs --learned")
    draws, seeds = draws or 200, seeds or 1
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
        echo(
            f"{'problem':15s}{'solver':17s}{'  '.join(_VERDICT)}      VJPs  ms/draw"
            + ("  kB/draw    SBC p" if full else "")
        )
    with progress_bar("verifying") as progress:
        judged = (
            table(pairs, draws=draws, seeds=seeds, jobs=jobs or processors(), full=full)
            if who.alone
            else who.map(partial(table_row, draws=draws, seeds=seeds, full=full), pairs)
        )
        for row in judged:
            rows.append(row)
            if progress:
                progress(len(rows) / len(pairs))
            if not as_json:
                echo(_verdict_line(row))
    if page is not None:
        import torch

        from scoresde.reports import environment, verification_page

        settings = {"draws": draws, "measurements of each problem": seeds}
        made = environment(torch.device("cpu"))
        write_report(verification_page(rows, typed_command(), made, settings), page, silent=as_json)
    if as_json:
        print_json({"format": _FORMAT, "rows": rows})


def _verify_learned(
    laws: list[str] | None,
    problems: list[str] | None,
    solvers: list[str] | None,
    draws: int | None,
    seeds: int | None,
    full: bool,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare solvers with networks for signals with long Gibbs chains."""
    from problems.checks import check_choice
    from scoresde.pipelines.parsing import as_input_error
    from solvers import SOLVERS
    from solvers.verification.levy import (
        LEARNED,
        MEASUREMENTS,
        QUICK_SOLVERS,
        LearnedSettings,
        learned_table,
    )

    laws = laws or (list(LEARNED) if full else ["laplace", "bernoulli-laplace"])
    problems = problems or (list(MEASUREMENTS) if full else ["convolution", "sampling"])
    solvers = solvers or list(SOLVERS if full else QUICK_SOLVERS)
    with as_input_error():  # before the first line is printed
        for what, given, known in (
            ("law of increments with a network", laws, LEARNED),
            ("measurement", problems, MEASUREMENTS),
            ("solver", solvers, SOLVERS),
        ):
            for name in given:
                check_choice(what, name, known)
    total = len(laws) * len(problems) * len(solvers)
    rows: list[dict[str, Any]] = []
    if not as_json:
        echo(
            f"{'law':18s}{'problem':13s}{'solver':17s}gap dB  cover90  SW2/floor   NFE  ms/draw  "
            "warned"
        )
    with as_input_error(), progress_bar("verifying") as progress:
        draws = draws or 50
        settings = LearnedSettings(seeds or 2, draws, max(1000, 2 * draws))
        for row in learned_table(laws, problems, solvers, settings):
            rows.append(row)
            if progress:
                progress(len(rows) / total)
            if not as_json:
                echo(_learned_line(row))
    if page is not None:
        import torch

        from scoresde.reports import environment, learned_verification_page

        sizes = {"draws": settings.draws, "measurements": settings.measurements}
        sizes |= {"sweeps of the Gibbs chains": settings.sweeps}
        made = environment(torch.device("cpu"))
        html = learned_verification_page(rows, typed_command(), made, sizes)
        write_report(html, page, silent=as_json)
    if as_json:
        print_json({"format": _FORMAT, "rows": rows})


def _learned_line(row: dict[str, Any]) -> str:
    start = f"{row['law']:18s}{row['problem']:13s}{row['solver']:17s}"
    if "refused" in row:
        return f"{start}cannot: {row['refused']}"
    return (
        f"{start}{row['gap']:6.2f}  {row['coverage']:7.3f}  {row['distance']:9.2f}  "
        f"{row['nfe']:4.0f}  {1e3 * row['seconds']:7.2f}  {row['warned']:6.0%}"
    )


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
