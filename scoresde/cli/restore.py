"""`scoresde restore`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import app
from scoresde.cli.console import print_json, progress_bar
from scoresde.cli.options import Json, restoration
from scoresde.pipelines.settings import IntervalOptions, ProblemOptions, RestoreOptions

__all__ = ["restore"]


@app.command()
@restoration
def restore(
    image: Annotated[
        Path,
        typer.Argument(
            help="The photograph, in any format that Pillow reads; or a measurement (C, ...) as "
            ".npy."
        ),
    ],
    *,
    problem_options: ProblemOptions,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The picture is the truth; measure it first.")
    ] = False,
    restore_options: RestoreOptions,
    calibration: Annotated[
        Path | None,
        typer.Option(help="File of `scoresde calibrate`; reports calibrated intervals."),
    ] = None,
    level: Annotated[float, typer.Option(help="Nominal coverage of the intervals.")] = 0.9,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and report.json.")] = Path(
        "out/restore"
    ),
    as_json: Json = False,
) -> None:
    """Restore a photograph: posterior draws, their mean, and a map of the uncertainty."""
    from scoresde.pipelines.restore import restore as run

    interval = IntervalOptions(level, calibration)
    with progress_bar("restoring") as progress:
        report = run(
            image,
            problem_options,
            restore_options,
            out,
            simulate=simulate,
            interval=interval,
            progress=progress,
        ).report
    if as_json:
        print_json(report)
        return
    for name in ("measurement", "draw", "mean"):
        if name in report:
            found = report[name]
            typer.echo(f"{name:12s} {found['psnr']:6.2f} dB  SSIM {found['ssim']:.3f}")
    if "interval" in report:
        typer.echo(_interval_line(report["interval"]))
    typer.echo(
        f"{report['samples']} draws by {report['solver']} in {report['seconds']:.1f} s "
        f"({report['nfe']} network evaluations per draw); wrote {out}/: "
        f"{', '.join(report['files'])}"
    )


def _interval_line(interval: dict[str, Any]) -> str:
    kind = "calibrated" if interval["calibrated"] else "raw Gaussian"
    line = (
        f"intervals    {interval['level']:.0%}, {kind}, mean width {interval['mean_width']:.3f} "
        "on [-1, 1]"
    )
    if "coverage" in interval:
        line += f", hold the truth in {interval['coverage']:.1%} of the pixels"
    return line + (f"\nwarning      {interval['warning']}" if "warning" in interval else "")
