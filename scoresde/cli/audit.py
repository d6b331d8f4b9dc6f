"""`scoresde audit`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, print_table, progress_bar
from scoresde.cli.options import Json, Scheduler, WorkerCount, restoration
from scoresde.cli.report_option import Report, check_report, typed_command, write_report
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions

__all__ = ["audit"]

_FAILED = 1
"""Status of an audit that fails."""


@command(
    "scoresde audit --problem deblur --gaussian 2 --solver mmps --runs 50",
    "scoresde audit --problem denoise --prior mnist --sigma 0.5 --report audit.html",
)
@partial(restoration, without=("array", "maps", "noise_scan", "samples", "select", "sigma_units"))
def audit(
    *,
    problem_options: ProblemOptions,
    restore_options: RestoreOptions,
    runs: Annotated[
        int, typer.Option(help="Truths that are drawn, measured and restored.", min=20)
    ] = 100,
    draws: Annotated[
        int,
        typer.Option(
            help="Draws of each; one less than a multiple of 10 suits the histograms.", min=3
        ),
    ] = 19,
    out: Annotated[Path | None, typer.Option(help="File to write the report to, as JSON.")] = None,
    workers: WorkerCount = 1,
    scheduler: Scheduler = None,
    page: Report = None,
    as_json: Json = False,
) -> None:
    """Can a solver be trusted with this prior and this measurement? Simulation-based calibration.

    Draws of the prior are measured and restored. An exact solver fails with a probability of at
    most 5 %. Exit status 0 if it passes, 1 if it fails.
    """
    from scoresde.files import check_writable, write_json
    from scoresde.pipelines.audit import audit_named
    from scoresde.pipelines.devices import choose_device, open_prior
    from scoresde.pipelines.named_problems import check_used
    from scoresde.pipelines.workers import Workers

    check_report(page)
    who = Workers(workers, scheduler)
    check_used(problem_options)
    if out is not None:
        check_writable(out.parent)
    options = replace(restore_options, samples=draws)
    prior = open_prior(
        options.prior,
        choose_device(options.device),
        options.precision,
        options.average,
        recompute=True,
    )
    with progress_bar("auditing") as progress:
        report = audit_named(
            prior, problem_options, options, runs=runs, progress=progress, workers=who
        )
    if out is not None:
        write_json(report, out)
    if page is not None:
        from scoresde.reports import audit_page, environment

        write_report(
            audit_page(report, typed_command(), environment(prior.device)), page, silent=as_json
        )
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not report["passed"]:
        raise typer.Exit(_FAILED)


def _show(report: dict[str, Any]) -> None:
    print_table(
        ("test", "found", "expected", "p", ""), [_cells(report, row) for row in report["rows"]]
    )
    echo(
        f"{report['runs']} runs of {report['draws']} draws by {report['solver']} in "
        f"{report['seconds']:.1f} s; truths: {report['truths']}"
    )
    failed = [row["name"] for row in report["rows"] if row["rejected"]]
    if failed:
        echo(f"fails: {', '.join(failed)}")
    else:
        echo("passes: chance explains all differences (Holm, false alarms 5 %)")


def _cells(report: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Ranks show their histogram, other tests their number and what chance allows."""
    name = row["name"]
    if name.startswith("ranks: "):
        histogram = report["histograms"][name.removeprefix("ranks: ")]
        found, expected = " ".join(map(str, histogram)), f"{report['runs'] / len(histogram):.1f}"
    else:
        found, expected = f"{row['found']:.3f}", f"{row['expected']:.3g} ± {row['chance']:.3f}"
    return [name, found, expected, f"{row['p']:.2g}", "fails" if row["rejected"] else ""]
