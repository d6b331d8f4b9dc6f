"""`scoresde restore`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.options import Json, restoration
from scoresde.pipelines.settings import IntervalOptions, ProblemOptions, RestoreOptions

__all__ = ["restore"]


@command(
    "scoresde restore photo.png --problem denoise --sigma 0.1",
    "scoresde restore photo.png --problem inpaint --mask mask.png --effort quick",
    "scoresde restore photo.png --problem deblur --motion 15,30 --simulate --json",
)
@restoration
def restore(
    image: Annotated[
        Path,
        typer.Argument(
            help="The photograph, in any format that Pillow reads, or a TIFF of any sample type; "
            "or an array (C, ...) as .npy, .npz or .mat."
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
            say=lambda line: echo(line, err=True),
        ).report
    if as_json:
        print_json(report)
        return
    for line in _read_lines(report):
        echo(line)
    for name in ("measurement", "draw", "mean"):
        if name in report:
            found = report[name]
            echo(f"{name:12s} {found['psnr']:6.2f} dB  SSIM {found['ssim']:.3f}")
    if "interval" in report:
        echo(_interval_line(report["interval"]))
    for line in _residual_lines(report["residual"]):
        echo(line)
    echo(
        f"{report['samples']} draws by {report['solver']} in {report['seconds']:.1f} s "
        f"({report['nfe']} network evaluations per draw); wrote {out}/: "
        f"{', '.join(report['files'])}"
    )


def _read_lines(report: dict[str, Any]) -> list[str]:
    """How the file was understood."""
    read = report["read"]
    low, high = read["range"]
    lines = [f"read         {read['kind']}, {low:g} to {high:g} ({read['range_rule']})"]
    lines += [f"note         {note}" for note in read["notes"]]
    if "missing" in report:
        lines.append(f"mask         {report['missing']:.1%} of the pixels are missing")
    if not report["sigma_given"] and report["sigma"] is not None:
        lines.append(f"noise        {report['sigma']:g} on [-1, 1], assumed: --sigma was not given")
    return lines


def _residual_lines(residual: dict[str, Any]) -> list[str]:
    """Whether the draws explain the measurement."""
    lines = []
    if residual["ratio"] is not None:
        lines.append(
            f"residual     {residual['ratio']:.2g} times what the noise makes (1 if all is right)"
        )
    return lines + [f"warning      {one['message']}" for one in residual["warnings"]]


def _interval_line(interval: dict[str, Any]) -> str:
    kind = "calibrated" if interval["calibrated"] else "raw Gaussian"
    line = (
        f"intervals    {interval['level']:.0%}, {kind}, mean width {interval['mean_width']:.3f} "
        "on [-1, 1]"
    )
    if "coverage" in interval:
        line += f", hold the truth in {interval['coverage']:.1%} of the pixels"
    return line + (f"\nwarning      {interval['warning']}" if "warning" in interval else "")
