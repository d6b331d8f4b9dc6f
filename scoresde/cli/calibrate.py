"""`scoresde calibrate`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.options import Json, Scheduler, WorkerCount, restoration
from scoresde.cli.report_option import Report, check_report, typed_command, write_report
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions

__all__ = ["calibrate"]


@command(
    "scoresde calibrate photographs --problem denoise --sigma 0.1 --out cal.json",
    "scoresde restore photo.png --problem denoise --sigma 0.1 --calibration cal.json",
)
@partial(restoration, without=("array", "maps", "noise_scan", "select", "sigma_units"))
def calibrate(
    folder: Annotated[
        Path, typer.Argument(help="Folder of photographs like those to be restored.")
    ],
    *,
    problem_options: ProblemOptions,
    restore_options: RestoreOptions,
    count: Annotated[
        int,
        typer.Option(help="Pictures, drawn at random from the folder; all if it has fewer.", min=1),
    ] = 50,
    crop: Annotated[int, typer.Option(help="Side of their centre crops, in pixels.", min=1)] = 96,
    level: Annotated[
        list[float] | None,
        typer.Option(help="Nominal coverage to calibrate. Repeatable. [0.5, 0.68, 0.9, 0.95]"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="File to write, for `scoresde restore --calibration`.")
    ] = Path("out/calibration.json"),
    workers: WorkerCount = 1,
    scheduler: Scheduler = None,
    page: Report = None,
    as_json: Json = False,
) -> None:
    """Measure the coverage of a restoration's intervals on your photographs, and correct it."""
    from scoresde.pipelines.calibrate import CalibrateOptions
    from scoresde.pipelines.calibrate import calibrate as run
    from scoresde.pipelines.parsing import as_input_error
    from scoresde.pipelines.workers import Workers

    check_report(page)
    who = Workers(workers, scheduler)
    with as_input_error():
        how = CalibrateOptions(
            count, crop, **({"levels": tuple(level)} if level is not None else {})
        )
    with progress_bar("calibrating") as progress:
        report = run(folder, problem_options, restore_options, how, out, progress, who)
    if page is not None:
        from scoresde.pipelines.devices import choose_device
        from scoresde.reports import calibration_page, environment

        made = environment(choose_device(restore_options.device))
        write_report(calibration_page(report, typed_command(), made), page, silent=as_json)
    if as_json:
        print_json(report)
        return
    echo("level   scale   coverage before  after   mean width before  after")
    for row in report["levels"]:
        after = row["coverage_after"]
        shown = "      " if after is None else f"{after:6.1%}"
        echo(
            f"{row['level']:5.3g}  {row['scale']:6.3f}  {row['coverage_before']:15.1%}  {shown}  "
            f"{row['mean_width_before']:17.3f}  {row['mean_width_after']:5.3f}"
        )
    echo(
        f"from {report['pictures']} pictures of {crop}x{crop}; after: each picture by the scale of "
        f"all others; wrote {out}"
    )
